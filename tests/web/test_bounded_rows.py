"""Rows are read within a budget: lines from any position, failed rows, keys, and how far a search has looked."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fuzz.fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.request_lines import format_line
from airflow_claude_batch.batch.land.landed_part import PartRow, write_part
from airflow_claude_batch.batch.land.outcomes import Outcome
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.money.bill import BillSums
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.web import row_lines
from airflow_claude_batch.web.bounded_folder import BoundedFolder, Budget, GivenFolder, PlainFolder
from airflow_claude_batch.web.row_lines import LineFile, LineReader, find_rows, read_line
from airflow_claude_batch.web.row_search import find_key, find_request, key_forms, list_rows
from airflow_claude_batch.web.row_source import RowSource
from airflow_claude_batch.web.rows_view import row_with_key, rows_of
from airflow_claude_batch.web.shown_row import show_row

MANY = 1 << 40


class StoppedClock:
    """A clock that stands still. Budgets are spent by bytes alone."""

    def __call__(self) -> float:
        return 0.0


def budget(max_bytes: int = MANY) -> Budget:
    return Budget(max_bytes, clock=StoppedClock())


def folder_of(data: bytes, name: str = "results.jsonl", max_bytes: int = MANY) -> BoundedFolder:
    return BoundedFolder(GivenFolder({name: data}), budget(max_bytes))


def row(index: int, key: Any = None, status: str = "succeeded", **fields: Any) -> bytes:
    values = {"index": index, "key": index if key is None else key, **fields.pop("first", {})}
    line = {**values, "status": status, "text": f"answer {index}", **fields}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few bytes at once, so that short lines are spread over many chunks."""
    monkeypatch.setattr(row_lines, "_FIRST_CHUNK_BYTES", 64)
    monkeypatch.setattr(row_lines, "CHUNK_BYTES", 256)


# ---------------------------------------------------------------- lines


