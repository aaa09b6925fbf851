from __future__ import annotations

import io
import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher, SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_rows
from airflow_claude_batch.batch.land.result_stream import read_results
from airflow_claude_batch.batch.land.rows import Status, count_statuses
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder
from airflow_claude_batch.exceptions import MalformedResponseError, ResultsError

TABLE = PriceTable.load()
TOKEN = "0123456789ab"
LATER = "ba9876543210"


@contextmanager
def requests_of(
    *contents: Any, keys: list[Any] | None = None, deduplicate: bool = False, **params: Any
) -> Iterator[RequestFile]:
    """Requests with these contents, keyed k0, k1 and so on."""
    with tempfile.NamedTemporaryFile() as file:
        write_requests(
            (
                Request(index, keys[index] if keys else f"k{index}", {"content": content, **params})
                for index, content in enumerate(contents)
            ),
            file,
            deduplicate=deduplicate,
        )
        file.flush()
        with RequestFile(Path(file.name)) as requests:
            yield requests


@contextmanager
def landing_of(requests: RequestFile) -> Iterator[Landing]:
    with Landing(SubmissionMatcher(requests), prices=TABLE) as landing:
        yield landing


def line(custom_id: str, text: str | None = "hi", *, type_: str = "succeeded", error: str = "api_error") -> bytes:
    """One line of a result stream."""
    result: dict[str, Any] = {"type": type_}
    if type_ == "succeeded":
        result["message"] = {
            "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": 10, "output_tokens": 1},
            "stop_reason": "end_turn",
        }
    if type_ == "errored":
        result["error"] = {"type": "error", "error": {"type": error, "message": "why"}}
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def answers(requests: RequestFile, *indices: int, token: str = TOKEN) -> list[bytes]:
    """The lines of a batch that held these requests; each text names its request."""
    return [line(requests.custom_id(index, token), f"answer {index}") for index in indices]


def rows(landing: Landing, *, missing: str | None = "gone") -> list[dict[str, Any]]:
    return [json.loads(row) for row in landing.lines(missing=missing)]


def texts(landing: Landing) -> list[str | None]:
    return [row["text"] for row in rows(landing)]


# ---------------------------------------------------------------- any order in, input order out


@given(
    count=st.integers(1, 12),
    seed=st.randoms(use_true_random=False),
    unknown=st.integers(0, 3),
    doubled=st.integers(0, 3),
    left_out=st.integers(0, 3),
    reads=st.integers(1, 3),
)
def test_rows_are_in_input_order_once_each_whatever_the_streams_did(
    count: int, seed: random.Random, unknown: int, doubled: int, left_out: int, reads: int
) -> None:
    with requests_of(*range(count)) as requests, landing_of(requests) as landing:
        lines = answers(requests, *range(count))
        gone = set(seed.sample(range(count), min(left_out, count)))
        kept = [lines[index] for index in range(count) if index not in gone]
        again = [seed.choice(kept) for _ in range(doubled) if kept]
        others = [line(f"unknown{number}") for number in range(unknown)]
        stream = [*kept, *again, *others]
        for _ in range(reads):
            seed.shuffle(stream)
            summary = read_results(landing, "b", stream)
            assert summary.rows == len(stream)
            assert len(summary.repeated) == len(again)
            assert sorted(summary.unknown) == [f"unknown{number}" for number in range(unknown)]
        found = rows(landing)

        assert [row["index"] for row in found] == list(range(count))
        assert [row["key"] for row in found] == [f"k{index}" for index in range(count)]
        assert [row["text"] for row in found] == [
            None if index in gone else f"answer {index}" for index in range(count)
        ]
        assert {row["status"] for row in found if row["index"] in gone} <= {"missing"}
        assert count_statuses(landing.statuses)["succeeded"] == count - len(gone)
        assert count_statuses(landing.statuses)["missing"] == len(gone)
        assert landing.bill.tokens.output == count - len(gone)
        assert [row["index"] for row in rows(landing, missing=None)] == [n for n in range(count) if n not in gone]


