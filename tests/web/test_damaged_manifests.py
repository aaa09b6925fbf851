"""The report over manifests that are damaged, forged or no files: each is a line of the page, and the others count."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.report import main

MANIFEST: dict[str, Any] = {
    "submission_id": "s",
    "status": "ended",
    "batch_ids": ["msgbatch_1"],
    "request_count": 2,
    "counts": {"succeeded": 1, "errored": 1},
    "results_path": "/elsewhere/results.jsonl",
    "stop_reasons": {"end_turn": 1},
    "landed_batch_ids": ["msgbatch_1"],
    "usage": {"input_tokens": 10},
    "cost": {"usd": "0.25", "estimated_usd": "0.30", "without_batch_usd": "3", "unpriced_models": []},
    "by_model": {
        "claude-opus-5-5": {
            "counts": {"succeeded": 1, "errored": 1},
            "usage": {"input_tokens": 1_234, "output_tokens": 5, "cache_read_input_tokens": 3},
            "usd": "0.25",
        }
    },
    "created_at": "2026-11-21T10:00:00Z",
    "ended_at": "2026-11-21T11:00:00Z",
    "schema_version": 1,
}
ROWS = [
    {"index": 0, "key": "a", "status": "succeeded", "model": "claude-opus-5-5"},
    {"index": 1, "key": "<b>", "status": "errored", "error": {"type": "invalid_request_error", "message": "no"}},
]


def write(folder: Path, manifest: bytes | str | dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    data = json.dumps(manifest) if isinstance(manifest, dict) else manifest
    (folder / "manifest.json").write_bytes(data if isinstance(data, bytes) else data.encode())


def changed(**fields: Any) -> dict[str, Any]:
    return MANIFEST | fields


def with_part(**fields: Any) -> dict[str, Any]:
    part = MANIFEST["by_model"]["claude-opus-5-5"] | fields
    return changed(by_model={"claude-opus-5-5": {name: value for name, value in part.items() if value != "absent"}})


def page(root: Path) -> str:
    output = root.parent / "page.html"
    assert main([str(root), "-o", str(output)]) == 0
    return output.read_text(encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A results folder with one good submission."""
    write(tmp_path / "results" / "dag" / "good" / "send", MANIFEST)
    return tmp_path / "results"


def assert_listed(root: Path, reason: str = "") -> None:
    """Assert that the page has the good submission, and a line for the bad one."""
    text = page(root)
    assert "<b>1</b><span>submission<" in text
    assert "<b>$0.25</b><span>billed" in text
    assert "<h2>Not in this report</h2>" in text
    assert f"<td>dag/bad/send</td><td>Its manifest.json cannot be read: {reason}" in text


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        pytest.param(b"", "Input data was truncated.", id="empty"),
        pytest.param(b'{"submission_id": "s"', "Input data was truncated.", id="cut"),
        pytest.param(b"<html>", "JSON is malformed", id="not JSON"),
        pytest.param(b"null", "Expected `object`, got `null`.", id="null"),
        pytest.param(b"[]", "Expected `object`, got `array`.", id="list"),
        pytest.param(b"{}", "Object missing required field", id="no fields"),
        pytest.param(b"[" * 200_000, "", id="deep"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(MANIFEST).encode(), "JSON is malformed", id="byte order mark"),
        pytest.param(json.dumps(changed(status="x")).replace('"x"', '"\xff"').encode("latin-1"), "", id="not UTF-8"),
        pytest.param(json.dumps(changed(status="\ud800")), "", id="half an emoji"),
        pytest.param(json.dumps(changed(request_count=float("nan"))), "JSON is malformed", id="NaN"),
        pytest.param(b" " * 17_000_000, "it has more than 16,777,216 bytes.", id="too large"),
        pytest.param(changed(request_count=-1), "Expected `int` &gt;= 0", id="negative number"),
        pytest.param(changed(request_count=10**30), "", id="huge number"),
        pytest.param(changed(request_count=2.5), "Expected `int`, got `float`", id="half a request"),
        pytest.param(changed(counts={"succeeded": -1, "errored": 3}), "Expected `int` &gt;= 0", id="negative count"),
        pytest.param(changed(counts={"succeeded": 10**30}), "", id="huge count"),
        pytest.param(changed(counts={"succeeded": None}), "Expected `int`, got `null`", id="null count"),
        pytest.param(changed(counts=[1]), "Expected `object`, got `array`", id="list of counts"),
        pytest.param(changed(cost={"estimated_usd": "NaN"}), "Expected `str` matching", id="NaN dollars"),
        pytest.param(changed(cost={"without_batch_usd": "1e999999999"}), "Expected `str` matching", id="many zeros"),
        pytest.param(changed(cost={"without_cache_usd": "-5"}), "Expected `str` matching", id="negative dollars"),
        pytest.param(changed(cost={"estimated_usd": 5}), "Expected `str | null`, got `int`", id="dollars as a number"),
        pytest.param(changed(cost="0.25"), "Expected `object | null`, got `str`", id="cost as text"),
        pytest.param(changed(cost={"unknown_answers": -1}), "Expected `int` &gt;= 0", id="negative answers"),
        pytest.param(changed(cost={"unknown_answers": 1, "unpriced_models": 7}), "Expected `array", id="models"),
        pytest.param(changed(by_model=[]), "Expected `object`, got `array`", id="list of models"),
        pytest.param(changed(by_model={"m": None}), "Expected `object`, got `null`", id="null model"),
        pytest.param(with_part(usd="absent"), "Object missing required field `usd`", id="model without cost"),
        pytest.param(with_part(usage="absent"), "Object missing required field `usage`", id="model without usage"),
        pytest.param(with_part(counts="absent"), "Object missing required field `counts`", id="model without counts"),
        pytest.param(with_part(usd="Infinity"), "Expected `str` matching", id="infinite dollars of a model"),
        pytest.param(with_part(usd="9" * 5000), "Expected `str` matching", id="huge dollars of a model"),
        pytest.param(with_part(counts={"succeeded": "1"}), "Expected `int`, got `str`", id="count of a model as text"),
        pytest.param(with_part(usage={"input_tokens": None}), "Expected `int`, got `null`", id="null tokens"),
        pytest.param(with_part(usage={"output_tokens": -3}), "Expected `int` &gt;= 0", id="negative tokens"),
        pytest.param(with_part(usage={"input_tokens": 10**40}), "", id="huge tokens"),
        pytest.param(changed(created_at=7), "Expected `datetime | null`, got `int`", id="time as a number"),
        pytest.param(changed(created_at="yesterday"), "Invalid RFC3339", id="time as words"),
        pytest.param(changed(created_at="2026-11-21T10:00:00"), "Expected `datetime` with a timezone", id="naive time"),
        pytest.param(changed(results_path=7), "Expected `str | null`, got `int`", id="path as a number"),
        pytest.param(changed(batch_ids=None), "Expected `array`, got `null`", id="null ids"),
    ],
)
def test_damaged_manifest_is_a_line_of_the_report(root: Path, manifest: Any, reason: str) -> None:
    write(root / "dag" / "bad" / "send", manifest)

    assert_listed(root, reason)


