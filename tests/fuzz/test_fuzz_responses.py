"""HTTP responses of any form: each becomes a value or an error of ours in short lines, and none redirects a call."""

from __future__ import annotations

import asyncio
import json
import math
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from fuzzing import damaged, fuzzed, json_values, mutated, texts
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.client import AsyncClaudeClient, ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.headers import http_date, retry_after_seconds
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.recover import search
from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.batch.wait.poll_round import ListPage, poll_round
from airflow_claude_batch.batch.wait.schedule import classify_error
from airflow_claude_batch.exceptions import APIError, APIStatusError

KEY = "a-gateways-own-key-0123"
TOKEN = "team-token-of-the-gateway"
BATCH = {
    "id": "msgbatch_01AbCd",
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "ended_at": None,
    "created_at": "2026-11-22T09:00:00.123456+00:00",
    "expires_at": "2026-11-23T09:00:00Z",
    "results_url": None,
}
PAGE = {"data": [BATCH], "has_more": False, "first_id": BATCH["id"], "last_id": BATCH["id"]}
ERROR = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "busy", "details": {"error_code": "x"}},
    "request_id": "req_1",
}
CALLS = {
    "create": (lambda client: client.create_batch(b'{"requests":[]}'), BATCH),
    "retrieve": (lambda client: client.retrieve_batch("msgbatch_1"), BATCH),
    "list": (lambda client: client.list_batches(), PAGE),
    "cancel": (lambda client: client.cancel_batch("msgbatch_1"), BATCH),
    "delete": (lambda client: client.delete_batch("msgbatch_1"), {"id": "msgbatch_1"}),
    "count_tokens": (lambda client: client.count_tokens({}), {"input_tokens": 1}),
    "models": (lambda client: client.list_models(), {"data": [{"id": "m"}], "has_more": False}),
}

ASYNC_CALLS = [CALLS[name][0] for name in ("retrieve", "list", "cancel")]

dates = st.sampled_from(
    [
        "Sun, 22 Nov 2026 09:00:00 GMT",
        "Sun, 22 Nov 99999999999999999999 09:00:00 GMT",
        "Sun, 22 Nov 2026 09:00:00 +9999999999",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Fri, 31 Dec 9999 23:59:59 -2359",
        "Sun, 99 Nov 2026 09:00:00 GMT",
        "22 11",
        "",
    ]
)
header_texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12)
numbers = st.sampled_from(
    ["10", "0", "-1", "1e300", "1e11", "nan", "inf", "9" * 5000, "1_0", "0.5", "2592000", "99999999999999"]
)
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": numbers | dates | header_texts,
        "retry-after-ms": numbers | header_texts,
        "date": dates | header_texts,
        "anthropic-ratelimit-requests-limit": numbers | header_texts,
        "x-should-retry": st.sampled_from(["true", "false", "maybe"]) | header_texts,
        "request-id": header_texts,
        "location": st.sampled_from(["http://[", "https://elsewhere.example/x", "//", "/v1"]) | header_texts,
        "content-encoding": st.sampled_from(["gzip", "gzip, gzip", "br", "zstd", "deflate", "identity", "x"])
        | header_texts,
        "content-type": header_texts,
    },
)


def config(**settings: Any) -> ClientConfig:
    base: dict[str, Any] = {
        "credentials": ApiKey(KEY),
        "base_url": "http://127.0.0.1:1",
        "max_retries": 0,
        "extra_headers": {"x-gateway-token": TOKEN},
    }
    return ClientConfig(**(base | settings))


def ask(call: Any, answer: httpx.Response | Any, **settings: Any) -> Any:
    """Make a call with both clients, which must agree. Some calls only the sync client has."""
    outcomes = []
    with ClaudeClient(config(**settings), transport=httpx.MockTransport(answer), sleep=lambda _: None) as client:
        outcomes.append(_outcome(lambda: call(client)))

    async def later() -> Any:
        async with AsyncClaudeClient(config(**settings), transport=httpx.MockTransport(answer)) as other:
            return await call(other)

    if call not in ASYNC_CALLS:
        return outcomes[0]
    outcomes.append(_outcome(lambda: asyncio.run(later())))
    assert type(outcomes[0]) is type(outcomes[1])
    assert str(outcomes[0]) == str(outcomes[1])
    return outcomes[0]


def _outcome(work: Any) -> Any:
    try:
        return work()
    except APIError as error:
        return error


@fuzzed
@given(
    name=st.sampled_from(sorted(CALLS)),
    status=st.sampled_from([200, 200, 200, 204, 302, 303, 400, 401, 402, 404, 408, 413, 429, 500, 504, 529]),
    answer_headers=headers,
    data=st.data(),
)
def test_any_response_is_a_value_or_an_error_of_ours(
    name: str, status: int, answer_headers: dict[str, str], data: st.DataObject
) -> None:
    call, good = CALLS[name]
    shape = data.draw(st.sampled_from(["good", "mutated", "damaged", "bytes", "error", "odd error"]))
    body = {
        "good": lambda: json.dumps(good).encode(),
        "mutated": lambda: json.dumps(mutated(good, data.draw)).encode(),
        "damaged": lambda: damaged(json.dumps(good).encode(), data.draw),
        "bytes": lambda: data.draw(st.binary() | st.just(b"[" * 5000)),
        "error": lambda: json.dumps(ERROR).encode(),
        "odd error": lambda: json.dumps(mutated(ERROR, data.draw)).encode(),
    }[shape]()
    outcome = ask(call, lambda request: httpx.Response(status, headers=answer_headers, content=body))
    if not isinstance(outcome, APIError):
        assert 200 <= status < 300
        if isinstance(outcome, MessageBatch):
            assert outcome.created_at - timedelta(days=365) < outcome.created_at + timedelta(days=365)
            assert "/" not in outcome.id
        return
    lines = str(outcome).split("\n")
    assert len(lines) <= 4
    assert all(line.isprintable() and len(line) < 1000 for line in lines)
    classify_error(outcome)
    if isinstance(outcome, APIStatusError) and outcome.retry_after is not None:
        datetime.now().astimezone() + timedelta(seconds=outcome.retry_after)
        assert schedule.backoff(1, retry_after=outcome.retry_after, poll_interval=60) > 0


