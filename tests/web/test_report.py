"""Test the report over a results folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from airflow.sdk.io import attach
from stores import Store

from airflow_claude_batch.batch.land.place import Place, id_of_names
from airflow_claude_batch.report import main
from airflow_claude_batch.web import failed_rows
from airflow_claude_batch.web.gather import gather
from airflow_claude_batch.web.groups import by_dag, by_task
from airflow_claude_batch.web.plots import spending_columns
from airflow_claude_batch.web.report_page import render

NOW = datetime(2026, 11, 24, tzinfo=UTC)
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


def report(root: Path, tmp_path: Path) -> str:
    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0
    return (tmp_path / "page.html").read_text()


def test_submissions_are_found_below_a_folder_oldest_first(root: Path) -> None:
    found = gather(str(root))

    assert [one.name for one in found] == ["dag/run_1/send", "dag/run_2/send"]
    assert [str(one.usd) for one in found] == ["0.25", "1.50"]
    assert [one.failed for one in found] == [1, 1]


def test_the_page_sums_up_submissions_and_escapes_their_texts(root: Path, tmp_path: Path) -> None:
    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>2</b><span>submissions</span>" in page
    assert "<b>4</b><span>requests</span>" in page
    assert "<b>$1.75</b><span>billed</span>" in page
    assert "<b>$0.60</b><span>estimated before sending</span>" in page
    assert "<b>$6.00</b><span>without the batch discount</span>" in page
    assert "<b>≥ $0.00</b><span>without the prompt cache</span>" in page
    assert '<td>claude-opus-5-5</td><td class="n less">4</td><td class="n">2,468</td>' in page
    assert 'errored</span></td><td>invalid_request_error: &lt;i&gt;no&lt;/i&gt;</td><td class="n">2</td>' in page
    assert "&lt;b&gt;" in page
    assert "<i>no</i>" not in page
    assert "http" not in page.replace(str(root), ""), "the page loads nothing"


def test_the_folder_of_a_single_submission_makes_a_page(root: Path, tmp_path: Path) -> None:
    assert main([str(root / "dag" / "run_1" / "send"), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>1</b><span>submission<" in page
    assert "<td>send<td>" in page


def test_an_unknown_cost_is_left_out_of_sums_and_mentioned(root: Path, tmp_path: Path) -> None:
    path = root / "dag" / "run_1" / "send" / "manifest.json"
    manifest = json.loads(path.read_text())
    parts = manifest["by_model"]
    parts["claude-novella-7"] = {"counts": {"succeeded": 1}, "usage": {"output_tokens": 7}, "usd": None}
    path.write_text(json.dumps(manifest))

    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "<b>≥ $1.75</b><span>billed</span>" in page
    assert "No price is known for claude-novella-7" in page
    assert '<td>claude-novella-7</td><td class="n less">1</td>' in page


def test_requests_in_progress_are_not_counted_as_failures(root: Path, tmp_path: Path) -> None:
    path = root / "dag" / "run_1" / "send" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest |= {"status": "in_progress", "counts": {"missing": 2}, "by_model": {}, "ended_at": None}
    path.write_text(json.dumps(manifest))
    (path.parent / "results.jsonl").unlink()

    assert main([str(root), "-o", str(tmp_path / "page.html")]) == 0

    page = (tmp_path / "page.html").read_text()
    assert "2 on their way" in page
    assert "missing</span>" not in page
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
    assert page.count("&lt;s&gt;dag/run/send") == 3  # the failed rows, the slowest, the submissions
    assert "&lt;script&gt;model" in page
    assert not any(tag in page for tag in ("<u>", "<s>", "<script>"))


def test_reused_answers_are_counted_with_what_they_cost_first(root: Path, tmp_path: Path) -> None:
    submission(tmp_path / "dag" / "run_3" / "send", created="2026-11-23T10:00:00Z", usd="0")
    path = tmp_path / "dag" / "run_3" / "send" / "manifest.json"
    manifest = json.loads(path.read_text())
    changes = {"batch_ids": [], "created_at": None, "reused": {"requests": 1, "first_usd": "0.25"}}
    path.write_text(json.dumps({**manifest, **changes}))

    assert main([str(root), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<b>1</b><span>reused answer<" in page
    assert "<b>$0.25</b><span>paid for these before<" in page
    assert "2026-11-23" not in page, "what sent nothing has no day"


def test_a_report_over_a_disk_needs_no_airflow(root: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from airflow_claude_batch.report import main; main(sys.argv[1:]); print('airflow' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(root), "-o", str(tmp_path / "page.html")],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip

    assert ran.stdout.splitlines()[-1] == "False"


def test_what_failed_comes_first_and_an_unreadable_folder_before_the_sums(root: Path, tmp_path: Path) -> None:
    (root / "dag" / "run_3").mkdir()
    (root / "dag" / "run_3" / "manifest.json").write_text("{")

    headings = re.findall(r"<h2>(.*?)</h2>", report(root, tmp_path))

    assert headings == [
        "Rows without an answer", "Not in this report", "Outcomes", "Tokens and cost by model", "By DAG", "By task",
        "Cost by day of submission, UTC", "Slowest, from submit to end", "Submissions, the newest first",
    ]  # fmt: skip


def test_submissions_are_summed_by_dag_and_by_task_those_with_failures_first(tmp_path: Path) -> None:
    root = tmp_path / "results"
    for folder, errored in {"dear/run/send": 0, "failing/run/send": 1, "dear/run/ask/3": 0}.items():
        submission(root / folder, created="2026-11-21T10:00:00Z", usd="0.25" if errored else "5")
        path = root / folder / "manifest.json"
        changes = {"counts": {"succeeded": 2 - errored, "errored": errored}}
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    found = gather(str(root))

    assert [(one.names, one.submissions, one.requests, one.failed, str(one.billed.usd)) for one in by_dag(found)] == [
        (("failing",), 1, 2, 1, "0.25"), (("dear",), 2, 4, 0, "10"),
    ]  # fmt: skip
    assert [one.names for one in by_task(found)] == [("failing", "send"), ("dear", "ask"), ("dear", "send")]
    assert by_dag(found)[0].usual == timedelta(hours=1)


def test_names_of_the_task_come_from_the_id_when_the_folder_is_below_the_results_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a%2Fb" / "run" / "send" / "7"
    submission(folder, created="2026-11-21T10:00:00Z")
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"s"', f'"{id_of_names("a/b", "run", "send", "7")}"'))

    (found,) = gather(str(folder))

    assert found.place == Place("a/b", "run", "send", 7)


def test_long_tables_are_folded(tmp_path: Path) -> None:
    for number in range(105):
        submission(tmp_path / f"dag_{number}" / "run" / "send", created="2026-11-21T10:00:00Z")

    page = report(tmp_path, tmp_path)

    folded = re.findall(r"<summary>(\d+ more \w+)</summary>", page)
    assert folded == ["85 more submissions", "85 more DAGs", "85 more tasks", "5 more submissions"]


def test_long_keys_and_reasons_are_cut(root: Path, tmp_path: Path) -> None:
    row = {"index": 1, "key": "k" * 9_999, "status": "errored", "error": {"type": "e", "message": "why " * 9_999}}
    (root / "dag" / "run_1" / "send" / "results.jsonl").write_text(json.dumps(row) + "\n")

    page = report(root, tmp_path)

    assert len(page) < 30_000
    assert f"<td>{'k' * 99}…</td>" in page


def test_rows_are_read_of_the_newest_submissions_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_rows, "MAX_LISTED_SUBMISSIONS", 2)
    for day in (21, 22, 23):
        submission(tmp_path / "dag" / f"run_{day}" / "send", created=f"2026-11-{day}T10:00:00Z")

    found = gather(str(tmp_path))

    assert [len(one.failures) for one in found] == [0, 1, 1]
    assert "Of 3, these are listed" in " ".join(render(found, root="/", now=NOW).split())


def test_failed_rows_far_down_in_a_file_are_not_looked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed_rows, "MAX_ROWS_OF_ONE", 3)
    lines = [json.dumps(ROWS[0])] * 3 + [json.dumps(ROWS[1])]
    (root / "dag" / "run_1" / "send" / "results.jsonl").write_text("\n".join(lines))

    assert [len(one.failures) for one in gather(str(root))] == [0, 1]


def test_no_more_files_are_opened_once_enough_rows_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed_rows, "MAX_ROWS", 4)
    monkeypatch.setattr(failed_rows, "READERS", 1)
    for day in (21, 22, 23):
        submission(tmp_path / "dag" / f"run_{day}" / "send", created=f"2026-11-{day}T10:00:00Z")

    assert [len(one.failures) for one in gather(str(tmp_path))] == [0, 1, 1]


def test_report_over_an_object_store_has_the_same_submissions(root: Path) -> None:
    store = Store()
    for path in root.rglob("*.json*"):
        store.pipe_file(f"bucket/{path.relative_to(root)}", path.read_bytes())
    attach("s3", conn_id="reported", fs=store)

    found = gather("s3://reported@bucket")

    assert [one.name for one in found] == ["dag/run_1/send", "dag/run_2/send"]
    assert [[row.key for row in one.failures] for one in found] == [["<b>"], ["<b>"]]


def test_many_days_are_shown_as_months_and_days_between_have_a_column() -> None:
    near = spending_columns({"2026-11-01": Decimal(1), "2026-11-03": Decimal(4), "unknown": Decimal(9)})
    far = spending_columns({"2024-11-01": Decimal(1), "2024-11-03": Decimal(4), "2026-11-03": Decimal(10)})

    assert [(one.name, one.height) for one in near.columns] == [
        ("2026-11-01", 25), ("2026-11-02", 0), ("2026-11-03", 100),
    ]  # fmt: skip
    assert (far.unit, [one.name for one in far.columns]) == ("month", ["2024-11", "2026-11"])
    assert spending_columns({"unknown": Decimal(9)}).columns == []


def test_report_splits_the_cost_by_way(root: Path, tmp_path: Path) -> None:
    submission(tmp_path / "dag" / "run_3" / "send", created="2026-11-23T10:00:00Z", usd="0.75")
    path = tmp_path / "dag" / "run_3" / "send" / "manifest.json"
    direct = {"answers": 2, "usd": "0.5", "batch_usd": "0.25", "unseen": 0}
    path.write_text(json.dumps({**json.loads(path.read_text()), "direct": direct}))

    assert main([str(root), "--out", str(tmp_path / "report.html")]) == 0
    page = (tmp_path / "report.html").read_text()
    assert "<b>2</b><span>answers asked directly<" in page
    assert "<b>$0.50</b><span>of the cost, for these at full price<" in page
