from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from clients import BATCH

from airflow_claude_batch.api import wire
from airflow_claude_batch.api.model_info import ModelInfo
from airflow_claude_batch.exceptions import MalformedResponseError

MESSAGE = {
    "model": "claude-haiku-5-5",
    "id": "msg_01Example",
    "type": "message",
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "posi", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "n", "input": {"text": "no"}, "caller": {"type": "direct"}},
        {"type": "text", "text": "tive"},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "stop_details": None,
    "container": None,
    "usage": {
        "input_tokens": 14,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 2,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 5,
        "output_tokens_details": {"thinking_tokens": 4},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "batch",
        "inference_geo": "not_available",
        "speed": None,
    },
}


def line(result: object, custom_id: str = "run42-0001") -> bytes:
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def test_batch_with_unknown_fields_is_read():
    batch = wire.decode(json.dumps(BATCH | {"type": "message_batch", "news": [1]}).encode(), wire.MessageBatch)

    assert batch.id == BATCH["id"]
    assert batch.request_counts.total == 2
    assert batch.created_at == datetime(2026, 11, 22, 9, 0, 0, 123456, UTC)
    assert not batch.ended
    assert batch.server_time is None


@pytest.mark.parametrize(
    ("status", "ended"), [("in_progress", False), ("canceling", False), ("ended", True), ("resting", False)]
)
def test_unknown_status_is_not_ended(status, ended):
    batch = wire.decode(json.dumps(BATCH | {"processing_status": status}).encode(), wire.MessageBatch)

    assert batch.ended is ended


@pytest.mark.parametrize(
    "text", ["2026-11-22T09:00:00Z", "2026-11-22T09:00:00.000000+00:00", "2026-11-22T10:00:00+01:00"]
)
def test_times_are_aware_in_every_form(text):
    batch = wire.decode(json.dumps(BATCH | {"created_at": text}).encode(), wire.MessageBatch)

    assert batch.created_at == datetime(2026, 11, 22, 9, tzinfo=UTC)


NINE = datetime(2026, 11, 22, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-22T09:00:00",
        "2026-11-22 09:00:00",
        "2026-11-22T09:00:00+0000",
        "20261122T090000Z",
        "Sun, 22 Nov 2026 09:00:00 GMT",
        1795338000,
        1795338000.0,
        "1795338000",
        1795338000_000,
        1795338000_000_000,
        1795338000_000_000_000,
    ],
    ids=repr,
)
def test_times_of_gateways_are_utc_in_every_form(value):
    times = {"created_at": value, "ended_at": value}
    batch = wire.decode(json.dumps(BATCH | times).encode(), wire.MessageBatch)

    assert (batch.created_at, batch.ended_at) == (NINE, NINE)
    assert batch.expires_at == datetime(2026, 11, 23, 9, 0, 0, 123456, UTC)


def test_a_batch_without_a_creation_time_was_created_a_day_before_it_expires():
    body = BATCH | {"created_at": None, "expires_at": "2026-11-23T09:00:00Z"}

    assert wire.decode(json.dumps(body).encode(), wire.MessageBatch).created_at == NINE


def test_an_optional_time_that_is_none_is_left_out():
    body = BATCH | {"expires_at": "never", "ended_at": [], "archived_at": 1e300, "results_url": 7}
    batch = wire.decode(json.dumps(body).encode(), wire.MessageBatch)

    assert (batch.expires_at, batch.ended_at, batch.archived_at, batch.results_url) == (None,) * 4


@pytest.mark.parametrize(
    ("counts", "total"),
    [
        (None, 0),
        ({}, 0),
        ([], 0),
        ("none", 0),
        ({"processing": None, "succeeded": 20, "errored": None}, 20),
        ({"succeeded": 20.0}, 20),
        ({"succeeded": "20"}, 20),
        ({"succeeded": True, "errored": "many", "expired": 0.5}, 0),
    ],
    ids=repr,
)
def test_counts_of_gateways_are_read_as_far_as_they_are_numbers(counts, total):
    batch = wire.decode(json.dumps(BATCH | {"request_counts": counts}).encode(), wire.MessageBatch)

    assert batch.request_counts.total == total
    assert all(type(getattr(batch.request_counts, name)) is int for name in wire.RequestCounts.__struct_fields__)