@given(
    endings=st.lists(st.sampled_from(["succeeded", "expired", "canceled", "api_error", "invalid_request_error", None])),
    keys=st.lists(st.text() | st.integers() | st.lists(st.text(max_size=3), max_size=2), unique_by=json.dumps),
)
def test_restored_output_lands_byte_for_byte_the_same(endings: list[str | None], keys: list[Any]) -> None:
    count = min(len(endings), len(keys))
    if not count:
        return
    with requests_of(*range(count), keys=keys) as requests:
        stream = [
            line(
                requests.custom_id(index, TOKEN),
                type_=ending if ending in ("succeeded", "expired", "canceled") else "errored",
                error=ending,
            )
            for index, ending in enumerate(endings[:count])
            if ending is not None
        ]
        with landing_of(requests) as first, landing_of(requests) as second, landing_of(requests) as third:
            read_results(first, "b", stream)
            landed = list(first.lines(missing="gone"))
            second.restore(landed)
            read_results(third, "b", stream)
            third.restore(landed)
            read_results(third, "b", stream)

            for other in (second, third):
                assert list(other.lines(missing="gone")) == landed
                assert other.statuses == first.statuses
                assert count_statuses(other.statuses) == count_statuses(first.statuses)
                assert other.bill.tokens == first.bill.tokens
                assert other.rows.outcomes.stop_reasons() == first.rows.outcomes.stop_reasons()


def test_stream_that_is_cut_and_read_again_counts_nobody_twice() -> None:
    with requests_of(*range(4)) as requests, landing_of(requests) as landing:
        read_results(landing, "b", answers(requests, 3, 1))
        read_results(landing, "b", answers(requests, 0, 1, 2, 3))

        assert texts(landing) == [f"answer {index}" for index in range(4)]
        assert landing.bill.tokens.output == 4


def test_line_that_is_no_result_is_put_aside_and_costs_no_other_line() -> None:
    with requests_of(*range(2)) as requests, landing_of(requests) as landing:
        first, second = answers(requests, 0, 1)
        summary = read_results(landing, "b", [first, b"<html>", second])

        assert texts(landing) == ["answer 0", "answer 1"]
        assert [odd.raw for odd in summary.odd] == [b"<html>"]


def test_stream_without_any_result_is_not_the_api_s() -> None:
    with requests_of(*range(2)) as requests, landing_of(requests) as landing:
        for page in ([b"<html>"], [b'{"type":"error","error":{"type":"api_error","message":"no"}}']):
            with pytest.raises(MalformedResponseError, match="No line of the results is a result"):
                read_results(landing, "b", page)

        assert texts(landing) == [None, None]


def test_rows_may_be_read_again_and_more_may_come_in_between() -> None:
    with requests_of(*range(2)) as requests, landing_of(requests) as landing:
        read_results(landing, "b", answers(requests, 1))
        assert texts(landing) == texts(landing) == [None, "answer 1"]

        read_results(landing, "c", answers(requests, 0))
        assert texts(landing) == ["answer 0", "answer 1"]
        assert [row["batch_id"] for row in rows(landing)] == ["c", "b"]


def test_large_rows_come_back_whole() -> None:
    long = "a\u2028" * 500_000
    with requests_of(*range(3)) as requests, landing_of(requests) as landing:
        read_results(landing, "b", [line(requests.custom_id(1, TOKEN), long)])

        assert texts(landing) == [None, long, None]


# ---------------------------------------------------------------- which answer stays


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        pytest.param({"text": "a"}, {"text": "b"}, "a", id="the first of two answers"),
        pytest.param({"text": "a"}, {"type_": "expired"}, "a", id="an answer before an expiry"),
        pytest.param({"type_": "expired"}, {"text": "b"}, "b", id="an answer after an expiry"),
        pytest.param({"type_": "errored"}, {"text": "b"}, "b", id="an answer after an error"),
        pytest.param({"type_": "errored", "error": "invalid_request_error"}, {"text": "b"}, "b", id="after a refusal"),
        pytest.param(
            {"type_": "errored", "error": "invalid_request_error"}, {"type_": "expired"}, "errored", id="a refusal"
        ),
        pytest.param({"type_": "errored"}, {"type_": "canceled"}, "canceled", id="the later of two open ends"),
    ],
)
def test_answer_of_one_round_is_kept_or_bettered_by_the_next(first: Any, second: Any, stays: str) -> None:
    with requests_of("x") as requests, landing_of(requests) as landing:
        read_results(landing, "b", [line(requests.custom_id(0, TOKEN), **first)])
        read_results(landing, "c", [line(requests.custom_id(0, LATER), **second)])
        (row,) = rows(landing)

        assert stays in (row["text"], row["status"])