@fuzzed
@given(
    leak=st.sampled_from([KEY, TOKEN]),
    where=st.sampled_from(["message", "type", "request_id", "code", "html", "text", "description", "location"]),
    status=st.sampled_from([400, 401, 403, 404, 429, 500, 302]),
)
@pytest.mark.parametrize("name", ["create", "retrieve"])
def test_response_that_repeats_our_secrets_does_not_bring_them_into_an_error(
    leak: str, where: str, status: int, name: str
) -> None:
    said = f"no {leak} here"
    body: Any = {
        "message": {"error": {"type": "e", "message": said}},
        "type": {"error": {"type": said, "message": "m"}},
        "request_id": {"error": {"type": "e", "message": "m"}, "request_id": said},
        "code": {"error": {"type": "e", "message": "m", "details": {"error_code": said}}},
        "description": {"error": "e", "error_description": said},
    }.get(where, f"<html><title>{said}</title>" if where == "html" else said)
    content = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    answer_headers = {"location": f"https://{leak}.example/"} if where == "location" else {}
    outcome = ask(CALLS[name][0], lambda request: httpx.Response(status, content=content, headers=answer_headers))
    assert isinstance(outcome, APIError)
    assert leak not in str(outcome)
    assert leak not in repr(vars(outcome))


@fuzzed
@given(
    text=dates | numbers | st.text(),
    now=st.none() | st.datetimes(timezones=st.just(None)).map(lambda at: at.astimezone()),
)
@example(text="Sun, 22 Nov 99999999999999999999 09:00:00 GMT", now=None)
def test_any_retry_after_is_a_bounded_time_or_none(text: str, now: datetime | None) -> None:
    for name in ("retry-after", "retry-after-ms"):
        seconds = retry_after_seconds({name: text}, now=now)
        assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
        timedelta(seconds=seconds or 0)
    at = http_date(text)
    assert at is None or at - timedelta(days=365) < at + timedelta(days=365)


@fuzzed
@given(pages=st.lists(st.builds(lambda draw: draw, st.none()), min_size=1, max_size=3), data=st.data())
def test_any_listing_comes_to_an_end(pages: list[None], data: st.DataObject) -> None:
    """Whatever it says of there being more: a search for a lost create must not go round for ever."""
    bodies = []
    for _ in pages:
        page = {**PAGE, "has_more": data.draw(st.booleans())}
        page["first_id"] = data.draw(st.sampled_from([None, "", "msgbatch_01AbCd", "a", "b", "../x"]))
        page["last_id"] = data.draw(st.sampled_from([None, "", "msgbatch_01AbCd", "a", "b", "x?y=1"]))
        page["data"] = data.draw(st.sampled_from([[], [BATCH], [{**BATCH, "id": "msgbatch_2"}, BATCH]]))
        bodies.append(json.dumps(page).encode())
    calls: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        assert len(calls) < 200, "it goes round"
        if request.url.path == f"/v1/messages/batches/{watermark}":  # is it still there?
            return httpx.Response(200, content=json.dumps({**BATCH, "id": watermark}).encode())
        assert request.url.path == "/v1/messages/batches"
        return httpx.Response(200, content=bodies[(len(calls) - 1) % len(bodies)])

    at = datetime.fromisoformat("2026-11-22T09:00:00Z")
    watermark = data.draw(st.sampled_from([None, "msgbatch_0", "msgbatch_01AbCd"]))
    part = Part(
        token="t", first=0, last=1, count=2, size=1, attempt="a", round=0, intended_at=at, watermark=watermark,
        watermark_at=data.draw(st.sampled_from([None, at])),
    )  # fmt: skip
    with ClaudeClient(config(), transport=httpx.MockTransport(answer), sleep=lambda _: None) as client:
        _outcome(lambda: search.list_batches_since(client, part, clock=lambda: at))
        calls.clear()
        wanted = {f"msgbatch_{number}": at for number in range(60)}
        asking = poll_round(wanted, watched=set(wanted))
        questions = next(asking)
        while True:
            answers = [
                _outcome(lambda call=call: client.list_batches(limit=call.limit, after_id=call.after_id))
                if isinstance(call, ListPage)
                else APIError("not now")
                for call in questions
            ]
            try:
                questions = asking.send(answers)
            except StopIteration:
                break


@fuzzed
@given(data=st.data(), status=st.sampled_from([200, 400, 401, 500]))
def test_any_response_to_a_token_exchange_is_a_token_or_an_error_without_the_identity(
    data: st.DataObject, status: int
) -> None:
    good = {"access_token": "sk-ant-oat01-fresh", "expires_in": 3600, "token_type": "Bearer"}
    body = json.dumps(mutated(good, data.draw, json_values | texts | st.just(1e308))).encode()
    identity = WorkloadIdentity(
        federation_rule_id="fdrl_1",
        organization_id="o",
        identity_token="identity-token-0123",
        base_url="http://127.0.0.1:1",
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/oauth/token":
            return httpx.Response(status, content=body)
        return httpx.Response(200, content=json.dumps(BATCH).encode())

    outcome = ask(CALLS["retrieve"][0], answer, credentials=identity, extra_headers={})
    assert isinstance(outcome, MessageBatch | APIError)
    assert "identity-token-0123" not in str(outcome)
