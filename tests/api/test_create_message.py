"""One request that is asked directly: answers, refusals, limits and lost responses, against the simulator."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from clients import KEY
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch import exceptions
from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.evidence import Proof
from airflow_claude_batch.api.http import CallFailed, HTTPResponse
from airflow_claude_batch.api.message_response import read_message_response
from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.batch.land.parse_result import parse_result
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.simulator import Fault, ManualClock, MessageRates, Simulator

START = datetime(2026, 11, 22, 9, tzinfo=UTC)
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}

CONFIG = ClientConfig(credentials=ApiKey(KEY), base_url="http://127.0.0.1")
REQUEST = endpoints.create_message(PARAMS, seconds=60).request(CONFIG)


@pytest.fixture
def simulator():
    return Simulator(clock=ManualClock(START), message_rates=MessageRates(requests=60))


@pytest.fixture
def client(simulator):
    with (
        simulator.serve() as server,
        ClaudeClient(ClientConfig(credentials=ApiKey(KEY), base_url=server.url)) as client,
    ):
        yield client


def row_of(response):
    return parse_result(decode_result_line(response.result_line("row-1")), "direct", PriceTable.load())


def body_of(row):
    return json.loads(b"{" + row.body)  # a body follows what names the row


def test_an_answer_becomes_the_row_that_a_batch_would_have_made(client, simulator):
    response = client.create_message(PARAMS)
    row = row_of(response)
    body = body_of(row)
    assert (response.proof, row.status) == (Proof.ACCEPTED, Status.SUCCEEDED)
    assert body["text"] == "Simulated answer to “hello”"
    assert body["usage"]["service_tier"] == "standard"
    assert b"\n" not in response.result
    assert simulator.books()["direct"]["billed_requests"] == 1
    assert simulator.books()["billed_requests"] == 0


def test_params_may_be_given_as_json(client, simulator):
    client.create_message(json.dumps(PARAMS).encode())
    client.create_message(PARAMS)
    assert list(simulator.books()["direct"]["billed"].values()) == [2]


def test_the_limits_are_read_from_the_headers(client):
    limits = client.create_message(PARAMS).rate_limits
    assert (limits.requests.limit, limits.requests.remaining) == (60, 59)
    assert limits.requests.reset_seconds == pytest.approx(1, abs=1)
    assert limits.input_tokens.limit == 10_000_000
    assert limits.output_tokens.remaining == 2_000_000 - 7


def test_a_refused_request_becomes_an_errored_row(client, simulator):
    response = client.create_message(PARAMS | {"max_tokens": 0})
    row = row_of(response)
    assert (response.proof, row.status) == (Proof.REFUSED, Status.REFUSED)
    assert body_of(row)["error"]["message"] == "max_tokens: must be greater than or equal to 1"
    assert isinstance(response.error, exceptions.BadRequestError)
    assert simulator.books()["direct"]["billed_requests"] == 0


def test_an_unknown_model_becomes_an_errored_row(client):
    response = client.create_message(PARAMS | {"model": "claude-none"})
    assert response.proof is Proof.DOES_NOT_EXIST
    assert body_of(row_of(response))["error"]["type"] == "not_found_error"


def test_above_the_limit_the_response_says_how_long_to_wait(client, simulator):
    for _ in range(60):
        client.create_message(PARAMS)
    response = client.create_message(PARAMS)
    assert response.proof is Proof.NOT_ACCEPTED
    assert isinstance(response.error, exceptions.RateLimitError)
    assert response.error.retry_after == 1
    assert response.rate_limits.requests.remaining == 0
    simulator.advance(1)
    assert client.create_message(PARAMS).proof is Proof.ACCEPTED


def test_an_overloaded_api_did_not_accept_the_request(client, simulator):
    simulator.inject(Fault(do="status", on="message", status=529))
    response = client.create_message(PARAMS)
    assert response.proof is Proof.NOT_ACCEPTED
    assert simulator.calls()["message"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(do="drop_after_accept", on="message"),
        Fault(do="status_after_accept", on="message", status=500),
        Fault(do="status_after_accept", on="message", status=504),
        Fault(do="malformed", on="message"),
        Fault(do="page", on="message", status=200, accepted=True),
        Fault(do="page", on="message", status=429, page="json", accepted=True),
    ],
    ids=lambda fault: f"{fault.do}-{fault.status}",
)
def test_what_proves_nothing_raises_and_is_never_sent_again(client, simulator, fault):
    simulator.inject(fault)
    with pytest.raises(exceptions.APIError) as raised:
        client.create_message(PARAMS)
    assert raised.value.may_have_been_accepted
    assert "may have been answered, and is then billed" in str(raised.value)
    assert simulator.calls()["message"] == 1
    assert simulator.books()["direct"]["billed_requests"] == 1


ODD = [
    pytest.param(b'{"type":"message","content":[{"type":"text","text":"\\ud800 yes"}]}', id="half a surrogate pair"),
    pytest.param(b'{"type":"message","content":[{"type":"text","text":"\xff yes"}]}', id="not UTF-8"),
    pytest.param(b'{\n "type": "message",\r\n "content": [{"type": "text", "text": "yes"}]\n}\n', id="on many lines"),
    pytest.param(b'{"type":"message","content":[{"type":"text","text":"yes"}],"x":NaN}', id="NaN"),
    pytest.param(b'{"content":[{"type":"text","text":"yes"}],"x":' + b"[" * 900 + b"]" * 900 + b"}", id="deep"),
    pytest.param(b'\xef\xbb\xbf {"type":"message","content":[{"type":"text","text":"yes"}]}', id="byte order mark"),
]


@pytest.mark.parametrize("body", ODD)
def test_an_answer_that_is_not_quite_json_is_kept(body):
    response = read_message_response(REQUEST, HTTPResponse(200, {}, body))
    assert response.proof is Proof.ACCEPTED
    assert b"\n" not in response.result
    message = json.loads(bytes(decode_result_line(response.result_line("row-1")).result.message))
    assert message["content"][0]["text"].endswith("yes")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"type":"error"}', b'{"type":"message"', b"<html>"])
def test_a_success_without_a_message_proves_nothing(body):
    with pytest.raises(CallFailed) as raised:
        read_message_response(REQUEST, HTTPResponse(200, {}, body))
    assert raised.value.error.may_have_been_accepted


@given(st.binary() | st.text().map(str.encode), st.sampled_from([200, 201, 302, 400, 401, 404, 429, 500, 529]))
def test_whatever_the_body_is_it_is_a_line_or_proves_nothing(body, status):
    try:
        response = read_message_response(REQUEST, HTTPResponse(status, {}, body))
    except CallFailed:
        return
    assert b"\n" not in response.result
    decode_result_line(response.result_line("row-1"))


def test_an_answer_that_takes_too_long_proves_nothing(client, simulator):
    simulator.inject(Fault(do="slow", on="message", seconds=30))
    with pytest.raises(exceptions.APIConnectionError) as raised:
        client.create_message(PARAMS, seconds=0.2)
    assert raised.value.may_have_been_accepted


def test_a_server_that_is_not_reached_got_nothing():
    config = ClientConfig(credentials=ApiKey(KEY), base_url="http://127.0.0.1:9")
    with ClaudeClient(config) as client, pytest.raises(exceptions.APIConnectionError) as raised:
        client.create_message(PARAMS)
    assert not raised.value.may_have_been_accepted
    assert "is not billed" in str(raised.value)


def test_a_refused_credential_raises(simulator):
    with (
        simulator.serve() as server,
        ClaudeClient(ClientConfig(credentials=ApiKey("wrong"), base_url=server.url)) as client,
        pytest.raises(exceptions.AuthenticationError) as raised,
    ):
        client.create_message(PARAMS)
    assert not raised.value.may_have_been_accepted


def test_the_limit_of_calls_to_batches_is_not_taken_from_a_message(client):
    client.create_message(PARAMS)
    assert client.calls_per_minute is None
