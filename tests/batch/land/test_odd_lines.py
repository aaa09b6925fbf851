"""Lines that are not in the API's form: each costs no other line anything, and is kept, and nothing is sent again."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api import wire
from airflow_claude_batch.api.lenient_json import MAX_DEPTH
from airflow_claude_batch.api.line_splitter import LineSplitter, ShortenedLine
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher, SubmissionMatcher
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE, keep_odd_lines, place_lines
from airflow_claude_batch.batch.land.publish import publish_rows
from airflow_claude_batch.batch.land.result_stream import DownloadSummary, read_results
from airflow_claude_batch.batch.land.rows import FINAL, Row, Status
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import MalformedResponseError
from airflow_claude_batch.rows import read_rows

TABLE = PriceTable.load()
TOKEN = "0123456789ab"
BATCH = "msgbatch_01"


def message(text: str = "hi") -> dict[str, Any]:
    return {
        "model": "claude-haiku-5-5",
        "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 10, "output_tokens": 1},
        "stop_reason": "end_turn",
    }


def line(custom_id: str, text: str = "hi") -> bytes:
    return json.dumps({"custom_id": custom_id, "result": {"type": "succeeded", "message": message(text)}}).encode()


@contextmanager
def landing_of(count: int) -> Iterator[tuple[Landing, list[bytes]]]:
    """A landing of that many requests, and the line of each."""
    with tempfile.NamedTemporaryFile() as file:
        write_requests((Request(index, f"k{index}", {"content": index}) for index in range(count)), file)
        file.flush()
        with RequestFile(Path(file.name)) as requests, Landing(SubmissionMatcher(requests), prices=TABLE) as landing:
            yield landing, [line(requests.custom_id(index, TOKEN), f"answer {index}") for index in range(count)]


def land(landing: Landing, lines: list[bytes], *, members: range | None = None) -> DownloadSummary:
    """Read a stream whose odd lines are the same whenever it is read."""
    splitter = LineSplitter()
    summary = read_results(landing, BATCH, [*splitter.feed(b"".join(line + b"\n" for line in lines)), *splitter.end()])
    keep_odd_lines(landing, BATCH, summary, range(len(landing.matcher)) if members is None else members)
    return summary


def rows(landing: Landing) -> list[Row]:
    """The rows, after everybody who reads rows has read them."""
    lines = list(landing.lines(missing="gone"))
    with Landing(landing.matcher, prices=TABLE) as again, tempfile.TemporaryDirectory() as path:
        again.restore(lines)
        if isinstance(landing.matcher, SubmissionMatcher):
            assert list(again.lines(missing="gone")) == lines
            assert again.statuses == landing.statuses
            assert again.bill.tokens == landing.bill.tokens
        folder = LocalFolder(Path(path))
        publish_rows(landing, folder, missing="gone")
        write_parquet(folder, lines)
        read = list(read_rows(folder.uri("results.jsonl")))
        with (folder.path / "results.parquet").open("rb") as file:
            assert list(read_parquet(file)) == read
        for text in lines:
            json.loads(text)
    return read


def raw_of(row: Row) -> bytes:
    """The bytes that a row keeps of its line."""
    assert row.raw is not None
    return row.raw["text"].encode() if "text" in row.raw else base64.b64decode(row.raw["base64"])


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    return lambda line: line.replace(old, new, 1)


#: Lines whose answer can be read: what became of it, and of the text.
READABLE = [
    pytest.param(replaced(b"answer 1", b"answer 1 \\ud83d"), "answer 1 \ufffd", id="half a surrogate pair"),
    pytest.param(replaced(b"answer 1", b"\\udc00 answer 1"), "\ufffd answer 1", id="the second half"),
    pytest.param(replaced(b"answer 1", b"answer 1 \xff"), "answer 1 \ufffd", id="not UTF-8"),
    pytest.param(replaced(b"answer 1", b"answer\t1"), "answer\t1", id="a raw tab"),
    pytest.param(replaced(b"answer 1", b"answer\n1"), "answer\n1", id="a raw line end"),
    pytest.param(replaced(b"answer 1", b"answer\x001"), "answer\x001", id="a raw NUL"),
    pytest.param(replaced(b'"model"', b'"later": NaN, "model"'), "answer 1", id="NaN"),
    pytest.param(replaced(b'"model"', b'"later": [-Infinity], "model"'), "answer 1", id="Infinity"),
    pytest.param(replaced(b'"model"', b'"later": 1e999, "model"'), "answer 1", id="a number out of range"),
    pytest.param(replaced(b'"model"', b'"later": ' + b"9" * 5000 + b', "model"'), "answer 1", id="many digits"),
    pytest.param(replaced(b'"model"', b'"later": ' + b"[" * 300 + b"]" * 300 + b', "model"'), "answer 1", id="deep"),
    pytest.param(
        replaced(b'"model"', b'"later": ' + b"[" * 9000 + b"]" * 9000 + b', "model"'), "answer 1", id="deeper"
    ),
    pytest.param(replaced(b'"model"', b'"later": {"x\xff": 1}, "model"'), "answer 1", id="a name not in UTF-8"),
    pytest.param(replaced(b'"input_tokens": 10', b'"input_tokens": NaN'), "answer 1", id="NaN for tokens"),
    pytest.param(replaced(b'"input_tokens": 10', b'"input_tokens": 1e999'), "answer 1", id="tokens out of range"),
    pytest.param(replaced(b'"type": "succeeded", ', b""), "answer 1", id="no type"),
    pytest.param(lambda line: b'{"custom_id": null' + line[line.index(b', "result"') :], "answer 1", id="null id"),
    pytest.param(lambda line: b'{"custom_id": 7' + line[line.index(b', "result"') :], "answer 1", id="number id"),
    pytest.param(lambda line: b"{" + line[line.index(b'"result"') :], "answer 1", id="no id"),
    pytest.param(lambda line: b'{"custom_id": NaN' + line[line.index(b', "result"') :], "answer 1", id="NaN for an id"),
    pytest.param(
        lambda line: b'{"custom_id": 1e999' + line[line.index(b', "result"') :], "answer 1", id="id out of range"
    ),
    pytest.param(
        lambda line: b'{"custom_id": "\\ud83d"' + line[line.index(b', "result"') :],
        "answer 1",
        id="half a pair as an id",
    ),
    pytest.param(lambda line: b"data: " + line, "answer 1", id="a word before it"),
]
#: Lines that come through as they are.
HARMLESS = [
    pytest.param(lambda line: b"\xef\xbb\xbf" + line, id="a byte order mark"),
    pytest.param(lambda line: b"\n \n" + line, id="blank lines"),
    pytest.param(lambda line: line + b"\r", id="a carriage return"),
    pytest.param(lambda line: b'{"custom_id": "x", ' + line[1:], id="a name twice"),
]
#: Lines of which no answer can be read.
UNREADABLE = [
    pytest.param(lambda line: line[: len(line) // 2], id="cut in the middle"),
    pytest.param(lambda line: line[:30], id="cut in its id"),
    pytest.param(lambda line: line[:80] + line[90:], id="a piece gone"),
    pytest.param(lambda line: line[len(line) // 2 :], id="without its beginning"),
    pytest.param(lambda line: line.replace(b'"', b"'"), id="other quotes"),
    pytest.param(lambda line: b"\0" * len(line), id="zeros"),
    pytest.param(lambda line: b"\xff\xfe\xfd", id="no text"),
    pytest.param(lambda line: b"<html>Bad gateway</html>", id="HTML"),
    pytest.param(lambda line: b'{"type":"error","error":{"type":"api_error","message":"no"}}', id="an error object"),
    pytest.param(lambda line: line[: line.index(b', "result"')] + b"}", id="no result"),
    pytest.param(lambda line: line[: line.index(b', "result"')] + b', "result": null}', id="null for a result"),
    pytest.param(lambda line: line[: line.index(b', "result"')] + b', "result": {}}', id="an empty result"),
    pytest.param(
        lambda line: line[: line.index(b', "result"')] + b', "result": {"type": "succeeded"}}', id="no message"
    ),
    pytest.param(
        lambda line: line[: line.index(b', "result"')] + b', "result": {"type": "succeeded", "message": [1]}}',
        id="a list for a message",
    ),
    pytest.param(lambda line: b"[" * 50_000, id="brackets without end"),
    pytest.param(
        lambda line: line[: line.index(b', "result"')] + b', "result": {"type": "suc\xff"}}', id="damaged in its type"
    ),
    pytest.param(lambda line: b"null", id="null"),
    pytest.param(lambda line: b"17", id="a number"),
]


@pytest.mark.parametrize("is_too_deep", [False, True])
@pytest.mark.parametrize(
    ("before", "name", "levels"),
    [
        pytest.param(b'"result"', b"later", 1, id="beside the result"),
        pytest.param(b'"message"', b"error", 2, id="beside the message"),
        pytest.param(b'"stop_reason"', b"stop_details", 3, id="in the message"),
        pytest.param(b'"input_tokens"', b"iterations", 4, id="in the usage"),
        pytest.param(b'"text": ', b"citations", 5, id="in a block"),
    ],
)
def test_what_is_nested_too_deeply_is_found_wherever_it_stands(
    before: bytes, name: bytes, levels: int, is_too_deep: bool
) -> None:
    """Databases and readers of JSON have limits. An ordinary answer is not searched for it: its types leave no room."""
    depth = MAX_DEPTH - levels + is_too_deep
    nested = b'"%b": %b%b, ' % (name, b"[" * depth, b"]" * depth)
    with landing_of(2) as (landing, lines):
        lines[1] = lines[1].replace(before, nested + before, 1)
        summary = land(landing, lines)
        first, second = rows(landing)

    assert summary.altered == is_too_deep
    assert (second.status, second.text) == ("succeeded", "answer 1")
    assert (second.raw is not None) == is_too_deep
    assert first.raw is None


@pytest.mark.parametrize(("damage", "text"), READABLE)
def test_answer_of_an_odd_line_is_kept_with_the_line_as_it_came(damage: Callable[[bytes], bytes], text: str) -> None:
    with landing_of(3) as (landing, lines):
        odd = damage(lines[1])
        land(landing, [lines[0], odd, lines[2]])
        found = rows(landing)

        assert [row.status for row in found] == ["succeeded"] * 3
        assert [row.text for row in found] == ["answer 0", text, "answer 2"]
        assert raw_of(found[1]) in odd
        assert [row.raw for row in found[::2]] == [None, None]


@pytest.mark.parametrize("damage", HARMLESS)
def test_harmless_line_is_an_ordinary_row(damage: Callable[[bytes], bytes]) -> None:
    with landing_of(3) as (landing, lines):
        summary = land(landing, [lines[0], damage(lines[1]), lines[2]])
        found = rows(landing)

        assert [row.text for row in found] == ["answer 0", "answer 1", "answer 2"]
        assert [row.raw for row in found] == [None] * 3
        assert (summary.rows, summary.odd) == (3, [])


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("damage", UNREADABLE)
def test_line_that_cannot_be_read_becomes_the_row_of_its_request(damage: Callable[[bytes], bytes], place: int) -> None:
    with landing_of(3) as (landing, lines):
        odd = damage(lines[place])
        land(landing, [*lines[:place], odd, *lines[place + 1 :]])
        found = rows(landing)

        assert [row.text for row in found] == [None if n == place else f"answer {n}" for n in range(3)]
        assert found[place].status == "invalid_output"
        assert raw_of(found[place]) == odd
        assert found[place].error is not None
        assert all(status in FINAL for status in landing.statuses)


def test_line_that_is_cut_in_its_type_may_have_been_an_answer() -> None:
    with landing_of(3) as (landing, lines):
        land(landing, [lines[0], lines[1][: lines[1].index(b"eeded")] + b'"}}}', lines[2]])
        found = rows(landing)

        assert [row.status for row in found] == ["succeeded", "invalid_output", "succeeded"]
        assert all(status in FINAL for status in landing.statuses)


def test_lines_of_several_requests_that_none_of_them_names_are_kept_beside_the_rows(tmp_path: Path) -> None:
    with landing_of(4) as (landing, lines):
        for _ in range(2):  # reading again adds nothing
            land(landing, [lines[0], b"garbage \xff", lines[2], b"more"])
        publish_rows(landing, LocalFolder(tmp_path), missing=None)
        publish_rows(landing, LocalFolder(tmp_path), missing=None)
        found = rows(landing)

        assert [row.status for row in found] == ["succeeded", "invalid_output", "succeeded", "invalid_output"]
        assert UNREADABLE_FILE in (found[1].error or {})["message"]
        assert all(status in FINAL for status in landing.statuses)
    kept = [json.loads(line) for line in (tmp_path / UNREADABLE_FILE).read_bytes().splitlines()]
    assert [base64.b64decode(kept[0]["base64"]), kept[1]["text"]] == [b"garbage \xff", "more"]
    assert {line["batch_id"] for line in kept} == {BATCH}


def test_request_of_another_batch_does_not_get_the_line() -> None:
    with landing_of(4) as (landing, lines):
        land(landing, [lines[0], b"garbage"], members=range(2))

        assert list(landing.statuses) == [Status.SUCCEEDED, Status.INVALID_OUTPUT, Status.NONE, Status.NONE]


def test_request_that_failed_in_an_earlier_round_gets_the_line_that_came_now() -> None:
    with landing_of(2) as (landing, lines):
        custom_id = json.loads(lines[1])["custom_id"]
        failed = {"custom_id": custom_id, "result": {"type": "expired"}}
        read_results(landing, "msgbatch_00", [lines[0], json.dumps(failed).encode()])
        landed = list(landing.lines(missing=None))
        with Landing(landing.matcher, prices=TABLE) as now:
            now.restore(landed)
            summary = read_results(now, BATCH, [b'{"custom_id":"' + custom_id.encode()[:30]])
            keep_odd_lines(now, BATCH, summary, range(2))

            assert list(now.statuses) == [Status.SUCCEEDED, Status.INVALID_OUTPUT]


def test_two_results_on_one_line_are_two_rows() -> None:
    with landing_of(3) as (landing, lines):
        land(landing, [lines[0] + lines[1], lines[2]])

        assert [row.text for row in rows(landing)] == ["answer 0", "answer 1", "answer 2"]


def test_line_that_lost_its_end_with_the_beginning_of_the_next_takes_one_row_only() -> None:
    with landing_of(3) as (landing, lines):
        land(landing, [lines[0], lines[1][:100] + lines[2]])

        assert [row.text for row in rows(landing)] == ["answer 0", None, "answer 2"]


def test_answer_that_is_read_later_takes_the_place_of_its_damaged_line() -> None:
    with landing_of(2) as (landing, lines):
        land(landing, [lines[0], lines[1][:100]])
        land(landing, lines)
        found = rows(landing)

        assert [row.text for row in found] == ["answer 0", "answer 1"]
        assert [row.replaced for row in found] == [None, None]
        assert landing.bill.tokens.output == 2


def test_stream_that_ends_within_a_line_is_read_again() -> None:
    with landing_of(2) as (landing, lines):
        splitter = LineSplitter()
        cut = [*splitter.feed(lines[0] + b"\n" + lines[1][:-5]), *splitter.end()]
        with pytest.raises(MalformedResponseError):
            read_results(landing, BATCH, cut)

        assert [row.text for row in rows(landing)] == ["answer 0", None]


def test_last_line_without_its_end_may_be_odd() -> None:
    with landing_of(2) as (landing, lines):
        splitter = LineSplitter()
        read_results(
            landing, BATCH, [*splitter.feed(lines[0] + b"\n" + lines[1][:-3] + b', "x": NaN}}}'), *splitter.end()]
        )

        assert [row.text for row in rows(landing)] == ["answer 0", "answer 1"]


def test_line_that_is_too_long_is_shortened_and_costs_no_other_line() -> None:
    long = ShortenedLine(b'{"custom_id":"c","result":{"type":"succeeded"')
    long.left_out = 100_000_000
    with landing_of(2) as (landing, lines):
        summary = read_results(landing, BATCH, [lines[0], long])
        keep_odd_lines(landing, BATCH, summary, range(2))
        found = rows(landing)

        assert [row.status for row in found] == ["succeeded", "invalid_output"]
        assert (found[1].raw or {})["left_out"] == 100_000_000
        assert landing.shortened_batch_ids == {BATCH}
        with Landing(landing.matcher, prices=TABLE) as again:
            again.restore(landing.lines(missing=None))
            assert again.shortened_batch_ids == {BATCH}


def test_lines_of_a_batch_made_elsewhere_have_rows_of_their_own() -> None:
    with Landing(ExternalMatcher(4), prices=TABLE) as landing:
        summary = read_results(landing, BATCH, [line("a"), b"garbage", line("b", "\udc00"), b'{"custom_id":"c"}'])
        keep_odd_lines(landing, BATCH, summary)
        place_lines(landing)
        found = rows(landing)

        assert [(row.key, row.status) for row in found] == [
            ("a", "succeeded"),
            ("b", "succeeded"),
            ("c", "invalid_output"),
            ("(unreadable line 1)", "invalid_output"),
        ]


@given(data=st.data(), place=st.integers(0, 2))
def test_any_bytes_in_place_of_a_line_cost_no_other_line(data: st.DataObject, place: int) -> None:
    with landing_of(3) as (landing, lines):
        good = lines[place]
        start = data.draw(st.integers(0, len(good)))
        end = data.draw(st.integers(start, len(good)))
        odd = good[:start] + data.draw(st.binary(max_size=8)) + good[end:]
        land(landing, [*lines[:place], odd, *lines[place + 1 :]])
        found = rows(landing)

        for number in {0, 1, 2} - {place}:
            assert (found[number].status, found[number].text) == ("succeeded", f"answer {number}")
        assert len(found) == 3
        with contextlib.suppress(MalformedResponseError):
            wire.decode_result_line(odd)
            return  # it is another result now
        if odd.strip():
            assert all(status in FINAL for status in landing.statuses)


# ---------------------------------------------------------------- errored and succeeded under one custom_id


@pytest.mark.parametrize("odd", [False, True], ids=["valid", "unreadable"])
@pytest.mark.parametrize("error", ["invalid_request_error", "api_error"])
@pytest.mark.parametrize("paid_first", [True, False])
def test_paid_answer_wins_over_an_error_under_the_same_custom_id(paid_first: bool, error: str, odd: bool) -> None:
    with landing_of(1) as (landing, lines):
        custom_id = json.loads(lines[0])["custom_id"]
        result = {"type": "errored", "error": {"type": "error", "error": {"type": error, "message": "no"}}}
        errored = json.dumps({"custom_id": custom_id, "result": result}).encode()
        paid = lines[0].replace(b'"content"', b'"contents"') if odd else lines[0]
        summary = land(landing, [paid, errored] if paid_first else [errored, paid])
        (row,) = rows(landing)

        assert row.status == ("invalid_output" if odd else "succeeded")
        assert len(summary.repeated) == 1


def test_second_answer_under_the_same_custom_id_is_kept_beside_the_rows(tmp_path: Path) -> None:
    with landing_of(1) as (landing, lines):
        other = lines[0].replace(b"answer 0", b"another")
        for _ in range(2):
            land(landing, [lines[0], lines[0], other])
        publish_rows(landing, LocalFolder(tmp_path), missing=None)

        assert [row.text for row in rows(landing)] == ["answer 0"]
    (kept,) = [json.loads(line) for line in (tmp_path / UNREADABLE_FILE).read_bytes().splitlines()]
    assert kept["text"].encode() == other


@pytest.mark.parametrize("indent", [None, 2])
def test_results_in_a_list_are_rows(indent: int | None) -> None:
    with landing_of(3) as (landing, lines):
        text = json.dumps([json.loads(line) for line in lines], indent=indent).encode()
        summary = land(landing, text.split(b"\n"))

        assert [row.text for row in rows(landing)] == ["answer 0", "answer 1", "answer 2"]
        assert summary.rows == 3


def test_custom_ids_under_another_name_are_found() -> None:
    with landing_of(3) as (landing, lines):
        land(landing, [line.replace(b'"custom_id"', b'"CustomId"') for line in lines])

        assert [row.text for row in rows(landing)] == ["answer 0", "answer 1", "answer 2"]


def test_only_result_of_a_batch_is_its_row_although_it_has_no_custom_id() -> None:
    with landing_of(1) as (landing, lines):
        land(landing, [b"{" + lines[0][lines[0].index(b'"result"') :]])

        assert [row.text for row in rows(landing)] == ["answer 0"]


def test_results_that_all_lack_their_custom_ids_are_kept_and_not_sent_again() -> None:
    with landing_of(3) as (landing, lines):
        land(landing, [b"{" + line[line.index(b'"result"') :] for line in lines])

        assert [row.status for row in rows(landing)] == ["invalid_output"] * 3
        assert len(landing.leftover[BATCH]) == 3