def _folder(path: Path) -> None:
    path.mkdir()


def _folder_with_a_manifest(path: Path) -> None:
    path.mkdir()
    (path / "other.json").write_text("{}")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _longer_loop(path: Path) -> None:
    path.symlink_to("other")
    (path.parent / "other").symlink_to(path.name)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _link_to_a_folder(path: Path) -> None:
    path.symlink_to("..")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(_folder, "it is not a file.", id="folder"),
        pytest.param(_folder_with_a_manifest, "it is not a file.", id="folder with a file"),
        pytest.param(_loop, "Too many levels of symbolic links.", id="loop"),
        pytest.param(_longer_loop, "Too many levels of symbolic links.", id="longer loop"),
        pytest.param(_dangling, "No such file or directory.", id="dangling link"),
        pytest.param(_endless, "it is not a file.", id="device"),
        pytest.param(_link_to_a_folder, "it is not a file.", id="link to a folder"),
        pytest.param(os.mkfifo, "it is not a file.", id="pipe"),
    ],
)
def test_what_is_no_manifest_file_is_a_line_of_the_report(
    root: Path, make: Callable[[Path], None], reason: str
) -> None:
    write(root / "dag" / "bad" / "send", "")
    (root / "dag" / "bad" / "send" / "manifest.json").unlink()
    make(root / "dag" / "bad" / "send" / "manifest.json")

    assert_listed(root, reason)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
@pytest.mark.parametrize("name", ["manifest.json", "."])
def test_what_may_not_be_read_is_a_line_of_the_report(root: Path, name: str) -> None:
    write(root / "dag" / "bad" / "send", MANIFEST)
    (root / "dag" / "bad" / "send" / name).chmod(0)

    text = page(root)
    (root / "dag" / "bad" / "send" / name).chmod(0o700)
    assert "<td>dag/bad/send</td>" in text
    assert "Permission denied." in text


def test_folder_that_links_to_one_above_it_is_not_followed(root: Path) -> None:
    (root / "dag" / "good" / "again").symlink_to(root)

    assert "<b>1</b><span>submission<" in page(root)


@pytest.mark.parametrize("name", ["", "/", "/manifest.json"], ids=["folder", "slash", "manifest"])
def test_single_submission_makes_a_report(root: Path, name: str, tmp_path: Path) -> None:
    assert main([f"{root}/dag/good/send{name}", "-o", str(tmp_path / "page.html")]) == 0

    text = (tmp_path / "page.html").read_text()
    assert "<td>send<td>" in text
    assert "invalid_request_error: no" in text


