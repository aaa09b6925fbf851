from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.parse_result import ParsedResult, parse_result
from airflow_claude_batch.batch.land.rows import ANSWERED, FINAL, Row, Status, body_of_duplicate, body_of_missing
from airflow_claude_batch.batch.money.pricing import PriceTable

TABLE = PriceTable.load()
USAGE = {"input_tokens": 1_000_000, "output_tokens": 10, "cache_read_input_tokens": 5}


def message(*blocks: Any, **fields: Any) -> dict[str, Any]:
    content = list(blocks) or [{"type": "text", "text": "hi"}]
    return {
        "id": "msg_1",
        "model": "claude-haiku-5-5",
        "content": content,
        "usage": USAGE,
        "stop_reason": "end_turn",
        **fields,
    }


def parse(type_: str = "succeeded", **result: Any) -> ParsedResult:
    line = json.dumps({"custom_id": "c", "result": {"type": type_, **result}}, ensure_ascii=False)
    return parse_result(wire.decode_result_line(line.encode()), "b", TABLE)


def row(parsed: ParsedResult) -> Row:
    """The row as it is landed and read again."""
    return msgspec.json.decode(b'{"index":7,"key":"k",' + parsed.body, type=Row)


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


# ---------------------------------------------------------------- succeeded


def test_succeeded_result_becomes_a_row_with_text_usage_cost_and_the_whole_message() -> None:
    sent = message(text("h\u2028i 𝄞"), later_field={"a": [1]})
    read = parse(message=sent)

    assert read.status is Status.SUCCEEDED
    assert (read.model, read.stop_reason) == ("claude-haiku-5-5", "end_turn")
    assert row(read) == Row(
        index=7,
        key="k",
        status="succeeded",
        text="h\u2028i 𝄞",
        stop_reason="end_turn",
        model="claude-haiku-5-5",
        usage=USAGE,
        cost_usd=TABLE.charge(msgspec.convert(USAGE, wire.Usage), "claude-haiku-5-5").usd,
        batch_id="b",
        custom_id="c",
        message=sent,
    )


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        pytest.param([text("a"), text("b")], "ab", id="several text blocks"),
        pytest.param([{"type": "thinking", "thinking": "hm"}, text("a")], "a", id="thinking first"),
        pytest.param([{"type": "tool_use", "id": "t", "name": "n", "input": {}}], None, id="no text block"),
        pytest.param([{"type": "later", "text": "x"}, text("")], "", id="empty text"),
    ],
)
def test_text_is_that_of_the_text_blocks(blocks: list[Any], expected: str | None) -> None:
    assert row(parse(message=message(*blocks))).text == expected


def test_answer_without_blocks_has_no_text() -> None:
    assert row(parse(message={**message(), "content": []})).text is None


def test_refusal_of_the_model_is_an_answer_that_says_so() -> None:
    read = parse(message={**message(stop_reason="refusal"), "content": []})

    assert read.status is Status.SUCCEEDED
    assert row(read).stop_reason == "refusal"


def test_model_without_a_price_has_no_cost() -> None:
    assert row(parse(message=message(model="claude-next"))).cost_usd is None


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(None, id="no message"),
        pytest.param("hi", id="text"),
        pytest.param({}, id="empty"),
        pytest.param({**message(), "content": "hi"}, id="content of text"),
    ],
)
def test_succeeded_result_without_a_proper_message_is_kept_and_not_asked_for_again(sent: Any) -> None:
    read = parse(message=sent)

    assert read.status is Status.INVALID_OUTPUT
    assert read.status in FINAL - ANSWERED
    landed = row(read)
    assert landed.status == "invalid_output"
    assert landed.error is not None
    assert landed.error["type"] == "unreadable_message"
    assert "answered and billed" in landed.error["message"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"content": "hi"}, "hi", id="content of text"),
        pytest.param({"content": ["h", "i"]}, "hi", id="texts for blocks"),
        pytest.param({"content": [{"text": "h"}, None, {"type": 7, "text": "i"}]}, "hi", id="blocks without a type"),
        pytest.param({"content": {"type": "text", "text": "hi"}}, "hi", id="one block"),
        pytest.param({"content": [{"type": "text", "text": 5}]}, None, id="no text"),
        pytest.param({"model": None, "content": [text("hi")]}, "hi", id="no model"),
        pytest.param({"stop_reason": {}, "content": [text("hi")]}, "hi", id="odd stop reason"),
    ],
)
def test_unreadable_message_gives_the_texts_that_are_in_it(change: dict[str, Any], expected: str | None) -> None:
    landed = row(parse(message={**message(), **change}))

    assert (landed.status, landed.text) == ("invalid_output", expected)