# ---------------------------------------------------------------- the input has changed


def test_answers_follow_their_requests_when_the_input_moves() -> None:
    with requests_of("a", "b", "c") as before, requests_of("c", "x", "a") as now, landing_of(now) as landing:
        summary = read_results(landing, "b", answers(before, 0, 1, 2))

        assert texts(landing) == ["answer 2", None, "answer 0"]
        assert [row["key"] for row in rows(landing)] == ["k0", "k1", "k2"]
        assert summary.unknown == [before.custom_id(1, TOKEN)]


def test_landed_rows_follow_their_requests_under_the_new_keys_when_the_input_moves() -> None:
    with requests_of("a", "b") as before, landing_of(before) as old:
        read_results(old, "b", answers(before, 0, 1))
        landed = list(old.lines(missing=None))
    with requests_of("b", "c", "a", keys=["x", "y", "z"]) as now, landing_of(now) as landing:
        landing.restore(landed)

        assert [(row["index"], row["key"], row["text"]) for row in rows(landing, missing=None)] == [
            (0, "x", "answer 1"),
            (2, "z", "answer 0"),
        ]
        assert landing.bill.tokens.output == 2


def test_each_of_two_equal_requests_gets_an_answer_of_its_own_wherever_they_move() -> None:
    with requests_of("a", "b", "a") as before, requests_of("b", "a", "x", "a") as now, landing_of(now) as landing:
        stream = answers(before, 0, 1, 2)
        for _ in range(2):
            read_results(landing, "b", stream)

        assert texts(landing) == ["answer 1", "answer 0", None, "answer 2"]
        assert landing.bill.tokens.output == 3


def test_answer_in_its_own_place_keeps_it_although_another_of_the_same_content_came_first() -> None:
    with requests_of("x", "a", "a") as before, requests_of("a", "a", "a") as now, landing_of(now) as landing:
        read_results(landing, "b", answers(before, 1, 2))

        assert sorted(filter(None, texts(landing))) == ["answer 1", "answer 2"]
        assert landing.bill.tokens.output == 2


def test_answer_whose_own_place_is_taken_by_one_that_has_moved_goes_to_an_equal_request() -> None:
    with (
        requests_of("x", "y", "a") as first,
        requests_of("a") as second,
        requests_of("a", "a") as now,
        landing_of(now) as landing,
    ):
        read_results(landing, "b", answers(first, 2))
        read_results(landing, "c", answers(second, 0, token=LATER))

        assert texts(landing) == ["answer 2", "answer 0"]
        assert landing.bill.tokens.output == 2


def test_request_that_was_answered_twice_gives_the_spare_answer_to_an_equal_one() -> None:
    with requests_of("a", "a", "b") as requests, landing_of(requests) as landing:
        read_results(landing, "b1", [line(requests.custom_id(0, TOKEN), "first")])
        for _ in range(2):  # a batch may be read again
            read_results(landing, "b2", [line(requests.custom_id(0, LATER), "spare")])
        assert texts(landing) == ["first", "spare", None]
        read_results(landing, "b1", [line(requests.custom_id(0, TOKEN), "first")])
        assert texts(landing) == ["first", "spare", None]
        assert landing.bill.tokens.output == 2


def test_open_end_of_a_moved_request_does_not_take_an_answer_s_place() -> None:
    with requests_of("x", "a", "a") as before, requests_of("a") as now, landing_of(now) as landing:
        read_results(landing, "b", [line(before.custom_id(1, TOKEN), type_="expired"), *answers(before, 2)])

        assert texts(landing) == ["answer 2"]


def test_index_beyond_the_input_belongs_to_no_request() -> None:
    with requests_of("a", "b", "c") as before, requests_of("x") as now, landing_of(now) as landing:
        assert len(read_results(landing, "b", answers(before, 0, 2)).unknown) == 2