def test_folder_may_be_a_relative_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert main(["results", "-o", "page.html"]) == 0

    assert "invalid_request_error: no" in (root.parent / "page.html").read_text()


def test_damaged_manifests_alone_make_a_report(tmp_path: Path) -> None:
    write(tmp_path / "results" / "dag" / "bad" / "send", "{")

    assert "dag/bad/send" in page(tmp_path / "results")


@pytest.mark.parametrize(
    ("results_path", "reason"),
    [
        pytest.param("/elsewhere/other.jsonl", "No such file or directory.", id="missing"),
        pytest.param("http://elsewhere.example/other.jsonl", "No such file or directory.", id="other host"),
        pytest.param("", "it is not a file.", id="empty"),
        pytest.param("..", "it is not a file.", id="folder above"),
        pytest.param("a\0b", "embedded null byte.", id="null byte"),
        pytest.param("endless", "it is not a file.", id="device"),
        pytest.param("damaged.jsonl", "Line 1 of ", id="damaged"),
        pytest.param("damaged.parquet", "", id="damaged table"),
        pytest.param("x" * 5000, "File name too long.", id="long"),
    ],
)
def test_rows_that_cannot_be_read_are_a_line_of_the_report(root: Path, results_path: str, reason: str) -> None:
    folder = root / "dag" / "bad" / "send"
    write(folder, changed(results_path=results_path))
    (folder / "endless").symlink_to("/dev/zero")
    (folder / "damaged.jsonl").write_text("{")
    (folder / "damaged.parquet").write_text("{")

    text = page(root)
    assert "<b>2</b><span>submissions" in text
    assert f"<td>dag/bad/send</td><td>Its rows without an answer cannot be read: {reason}" in text


def test_rows_are_found_beside_the_manifest_after_the_folder_was_moved(root: Path) -> None:
    assert "invalid_request_error: no" in page(root)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"ended_at": "2026-11-20T10:00:00Z"}, id="ended before it began"),
        pytest.param({"created_at": "0001-01-01T00:00:00+14:00", "ended_at": "9999-12-31T23:59:59-12:00"}, id="ages"),
        pytest.param({"request_count": 2**32 - 1, "counts": {"succeeded": 2**32 - 1}}, id="large"),
        pytest.param({"counts": {}, "by_model": {}, "cost": None}, id="nothing"),
        pytest.param({"counts": {"of a later version": 2}, "status": "of a later version", "more": []}, id="later"),
    ],
)
def test_unusual_manifest_is_in_the_report(root: Path, fields: dict[str, Any]) -> None:
    write(root / "dag" / "unusual" / "send", changed(**fields))

    text = page(root)
    assert "<b>2</b><span>submissions" in text
    assert "Not in this report" not in text


def test_name_of_a_folder_that_is_not_text_is_shown_escaped(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(Path(os.fsdecode(os.fsencode(root) + b"/\xff")), MANIFEST)
    write(Path(os.fsdecode(os.fsencode(root) + b"/\xfe")), "{")

    text = page(root)
    assert "\\udcff" in text
    assert "<td>\\udcfe</td>" in text
    assert "The report is incomplete at \\udcfe." in caplog.text


# ---------------------------------------------------------------- any damage

_ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["NaN", "-1", "1e999999", "Infinity", "٣", "0x1", "1_0", " 1", "1\n", "0001-01-01T00:00:00+14:00"]),
    st.just([]),
    st.just({}),
    st.just([[[None]]]),
    st.dictionaries(st.sampled_from(["usd", "counts", "usage", "succeeded", "missing"]), st.integers(-5, 5)),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A manifest of which some values were replaced or removed, and then perhaps some bytes."""
    manifest = json.loads(json.dumps(MANIFEST))
    for _ in range(draw(st.integers(0, 3))):
        node: Any = manifest
        while True:
            key = draw(st.sampled_from(sorted(node)))
            if not (isinstance(node[key], dict) and node[key] and draw(st.booleans())):
                break
            node = node[key]
        if draw(st.booleans()):
            node[key] = draw(_ODD)
        else:
            del node[key]
        if not manifest:
            break
    data = bytearray(json.dumps(manifest).encode())
    for _ in range(draw(st.integers(0, 3)) if draw(st.booleans()) else 0):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))] if draw(st.integers(0, 9)) == 0 else data)


@fuzzed
@given(manifest=damaged())
def test_report_survives_any_manifest(manifest: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "results"
        write(root / "dag" / "good" / "send", MANIFEST)
        write(root / "dag" / "bad" / "send", manifest)
        text = page(root)

    assert text.count("<td>dag/good/send<td>") == 1
    assert text.count("<td>dag/bad/send<") >= 1
