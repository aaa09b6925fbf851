"""Test the report over a results folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_claude_batch.report import main
from airflow_claude_batch.web.gather import gather

ROWS = [
    {"index": 0, "key": "a", "status": "succeeded", "model": "claude-opus-5-5", "stop_reason": "end_turn",
     "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 3}, "cost_usd": "0.25"},
    {"index": 1, "key": "<b>", "status": "errored", "error": {"type": "invalid_request_error", "message": "<i>no</i>"}},
]  # fmt: skip


def submission(folder: Path, *, created: str, usd: str = "0.25") -> None:
    folder.mkdir(parents=True)
    rows = [{**ROWS[0], "cost_usd": usd}, ROWS[1]]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = {
        "submission_id": "s",
        "status": "ended",
        "batch_ids": ["msgbatch_1"],
        "request_count": 2,
        "counts": {"succeeded": 1, "errored": 1},
        "results_path": str(folder / "results.jsonl"),
        "cost": {"usd": usd, "estimated_usd": "0.30", "without_batch_usd": "3", "without_cache_usd": None},
        "by_model": {
            "claude-opus-5-5": {
                "counts": {"succeeded": 1, "errored": 1},
                "usage": {"input_tokens": 1_234, "output_tokens": 5, "cache_read_input_tokens": 3},
                "usd": usd,
            }
        },
        "created_at": created,
        "ended_at": created.replace("T10:", "T11:"),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    submission(tmp_path / "dag" / "run_2" / "send", created="2026-11-22T10:00:00Z", usd="1.50")
    submission(tmp_path / "dag" / "run_1" / "send", created="2026-11-21T10:00:00Z")
    return tmp_path


def test_submissions_are_found_below_a_folder_oldest_first(root: Path) -> None:
    found = gather(str(root))

    assert [one.name for one in found] == ["dag/run_1/send", "dag/run_2/send"]
    assert [str(one.usd) for one in found] == ["0.25", "1.50"]
    assert [one.failed for one in found] == [1, 1]


def test_the_page_sums_up_submissions_and_escapes_their_texts(root: Path, tmp_path: Path) -> None:
    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>2</b>submissions" in page
    assert "<b>4</b>requests" in page
    assert "<b>$1.75</b>billed" in page
    assert "<b>$0.60</b>estimated before sending" in page
    assert "<b>$6.00</b>without the batch discount" in page
    assert "<b>≥ $0.00</b>without the prompt cache" in page
    assert '<td>claude-opus-5-5</td><td class="n">4</td><td class="n">2,468</td>' in page
    assert (
        '<td class="word">errored</td><td>invalid_request_error: &lt;i&gt;no&lt;/i&gt;</td><td class="n">2</td>' in page
    )
    assert "&lt;b&gt;" in page
    assert "<i>no</i>" not in page
    assert "http" not in page.replace(str(root), "")


def test_the_folder_of_a_single_submission_makes_a_page(root: Path, tmp_path: Path) -> None:
    assert main([str(root / "dag" / "run_1" / "send"), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>1</b>submission<" in page
    assert "<td>send</td>" in page


def test_an_unknown_cost_is_left_out_of_sums_and_mentioned(root: Path, tmp_path: Path) -> None:
    path = root / "dag" / "run_1" / "send" / "manifest.json"
    manifest = json.loads(path.read_text())
    parts = manifest["by_model"]
    parts["claude-novella-7"] = {"counts": {"succeeded": 1}, "usage": {"output_tokens": 7}, "usd": None}
    path.write_text(json.dumps(manifest))

    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>≥ $1.75</b>billed" in page
    assert "No price is known for claude-novella-7" in page
    assert '<td>claude-novella-7</td><td class="n">1</td>' in page


def test_requests_in_progress_are_not_counted_as_failures(root: Path, tmp_path: Path) -> None:
    path = root / "dag" / "run_1" / "send" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"status": "in_progress", "counts": {"missing": 2}, "by_model": {}, "ended_at": None}
    path.write_text(json.dumps(manifest))
    (path.parent / "results.jsonl").unlink()

    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "2 on their way" in page
    assert "missing" not in page
    assert "not ended" in page


def test_a_damaged_manifest_is_left_out_and_named_in_the_log(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "dag" / "run_1" / "send" / "manifest.json").write_text("{")

    assert len(gather(str(root))) == 1
    assert "run_1" in caplog.text


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "no manifest.json" in capsys.readouterr().err


def test_a_folder_that_no_provider_serves_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nowhere://bucket/folder", "-o", str(tmp_path / "page.html")]) == 1
    assert "nowhere://bucket/folder" in capsys.readouterr().err


def test_names_of_folders_and_models_are_escaped(tmp_path: Path) -> None:
    root = tmp_path / "<u>root" / "a&b"
    submission(root / "<s>dag" / "run" / "send", created="2026-11-21T10:00:00Z")
    path = root / "<s>dag" / "run" / "send" / "manifest.json"
    path.write_text(path.read_text().replace("claude-opus-5-5", "<script>model"))

    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "&lt;u&gt;root/a&amp;b" in page
    assert page.count("&lt;s&gt;dag/run/send") == 3  # the slowest, the submissions, the failed rows
    assert "&lt;script&gt;model" in page
    assert not any(tag in page for tag in ("<u>", "<s>", "<script>"))