@pytest.mark.parametrize("type_", ["errored", "expired", "canceled", "paused", "Succeeded"])
def test_message_of_a_result_that_has_no_error_is_an_answer(type_: str) -> None:
    read = parse(type_, message=message(text("hi")))

    assert read.status is Status.SUCCEEDED
    assert row(read).text == "hi"
    assert read.charge is not None


@pytest.mark.parametrize("sent", [{}, "expired", [], {"content": []}])
def test_expired_result_with_something_else_for_a_message_has_no_answer(sent: Any) -> None:
    assert parse("expired", message=sent).status is Status.EXPIRED


def test_unreadable_message_is_kept_whole() -> None:
    assert row(parse(message={**message(), "content": "hi"})).message == {**message(), "content": "hi"}


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(None, id="null"),
        pytest.param("none", id="text"),
        pytest.param([1], id="list"),
        pytest.param({}, id="empty"),
        pytest.param({"input_tokens": "1", "output_tokens": "2"}, id="numbers as text"),
        pytest.param({"input_tokens": None, "output_tokens": None}, id="nulls"),
        pytest.param({"input_tokens": 1.5, "output_tokens": 2}, id="fractions"),
        pytest.param({"input_tokens": {"total": 1}, "output_tokens": {"total": 2}}, id="objects"),
    ],
)
def test_answer_with_usage_in_a_new_form_is_kept_and_its_cost_is_not_known(usage: Any) -> None:
    read = parse(message={**message(), "usage": usage})

    assert read.status is Status.SUCCEEDED
    landed = row(read)
    assert (landed.text, landed.cost_usd, landed.error) == ("hi", None, None)
    assert (landed.message or {})["usage"] == usage
    assert landed.usage == (usage if isinstance(usage, dict) else None)


def test_answer_without_usage_is_kept() -> None:
    sent = message()
    del sent["usage"]

    assert row(parse(message=sent)).text == "hi"


def test_message_that_is_not_utf_8_is_left_out_of_the_row() -> None:
    line = b'{"custom_id":"c","result":{"type":"succeeded","message":{"model":"secret\xff"}}}'
    read = parse_result(wire.decode_result_line(line), "b", TABLE)

    assert row(read).message is None
    assert b"secret" not in read.body


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(b'"\xff"', id="not UTF-8"),
        pytest.param(b"1e999", id="a number beyond all"),
        pytest.param(b"9" * 5000, id="a number without end"),
    ],
)
@pytest.mark.parametrize("usage_field", [None, *wire.Usage.__struct_fields__])
def test_message_with_invalid_json_in_an_unknown_field_is_kept_as_invalid(odd: bytes, usage_field: str | None) -> None:
    """A row copies the whole message: what nobody reads must not make the row unreadable."""
    later = {"later_field": "odd"}
    fields = {"later_field": later} if usage_field is None else {"usage": {**USAGE, usage_field: later}}
    sent = json.dumps(message(**fields)).encode().replace(b'"odd"', odd)
    line = b'{"custom_id":"c","result":{"type":"succeeded","message":%b}}' % sent
    read = parse_result(wire.decode_result_line(line), "b", TABLE)

    assert read.status is Status.INVALID_OUTPUT
    assert (row(read).error or {})["type"] == "unreadable_message"


# ---------------------------------------------------------------- not succeeded