def test_custom_id_with_a_number_without_end_belongs_to_no_request() -> None:
    custom_id = f"{TOKEN}-{'9' * 5000}-{'x' * 22}"
    with requests_of("x") as requests, landing_of(requests) as landing:
        assert read_results(landing, "b", [line(custom_id)]).unknown == [custom_id]


# ---------------------------------------------------------------- duplicates


def test_duplicate_has_the_same_answer_and_is_not_billed() -> None:
    with requests_of("a", "b", "a", deduplicate=True) as requests, landing_of(requests) as landing:
        read_results(landing, "b", answers(requests, 1, 0))
        landed = list(landing.lines(missing=None))
        found = [json.loads(row) for row in landed]

        assert [row["text"] for row in found] == ["answer 0", "answer 1", "answer 0"]
        assert [row["cost_usd"] == "0" for row in found] == [False, False, True]
        assert landing.bill.tokens.output == 2
        assert count_statuses(landing.statuses)["succeeded"] == 3
        with landing_of(requests) as again:
            again.restore(landed)
            assert list(again.lines(missing=None)) == landed
            assert again.bill.tokens.output == 2


def test_duplicate_of_a_request_without_an_answer_has_none_either() -> None:
    with requests_of("a", "a", deduplicate=True) as requests, landing_of(requests) as landing:
        assert [row["status"] for row in rows(landing)] == ["missing", "missing"]

        read_results(landing, "b", [line(requests.custom_id(0, TOKEN), type_="expired")])
        assert [row["status"] for row in rows(landing)] == ["expired", "expired"]


def test_duplicate_of_a_repairable_request_has_its_answer() -> None:
    schema = read_schema({"type": "object", "properties": {"n": {"type": "integer", "minimum": 0}}})
    with (
        requests_of("a", "a", deduplicate=True, output_config={"format": schema.format}) as requests,
        Landing(SubmissionMatcher(requests, OutputValidator(schema)), prices=TABLE) as landing,
    ):
        read_results(landing, "b", [line(requests.custom_id(0, TOKEN), '{"n": -1}')])

        assert list(landing.repairable()) == [0, 1]
        assert landing.answer(1) == landing.answer(0)
        assert landing.answer(1).batch_id == "b"


def test_answer_to_a_request_that_has_become_a_duplicate_serves_both() -> None:
    with requests_of("a", "a") as before, requests_of("a", "a", deduplicate=True) as now, landing_of(now) as landing:
        read_results(landing, "b", answers(before, 1))

        assert texts(landing) == ["answer 1", "answer 1"]


# ---------------------------------------------------------------- batches made elsewhere


def external(count: int) -> Landing:
    return Landing(ExternalMatcher(count), prices=TABLE)


def test_external_rows_come_in_order_of_arrival_under_their_custom_ids() -> None:
    with external(3) as landing:
        read_results(landing, "b", [line("z"), line("a")])
        read_results(landing, "c", [line("m")])

        assert [(row["index"], row["key"], row["batch_id"]) for row in rows(landing)] == [
            (0, "z", "b"),
            (1, "a", "b"),
            (2, "m", "c"),
        ]


def test_custom_id_is_unique_in_its_batch_only() -> None:
    with external(2) as landing:
        read_results(landing, "b", [line("a", "first")])
        read_results(landing, "c", [line("a", "second")])
        read_results(landing, "c", [line("a", "second")])

        assert [(row["key"], row["text"]) for row in rows(landing)] == [("a", "first"), ("a", "second")]


def test_external_row_that_is_missing_has_no_key() -> None:
    with external(2) as landing:
        read_results(landing, "b", [line("a")])

        assert [(row["key"], row["status"]) for row in rows(landing)] == [("a", "succeeded"), (None, "missing")]


def test_external_row_beyond_the_count_is_unknown() -> None:
    with external(1) as landing:
        assert read_results(landing, "b", [line("a"), line("b")]).unknown == ["b"]


def test_external_rows_are_restored_by_batch() -> None:
    with external(2) as first:
        read_results(first, "b", [line("a", "first")])
        read_results(first, "c", [line("a", "second")])
        landed = list(first.lines(missing=None))
    with external(2) as landing:
        landing.restore(landed)

        assert list(landing.lines(missing=None)) == landed


# ---------------------------------------------------------------- the file