@fuzzed
@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=8),
    position=st.integers(0, 400),
    chunk=st.integers(1, 9),
    longest=st.integers(1, 50),
    ends_in_line_feed=st.booleans(),
)
def test_lines_from_any_position(
    lines: list[bytes], position: int, chunk: int, longest: int, ends_in_line_feed: bool
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    data = data if ends_in_line_feed else data.removesuffix(b"\n")
    starts = [0, *(place + 1 for place, byte in enumerate(data) if byte == ord("\n"))]
    whole = [(start, data[start:].partition(b"\n")[0]) for start in starts if position <= start < len(data)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_lines, "_FIRST_CHUNK_BYTES", chunk)
        patch.setattr(row_lines, "CHUNK_BYTES", 2 * chunk)
        patch.setattr(row_lines, "MAX_LINE_BYTES", longest)
        folder, files = folder_of(data), [LineFile("results.jsonl", len(data))]
        read = [line for _, line in LineReader(folder, files, position)]
        single = read_line(folder, files, position)

    assert [(line.position, line.data) for line in read] == [(start, line[:longest]) for start, line in whole]
    assert [line.is_cut for line in read] == [len(line) > longest for _, line in whole]
    assert (single[1] if single else None) == (read[0] if position in starts and position < len(data) else None)


def test_a_line_without_end_costs_no_more_than_the_budget() -> None:
    data = row(0) + b'{"index":1,"key":"long","status":"succeeded","text":"' + b"x" * (20 << 20)
    folder = folder_of(data, max_bytes=4 << 20)
    found = list_rows(folder, find_rows(folder, folder.sizes()))

    assert [shown.key for shown in found.rows] == ["0", "long"]
    answer = found.rows[1].answer
    assert answer is not None
    assert (len(answer.text), answer.note) == (300, "the rest is left out")
    assert folder.budget.left > -(4 << 20), "one chunk at most above the budget"
    assert found.next_position is not None


def test_a_search_within_a_long_line_goes_on() -> None:
    data = b"x" * (20 << 20) + b"\n" + row(1, status="errored")
    position, rounds = 0, 0
    while True:
        folder = folder_of(data, max_bytes=2 << 20)
        found = list_rows(folder, find_rows(folder, folder.sizes()), position, failed=True)
        if any(shown.index == 1 for shown in found.rows):
            break
        assert found.next_position is not None
        assert found.next_position > position
        position, rounds = found.next_position, rounds + 1
    assert 1 < rounds < 20


# ---------------------------------------------------------------- failed rows


def test_failed_rows_are_found_behind_many_others() -> None:
    data = b"".join(row(i, status="errored" if i % 100 == 99 else "succeeded") for i in range(5_000))
    landed = find_rows(folder_of(data), {"results.jsonl": len(data)})
    first = list_rows(folder_of(data), landed, failed=True)

    assert [shown.index for shown in first.rows] == list(range(99, 2_000, 100))
    assert first.next_position is not None
    second = list_rows(folder_of(data), landed, first.next_position, failed=True)
    assert [shown.index for shown in second.rows][:2] == [2_099, 2_199]


def test_a_kept_column_named_status_makes_no_row_succeed() -> None:
    data = row(0, status="errored", first={"input": {"status": "succeeded"}})
    data += row(1, first={"input": {"status": "errored"}})
    folder = folder_of(data)

    assert [shown.index for shown in list_rows(folder, find_rows(folder, folder.sizes()), failed=True).rows] == [0]


@fuzzed
@given(failed=st.sets(st.integers(0, 59), max_size=30), max_bytes=st.integers(300, 3_000))
def test_all_failed_rows_are_found_whatever_a_page_may_read(failed: set[int], max_bytes: int) -> None:
    lengths = {5: 400, 6: 500, 30: 900}
    data = b"".join(
        row(i, status="expired" if i in failed else "succeeded", x="x" * lengths.get(i, 0)) for i in range(60)
    )
    found, position = list[Any](), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_lines, "_FIRST_CHUNK_BYTES", 64)
        patch.setattr(row_lines, "CHUNK_BYTES", 256)
        patch.setattr(row_lines, "MAX_LINE_BYTES", 200)
        landed = find_rows(folder_of(data), {"results.jsonl": len(data)})
        for _ in range(200):
            page = list_rows(folder_of(data, max_bytes=max_bytes), landed, position, failed=True)
            found += [shown.index for shown in page.rows]
            if page.next_position is None:
                break
            position = page.next_position

    assert found == sorted(failed)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("key", "text"),
    [
        pytest.param("a", "a", id="text"),
        pytest.param('a"b\\', 'a"b\\', id="quotes"),
        pytest.param("日本", "日本", id="letters"),
        pytest.param("12", "12", id="digits as text"),
        pytest.param(13, "13", id="number"),
        pytest.param(True, "true", id="boolean"),
        pytest.param({"id": 1, "lang": "en"}, '{"lang": "en", "id": 1}', id="columns"),
        pytest.param(["a", 1], '["a", 1]', id="list"),
        pytest.param("", "", id="empty"),
    ],
)
def test_key_is_found_as_it_is_written(key: Any, text: str) -> None:
    data = row(0, "other") + row(1, key) + row(2, "another")
    folder = folder_of(data)
    found = find_key(folder, find_rows(folder, folder.sizes()), text)

    assert found.line is not None
    assert show_row(found.line).index == 1


@pytest.mark.parametrize(
    "decoy",
    [
        pytest.param(row(0, "x", first={"input": {"a": 1, "key": "k", "b": 2}}), id="kept column"),
        pytest.param(row(0, "x", output={"a": 1, "key": "k", "b": 2}), id="output"),
        pytest.param(row(0, "x", output={"a": [{"index": 7, "key": "k", "b": 2}]}), id="a row in the output"),
        pytest.param(row(0, "x", message={"content": ',"key":"k","'}), id="text"),
        pytest.param(row(0, {"index": 1, "key": "k", "x": 1}), id="in a key"),
        pytest.param(b'x{"index":1,"key":"k","status":"succeeded"}\n', id="damaged line"),
    ],
)
def test_what_looks_like_the_key_is_not_taken_for_it(decoy: bytes) -> None:
    folder = folder_of(decoy + row(5, "k"))
    found = find_key(folder, find_rows(folder, folder.sizes()), "k")

    assert found.line is not None
    assert show_row(found.line).index == 5
    alone = folder_of(decoy)
    assert find_key(alone, find_rows(alone, alone.sizes()), "k").line is None