def test_a_batch_without_counts_is_read():
    body = {name: value for name, value in BATCH.items() if name != "request_counts"}

    assert wire.decode(json.dumps(body).encode(), wire.MessageBatch).request_counts.total == 0


@pytest.mark.parametrize(
    ("status", "normal"),
    [
        ("Ended", "ended"),
        ("ENDED", "ended"),
        (" ended ", "ended"),
        ("In_Progress", "in_progress"),
        ("in-progress", "in_progress"),
        ("inProgress", "in_progress"),
        ("Cancelling", "canceling"),
        ("Resting", "Resting"),
    ],
)
def test_a_status_is_known_in_every_case(status, normal):
    batch = wire.decode(json.dumps(BATCH | {"processing_status": status}).encode(), wire.MessageBatch)

    assert (batch.processing_status, batch.ended) == (normal, normal == "ended")


@pytest.mark.parametrize("batch_id", ["bW9kZWxfYmF0Y2g=", "batch:07", "projects/p/batches/7", "batch.b+c"])
def test_ids_of_gateways_are_read(batch_id):
    assert wire.decode(json.dumps(BATCH | {"id": batch_id}).encode(), wire.MessageBatch).id == batch_id


def test_an_odd_entry_of_a_page_is_counted_and_costs_no_other_entry():
    odd = [None, 7, "text", [], {}, BATCH | {"id": "../x"}, BATCH | {"created_at": "never"}, {"type": "error"}]
    naive = BATCH | {"id": "batch:02", "created_at": "2026-11-22T09:00:00", "request_counts": None}
    page = {"data": [odd[0], BATCH, *odd[1:], naive], "has_more": True, "first_id": None, "last_id": "batch:02"}
    read = wire.decode(json.dumps(page).encode(), wire.BatchPage)

    assert [batch.id for batch in read.data] == [BATCH["id"], "batch:02"]
    assert (read.unreadable, read.has_more, read.first_id, read.last_id) == (len(odd), True, None, "batch:02")


@pytest.mark.parametrize(
    "page", [{"data": None, "has_more": False}, {"data": {}}, {"has_more": False}, [], {"data": []}]
)
def test_a_page_without_entries_or_without_an_end_is_malformed(page):
    with pytest.raises(MalformedResponseError):
        wire.decode(json.dumps(page).encode(), wire.BatchPage)


def test_a_cursor_of_an_odd_entry_is_left_out_and_any_other_odd_cursor_is_malformed():
    odd = BATCH | {"id": "a b"}
    page = {"data": [odd, BATCH, odd], "has_more": True, "first_id": "a b", "last_id": "a b"}
    read = wire.decode(json.dumps(page).encode(), wire.BatchPage)

    assert (read.first_id, read.last_id, read.unreadable) == (None, None, 2)
    with pytest.raises(MalformedResponseError):
        wire.decode(json.dumps(page | {"first_id": "../models"}).encode(), wire.BatchPage)