def stopped(custom_id: str, reason: str | None) -> bytes:
    result = json.loads(line(custom_id))
    result["result"]["message"]["stop_reason"] = reason
    return json.dumps(result).encode()


def test_stop_reasons_are_counted_as_the_rows_have_them() -> None:
    with requests_of(*range(6)) as requests, landing_of(requests) as landing:
        reasons = ["end_turn", "max_tokens", "refusal", None, "end_turn"]
        lines = [stopped(requests.custom_id(index, TOKEN), reason) for index, reason in enumerate(reasons)]
        read_results(landing, "b", [*lines, line(requests.custom_id(5, TOKEN), type_="expired")])
        read_results(landing, "b", lines)

        assert landing.rows.outcomes.stop_reasons() == {"end_turn": 2, "max_tokens": 1, "refusal": 1, "none": 1}
        assert [row["stop_reason"] for row in rows(landing)] == [*reasons, None]


def test_more_stop_reasons_than_a_byte_can_tell_apart_are_no_failure() -> None:
    with requests_of(*range(300)) as requests, landing_of(requests) as landing:
        read_results(
            landing, "b", [stopped(requests.custom_id(index, TOKEN), f"reason {index}") for index in range(300)]
        )

        assert count_statuses(landing.statuses)["succeeded"] == 300
        assert landing.rows.outcomes.stop_reasons()["reason 253"] == 1


@pytest.mark.parametrize("kind", ["disk", "object store"])
def test_publishing_writes_the_rows_and_answers_their_size(kind: str, tmp_path: Path) -> None:
    store = ObjectFolder(MemoryFileSystem(), f"/{tmp_path.name}", uri="memory://x")
    folder = LocalFolder(tmp_path) if kind == "disk" else store
    with requests_of("a", "b") as requests, landing_of(requests) as landing:
        read_results(landing, "b", answers(requests, 0))
        size = publish_rows(landing, folder, missing="gone").size
        file = folder.open("results.jsonl")
        assert file is not None
        with file:
            data = file.read()

        assert data == b"".join(landing.lines(missing="gone"))
        assert size == len(data)


def test_storage_that_refuses_leaves_what_was_landed_before(tmp_path: Path) -> None:
    class Full(LocalFolder):
        def replace_file(self, name: str) -> Any:
            raise OSError(28, "No space left on device")

    (tmp_path / "results.jsonl").write_bytes(b"before")
    refusal = pytest.raises(ResultsError, match=r"(?s)No space left.*landed before is untouched.*pays nothing")
    with requests_of("a") as requests, landing_of(requests) as landing, refusal:
        publish_rows(landing, Full(tmp_path), missing=None)

    assert (tmp_path / "results.jsonl").read_bytes() == b"before"


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-10], id="cut"),
        pytest.param(lambda data: b"\0" * 20, id="zeros"),
        pytest.param(lambda data: data.replace(b'"status"', b'"state"', 1), id="another field"),
        pytest.param(lambda data: data.replace(b'"succeeded"', b'"later"', 1), id="status not known"),
        pytest.param(lambda data: data.replace(b'"index":0', b'"index": 0', 1), id="written by somebody else"),
        pytest.param(lambda data: data.replace(b"hi secret", b"hi \xff secret", 1), id="not UTF-8"),
        pytest.param(lambda data: data.replace(b'"output":null', b'"output":1e999', 1), id="a number beyond all"),
    ],
)
def test_damaged_row_is_refused_with_its_line_and_without_its_text(damage: Any) -> None:
    with requests_of("a", "b") as requests:
        with landing_of(requests) as first:
            read_results(first, "b", [line(requests.custom_id(0, TOKEN), "hi secret"), *answers(requests, 1)])
            good, other = first.lines(missing=None)
        with landing_of(requests) as landing, pytest.raises(ResultsError, match="Line 2 of the landed") as error:
            landing.restore(iter([other, damage(good)]))

    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None


def test_rows_of_an_empty_file_restore_nothing() -> None:
    with requests_of("a") as requests, landing_of(requests) as landing:
        landing.restore(io.BytesIO(b""))

        assert landing.statuses == bytearray([Status.NONE])
        assert list(landing.lines(missing=None)) == []