@fuzzed
@given(wanted=st.integers(0, 59), max_bytes=st.integers(1, 3_000))
def test_any_key_is_found_whatever_a_page_may_read(wanted: int, max_bytes: int) -> None:
    data = b"".join(row(i, f"key-{i}") for i in range(60))
    position, line = 0, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_lines, "_FIRST_CHUNK_BYTES", 128)
        patch.setattr(row_lines, "CHUNK_BYTES", 256)
        landed = find_rows(folder_of(data), {"results.jsonl": len(data)})
        for _ in range(200):
            found = find_key(folder_of(data, max_bytes=max_bytes), landed, f"key-{wanted}", position)
            line = found.line
            if line is not None or found.next_position is None:
                break
            position = found.next_position

    assert line is not None
    assert show_row(line).index == wanted


def test_request_is_found_by_its_key() -> None:
    lines = [(b"h" * 22, key, b'{"x":[{"key":"b","params":1}]}') for key in (b'"a"', b'"b"', b"3")]
    data = b"".join(format_line(*line) for line in lines)
    file = LineFile("requests.jsonl", len(data))
    found = find_request(folder_of(data, "requests.jsonl"), file, key_forms("b"))

    assert found.line is not None
    assert found.line.data == format_line(*lines[1]).rstrip()


@pytest.mark.parametrize("text", ["\ud800", "NaN", "1e999", "[" * 100_000, "9" * 5_000, '{"a"'])
def test_odd_key_is_searched_as_a_text(text: str) -> None:
    assert key_forms(text)
    folder = folder_of(row(0))
    assert find_key(folder, find_rows(folder, folder.sizes()), text).line is None


# ---------------------------------------------------------------- landed parts


def landed_parts(path: Path, parts: Sequence[Sequence[tuple[int, Status]]]) -> BoundedFolder:
    folder = LocalFolder(path)
    names = list[str]()
    for number, rows in enumerate(parts, 1):
        names.append(f"landed-{number}-0123456789ab")
        write_part(
            folder,
            names[-1],
            [
                PartRow(index, row(index, status=status.word, part=number), Outcome(status, "m", "end_turn"), b"h" * 22)
                for index, status in rows
            ],
            input_digest="d",
            beside="",
            after=names[:-1],
            bill=BillSums(),
            batch_ids=[f"msgbatch_{number}"],
            shortened_batch_ids=[],
        )
    return BoundedFolder(PlainFolder(path, root=path.parent), budget())


def test_parts_that_are_landed_so_far(tmp_path: Path) -> None:
    good, bad = Status.SUCCEEDED, Status.ERRORED
    folder = landed_parts(tmp_path / "own", [[(0, good), (1, bad), (2, bad)], [(1, good), (4, bad)]])
    landed = find_rows(folder, folder.sizes())

    assert list(landed.statuses) == [good, good, bad, 0, bad]
    assert [shown.index for shown in list_rows(folder, landed).rows] == [0, 2, 1, 4]
    assert [shown.index for shown in list_rows(folder, landed, failed=True).rows] == [2, 4]
    found = find_key(folder, landed, "1")
    assert found.line is not None
    assert json.loads(found.line.data)["part"] == 2
    view = rows_of(RowSource("own", folder.sizes(), "", folder, landed), failed=None)
    assert view.failed is not None
    assert [shown.index for shown in view.failed.rows] == [2, 4]
    assert view.failed.next_position is None


# ---------------------------------------------------------------- large files


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A results file of 2 GB, almost all of which is a hole: rows, one endless line, rows."""
    path = tmp_path / "own"
    path.mkdir()
    with (path / "results.jsonl").open("wb") as file:
        file.write(b"".join(row(i) for i in range(1_000)))
        file.seek(2_000_000_000)
        file.write(b"\n" + row(1_001, "last", status="errored"))
    return path


def test_page_of_a_file_of_2_gb_reads_a_small_part_of_it(large: Path) -> None:
    folder = BoundedFolder(PlainFolder(large, root=large.parent), Budget(64 << 20))
    source = RowSource(str(large), folder.sizes(), "", folder, find_rows(folder, folder.sizes()))
    before = time.process_time()
    view = rows_of(source, failed=1)

    assert view.first is not None
    assert len(view.first.rows) == 20
    assert view.failed is not None
    assert view.failed.next_position is not None
    assert view.failed.next_position <= 80 << 20, "as much as the folder's budget allows"
    assert row_with_key(source, "7", 0, 0).position is not None
    assert row_with_key(source, "last", 0, 0).next_position is not None
    assert row_with_key(source, "last", 1_999_000_000, 0).position == 2_000_000_001
    assert time.process_time() - before < 5