def test_missing_counts_are_zero():
    assert wire.decode(b'{"succeeded":3}', wire.RequestCounts).total == 3


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"<html></html>",
        b'{"id":7}',
        b'{"id":"\xff"}',
        b"[" * 100_000,
        json.dumps(BATCH | {"created_at": "this morning"}).encode(),
        json.dumps(BATCH | {"created_at": None, "expires_at": None}).encode(),
        json.dumps(BATCH | {"created_at": True}).encode(),
        json.dumps(BATCH | {"processing_status": None}).encode(),
        json.dumps(BATCH | {"created_at": "9999-12-31T23:59:59Z"}).encode(),
        json.dumps(BATCH | {"created_at": "0001-01-01T00:00:00Z"}).encode(),
        json.dumps(BATCH | {"id": "../../v1/models"}).encode(),
        json.dumps(BATCH | {"id": "msgbatch_1?x=1"}).encode(),
        json.dumps(BATCH | {"id": "msgbatch_1\n"}).encode(),
        json.dumps(BATCH | {"id": ""}).encode(),
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "html",
        "wrong type",
        "not utf-8",
        "too deep",
        "no time",
        "no times at all",
        "a boolean as time",
        "no status",
        "year 9999",
        "year 1",
        "path",
        "query",
        "line break",
        "no id",
    ],
)
def test_data_that_is_not_a_batch_is_malformed(data):
    with pytest.raises(MalformedResponseError) as caught:
        wire.decode(data, wire.MessageBatch)

    assert caught.value.__context__ is None or not isinstance(caught.value.__cause__, UnicodeDecodeError)
    assert len(str(caught.value)) < 200


def test_a_succeeded_line_keeps_its_message_undecoded():
    row = wire.decode_result_line(line({"type": "succeeded", "message": MESSAGE}))

    assert (row.custom_id, row.result.type) == ("run42-0001", "succeeded")
    assert json.loads(bytes(row.result.message)) == MESSAGE
    assert row.result.error is None


def test_an_errored_line_has_its_error_nested_twice():
    envelope = {
        "type": "error",
        "error": {
            "details": {"error_visibility": "user_facing"},
            "type": "invalid_request_error",
            "message": "messages: Field required",
        },
        "request_id": None,
    }
    row = wire.decode_result_line(line({"type": "errored", "error": envelope}))
    error = wire.decode_error(row.result.error)

    assert row.result.message is None
    assert (error.type, error.message) == ("invalid_request_error", "messages: Field required")
    assert (error.error_code, error.request_id) == (None, None)


@pytest.mark.parametrize(
    "result",
    [{"type": "canceled"}, {"type": "expired"}, {"type": "postponed", "until": 7}, {"type": "x", "message": None}],
    ids=lambda result: result["type"],
)
def test_other_lines_have_neither_message_nor_error(result):
    row = wire.decode_result_line(line(result))

    assert row.result.type == result["type"]
    assert row.result.message is None
    assert row.result.error is None


@pytest.mark.parametrize("payload", [b"true", b"nope"[:0] + b"1234"])
def test_only_null_counts_as_nothing(payload):
    row = wire.decode_result_line(b'{"custom_id":"a","result":{"type":"x","message":' + payload + b"}}")

    assert bytes(row.result.message) == payload


@pytest.mark.parametrize(
    "data", [b"", b'{"custom_id":"a"', b'{"result":{"type":"x"}}', b"<html>", b'{"custom_id":"a"}']
)
def test_a_line_that_is_no_result_is_malformed(data):
    with pytest.raises(MalformedResponseError):
        wire.decode_result_line(data)


def test_the_usage_of_a_message_is_read_for_its_price():
    usage = wire.decode(json.dumps(MESSAGE["usage"]).encode(), wire.Usage)

    assert usage.cache_creation.ephemeral_1h_input_tokens == 2
    assert usage.output_tokens_details.thinking_tokens == 4
    assert usage.server_tool_use.web_search_requests == 1
    assert usage.service_tier == "batch"


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"error_code": "cmek_key_disabled"}, "cmek_key_disabled"),
        ({"error_code": 7}, None),
        ({}, None),
        (None, None),
        ("text", None),
    ],
    ids=repr,
)
def test_an_error_code_is_text_or_nothing(details, code):
    body = {"error": {"type": "rate_limit_error", "message": "m", "details": details}, "request_id": "req_1"}

    assert wire.decode_error(json.dumps(body).encode()).error_code == code