@pytest.mark.parametrize(
    ("type_", "status", "word"),
    [("expired", Status.EXPIRED, "expired"), ("canceled", Status.CANCELED, "canceled")],
)
def test_unprocessed_result_becomes_a_row_without_an_answer(type_: str, status: Status, word: str) -> None:
    read = parse(type_)

    assert read.status is status
    error = row(read).error
    assert row(read) == Row(index=7, key="k", status=word, batch_id="b", custom_id="c", error=error)


@pytest.mark.parametrize(
    ("error_type", "status"),
    [
        ("invalid_request_error", Status.REFUSED),
        ("not_found_error", Status.REFUSED),
        ("api_error", Status.ERRORED),
        ("overloaded_error", Status.ERRORED),
        ("timeout_error", Status.ERRORED),
        ("rate_limit_error", Status.ERRORED),
        ("brand_new_error", Status.ERRORED),
    ],
)
def test_errored_result_is_final_only_if_the_same_request_would_meet_it_again(error_type: str, status: Status) -> None:
    nested = {"type": "error", "error": {"type": error_type, "message": "why"}, "request_id": "req_1"}
    read = parse("errored", error=nested)

    assert read.status is status
    assert row(read).status == "errored"
    assert row(read).error == {"type": error_type, "message": "why", "request_id": "req_1"}


@pytest.mark.parametrize(
    ("type_", "result", "error"),
    [
        pytest.param("errored", {}, {"type": "errored", "message": "of type 'errored' without"}, id="no error"),
        pytest.param("errored", {"error": None}, {"type": "errored", "message": "without an error"}, id="null"),
        pytest.param("errored", {"error": "why"}, {"type": "unknown", "message": "why"}, id="text"),
        pytest.param("errored", {"error": {"type": "error"}}, {"type": "unknown", "message": "error"}, id="empty"),
        pytest.param(
            "errored", {"error": {"error": {}}}, {"type": "unknown", "message": "gave no reason"}, id="nothing inside"
        ),
        pytest.param(
            "errored",
            {"error": {"error": {"error": {"error": {"message": "why"}}}}},
            {"type": "unknown", "message": "why"},
            id="deep inside",
        ),
        pytest.param("paused", {}, {"type": "paused", "message": "result of type 'paused'"}, id="type not known yet"),
    ],
)
def test_odd_result_is_kept_as_an_error_that_a_retry_may_mend(type_: str, result: Any, error: dict[str, Any]) -> None:
    read = parse(type_, **result)
    landed = row(read)

    assert read.status is Status.ERRORED
    assert landed.error is not None
    assert landed.error["type"] == error["type"]
    assert error["message"] in landed.error["message"]


@pytest.mark.parametrize(
    ("type_", "says"), [("expired", "within the 24 hours of its batch"), ("canceled", "was canceled before the API")]
)
def test_row_that_was_not_processed_says_why_and_that_it_is_not_billed(type_: str, says: str) -> None:
    error = row(parse(type_)).error or {}

    assert error["type"] == type_
    assert says in error["message"]
    assert error["message"].endswith("It is not billed.")


# ---------------------------------------------------------------- the rest


def test_words_of_the_statuses_are_those_of_the_rows() -> None:
    assert [status.word for status in Status] == [
        "missing",
        "succeeded",
        "invalid_output",
        "errored",
        "errored",
        "expired",
        "canceled",
        "invalid_output",
        "succeeded",
    ]


def test_missing_row_says_why() -> None:
    landed = row(ParsedResult(Status.NONE, body_of_missing("no row came")))

    assert landed.status == "missing"
    assert landed.error == {"type": "missing", "message": "no row came"}
    assert landed.custom_id is None


def test_duplicate_has_the_same_answer_and_no_cost() -> None:
    first = parse(message=message())
    duplicate = row(ParsedResult(Status.SUCCEEDED, body_of_duplicate(first.body)))

    assert duplicate.text == "hi"
    assert (duplicate.usage, duplicate.cost_usd) == (None, "0")
    assert duplicate.custom_id == row(first).custom_id