@pytest.mark.parametrize(
    ("capabilities", "supported"),
    [({"batch": {"supported": True}}, True), ({"batch": {"supported": False}}, False), ({}, None), (None, None)],
    ids=repr,
)
def test_a_model_says_whether_it_runs_in_batches(capabilities, supported):
    model = wire.decode(json.dumps({"id": "m", "capabilities": capabilities}).encode(), ModelInfo)

    assert model.batch_supported is supported


def test_servers_time_is_added_to_a_batch_and_to_each_batch_of_a_page():
    now = datetime(2026, 11, 22, 9, tzinfo=UTC)
    batch = wire.decode(json.dumps(BATCH).encode(), wire.MessageBatch)
    page = wire.decode(json.dumps({"data": [BATCH], "has_more": False}).encode(), wire.BatchPage)

    assert wire.with_server_time(batch, now).server_time == now
    assert wire.with_server_time(page, now).server_time == now
    assert wire.with_server_time(page, now).data[0].server_time == now
    assert wire.with_server_time(wire.TokenCount(3), now) == wire.TokenCount(3)


def test_a_hundred_thousand_lines_are_decoded_quickly():
    data = line({"type": "succeeded", "message": MESSAGE})
    begun = time.process_time()
    for _ in range(100_000):
        wire.decode_result_line(data)

    assert time.process_time() - begun < 3


def test_results_are_values():
    result = wire.Result("succeeded", msgspec.Raw(b"{}"))

    assert bytes(result.message) == b"{}"
    with pytest.raises(AttributeError):
        result.type = "errored"


# ---------------------------------------------------------------- usage in a new form


@pytest.mark.parametrize(
    ("fields", "is_known"),
    [
        pytest.param({"service_tier": {"name": "batch"}}, True, id="tier is an object"),
        pytest.param({"service_tier": 7, "speed": ["fast"], "output_tokens_details": "none"}, True, id="bill nothing"),
        pytest.param({"output_tokens_details": {"thinking_tokens": 1.5}}, True, id="detail is a float"),
        pytest.param({"cache_creation": None, "server_tool_use": None, "iterations": None}, True, id="nulls"),
        pytest.param({"new_field": {"a": [1]}}, True, id="new field"),
        pytest.param({"input_tokens": None}, False, id="null tokens"),
        pytest.param({"input_tokens": 10.0}, False, id="float"),
        pytest.param({"output_tokens": "10"}, False, id="text"),
        pytest.param({"output_tokens": {"text": 10}}, False, id="object"),
        pytest.param({"output_tokens": -1}, False, id="negative"),
        pytest.param({"output_tokens": 10**17}, False, id="out of range"),
        pytest.param({"cache_read_input_tokens": -1}, False, id="negative cache"),
        pytest.param({"cache_creation": {"ephemeral_1h_input_tokens": None}}, False, id="null in the cache"),
        pytest.param({"cache_creation_input_tokens": [1]}, False, id="list"),
        pytest.param({"server_tool_use": {"web_search_requests": "3"}}, False, id="searches as text"),
        pytest.param({"inference_geo": {"region": "us"}}, False, id="geo is an object"),
    ],
)
def test_usage_in_a_new_form_is_known_unless_what_is_billed_has_changed(fields: dict[str, Any], is_known: bool) -> None:
    usage = wire.decode_usage(json.dumps({"input_tokens": 10, "output_tokens": 5, **fields}).encode())

    assert (usage is not None) == is_known
    assert usage is None or (usage.input_tokens, usage.output_tokens) == (10, 5)


@pytest.mark.parametrize(
    "raw", [b"null", b"[]", b'"10"', b"7", b"{}", b'{"input_tokens":1}', b"{", b"\xff", b"[" * 10**5]
)
def test_usage_that_is_no_usage_is_not_known(raw: bytes) -> None:
    assert wire.decode_usage(raw) is None
