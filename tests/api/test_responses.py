from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from clients import BATCH
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.evidence import Effect, ErrorResponse, InvalidResponse, Stage
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.api.responses import error_response_failure, no_response_failure, read_response
from airflow_claude_batch.api.wire import BatchPage, MessageBatch

LOOK = "The message batch may have been created, and is then billed: look for it before sending again."
NOTHING = "Nothing was created."


def request(effect=Effect.NOT_IDEMPOTENT):
    return HTTPRequest(
        action="create a message batch",
        effect=effect,
        method="POST",
        url="https://api.anthropic.com/v1/messages/batches",
        headers={"authorization": "Bearer sk-ant-secret"},
        read_timeout=1,
        write_timeout=1,
        credential_remedy="Check the API key.",
        not_found_remedy="Check the base URL.",
        max_response_bytes=1000,
    )


def envelope(kind, message="Some words.", code=None, request_id="req_body"):
    details = {"error_code": code} if code else None
    body = {"type": "error", "error": {"type": kind, "message": message, "details": details}, "request_id": request_id}
    return json.dumps(body).encode()


def error_of(status, body=b"", effect=Effect.NOT_IDEMPOTENT, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return error_response_failure(request(effect), HTTPResponse(status, names, body)).error


@pytest.mark.parametrize(
    ("status", "kind", "code", "expected", "accepted"),
    [
        (400, "invalid_request_error", None, exceptions.BadRequestError, False),
        (400, "invalid_request_error", "request_body_timeout", exceptions.BadRequestError, False),
        (401, "authentication_error", None, exceptions.AuthenticationError, False),
        (402, "billing_error", None, exceptions.BillingError, False),
        (403, "permission_error", None, exceptions.PermissionDeniedError, False),
        (404, "not_found_error", None, exceptions.NotFoundError, False),
        (408, "timeout_error", None, exceptions.ServerError, True),
        (409, "conflict_error", None, exceptions.BadRequestError, True),
        (413, "request_too_large", None, exceptions.RequestTooLargeError, False),
        (422, "invalid_request_error", None, exceptions.BadRequestError, False),
        (429, "rate_limit_error", None, exceptions.RateLimitError, False),
        (429, "rate_limit_error", "ramp_limit_exceeded", exceptions.RateLimitError, False),
        (429, "rate_limit_error", "enforced_spend_limit_reached", exceptions.BillingError, False),
        (429, "rate_limit_error", "contract_spend_limit_reached", exceptions.BillingError, False),
        (400, "billing_error", None, exceptions.BillingError, False),
        (499, "api_error", None, exceptions.ServerError, True),
        (500, "api_error", None, exceptions.ServerError, True),
        (503, "api_error", "cmek_key_unreachable", exceptions.ServerError, True),
        (504, "timeout_error", None, exceptions.ServerError, True),
        (529, "overloaded_error", None, exceptions.OverloadedError, False),
    ],
)
def test_each_error_status_raises_its_own_class(status, kind, code, expected, accepted):
    error = error_of(status, envelope(kind, code=code), retry_after="7")

    assert type(error) is expected
    assert (error.status_code, error.error_type, error.error_code) == (status, kind, code)
    assert (error.request_id, error.retry_after) == ("req_body", 7.0)
    assert error.may_have_been_accepted is accepted
    first, message, money, *_ = str(error).split("\n")
    assert first.startswith(f"Could not create a message batch: api.anthropic.com responded with {status} {kind}")
    assert first.endswith(f"({code})." if code else f"{kind}.")
    assert message == "Message: Some words. Request id: req_body."
    assert money == (LOOK if accepted else NOTHING)
    assert "sk-ant" not in str(error)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
            exceptions.BillingError,
        ),
        ("Your credit balance is too low to access the Anthropic API.", exceptions.BillingError),
        ("max_tokens: too many", exceptions.BadRequestError),
    ],
)
def test_spend_limit_that_only_the_message_names_is_a_billing_error(message, expected):
    error = error_of(400, envelope("invalid_request_error", message))

    assert type(error) is expected
    assert ("No retry will help" in str(error)) is (expected is exceptions.BillingError)


@pytest.mark.parametrize(
    ("status", "code", "remedy"),
    [
        (401, None, "Check the API key."),
        (403, None, "workspace and its permissions"),
        (404, None, "Check the base URL."),
        (407, None, "proxy URL"),
        (413, None, "250,000,000 bytes"),
        (402, None, "Claude Console"),
        (400, "organization_on_hold", "on hold"),
        (400, "cmek_key_disabled", "encryption key"),
        (400, "workspace_human_review_disabled", "use a key of another workspace"),
        (400, "claude_code_key_creator_not_member", "make a new key"),
    ],
)
def test_error_says_what_to_do(status, code, remedy):
    assert remedy in str(error_of(status, envelope("some_error", code=code)))


def test_error_of_a_reading_call_says_that_it_costs_nothing():
    text = str(error_of(500, envelope("api_error"), effect=Effect.READ_ONLY))

    assert LOOK not in text
    assert NOTHING not in text
    assert "\nThis call sends nothing and costs nothing." in text


def test_error_of_a_cancel_call_promises_nothing_about_money():
    text = str(error_of(500, envelope("api_error"), effect=Effect.IDEMPOTENT))

    assert LOOK not in text
    assert NOTHING not in text
    assert "costs nothing" not in text


def test_error_of_the_edge_has_no_request_id():
    error = error_of(413, b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}')

    assert type(error) is exceptions.RequestTooLargeError
    assert (error.error_type, error.request_id) == ("request_too_large", None)
    assert "Request id" not in str(error)


def test_request_id_comes_from_the_header_if_the_body_has_none():
    assert error_of(500, envelope("api_error", request_id=None), request_id="req_header").request_id == "req_header"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><head><title>502 Bad\n Gateway</title></head>" + b"x" * 9000, "an HTML page ('502 Bad Gateway')"),
        (b"  <!DOCTYPE html><html><title> </title>", "an HTML page: it looks like a proxy's"),
        (b"upstream connect error", "not the API's JSON: 'upstream connect error'"),
        (b"", "0 bytes that are not the API's JSON."),
        (b"\xff\xfe\x00binary", "bytes that are not the API's JSON"),
        (b'{"error":7}', "not the API's JSON"),
        (b'["error"]', "not the API's JSON"),
        (b'{"message":"no Route matched"}', "no Route matched"),
    ],
    ids=["html", "html without title", "text", "empty", "binary", "odd error", "list", "gateway's json"],
)
def test_response_of_a_proxy_is_described_as_not_the_apis(body, said):
    error = error_of(502, body)

    assert type(error) is exceptions.ServerError
    assert error.error_type is None
    assert said in str(error)
    assert "api.anthropic.com responded with 502." in str(error)
    assert len(str(error)) < 500


@pytest.mark.parametrize(
    "leak",
    [
        "sk-ant-api03-abcdefgh",
        "Bearer abcdefghijkl",
        "basic dXNlcjpwYXNz",
        "eyJhbGci.eyJzdWIi.c2ln",
        "http://user:hunter2@proxy:3128",
    ],
)
def test_secret_that_a_response_repeats_is_masked(leak):
    secret = leak.removeprefix("http://").split("@")[0].split(" ")[-1]
    for error in (
        error_of(401, envelope("authentication_error", f"you sent {leak} to us")),
        error_of(502, f"bad gateway: {leak}".encode()),
        no_response_failure(request(), Stage.CONNECTING, f"failed for {leak}").error,
    ):
        assert secret not in str(error)
        assert "***" in str(error)


def test_text_that_only_resembles_a_secret_is_not_masked():
    assert shorten("a risk-adjusted task-limited plan\n at https://host/a@b", 100) == (
        "a risk-adjusted task-limited plan at https://host/a@b"
    )


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirect_is_an_error_that_names_only_the_host(status):
    error = error_of(status, b"", location="https://login.example/sso?token=abc123")

    assert type(error) is exceptions.MalformedResponseError
    assert "a redirect to login.example." in str(error)
    assert "abc123" not in str(error)
    assert error.may_have_been_accepted is True


@pytest.mark.parametrize("location", [{}, {"location": "/elsewhere"}, {"location": "https://[bad"}], ids=str)
def test_redirect_without_a_host_is_an_error(location):
    assert "an unnamed host" in str(error_of(302, b"", **location))


def test_response_is_decoded_with_the_servers_time():
    headers = {"date": "Sun, 22 Nov 2026 09:00:01 GMT"}
    page = json.dumps({"data": [BATCH], "has_more": False, "first_id": "a", "last_id": "b"}).encode()
    now = datetime(2026, 11, 22, 9, 0, 1, tzinfo=UTC)

    assert (
        read_response(request(), HTTPResponse(200, headers, json.dumps(BATCH).encode()), MessageBatch).server_time
        == now
    )
    assert read_response(request(), HTTPResponse(200, headers, page), BatchPage).server_time == now
    assert read_response(request(), HTTPResponse(201, {}, page), BatchPage).server_time is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"id":"msgbatch_1"', "bytes that are not the API's JSON"),
        (b"<html><title>Sign in</title>", "HTML page ('Sign in')"),
        (b"my secret prompt", "16 bytes that are not the API's JSON"),
    ],
    ids=["cut", "html", "text"],
)
def test_invalid_success_may_have_been_accepted_and_its_body_is_not_shown(body, said):
    with pytest.raises(CallFailed) as caught:
        read_response(request(), HTTPResponse(200, {}, body), MessageBatch)

    assert caught.value.failure == InvalidResponse()
    error = caught.value.error
    assert type(error) is exceptions.MalformedResponseError
    assert error.may_have_been_accepted is True
    assert said in str(error)
    assert LOOK in str(error)
    assert "secret prompt" not in str(error)


@pytest.mark.parametrize(("said", "understood"), [("true", True), ("false", False), ("perhaps", None), (None, None)])
def test_should_retry_header_is_read(said, understood):
    headers = {"x-should-retry": said} if said else {}

    assert error_response_failure(request(), HTTPResponse(500, headers, b"")).failure == ErrorResponse(
        500, should_retry=understood
    )


def test_words_of_a_gateway_are_shown_but_prove_nothing():
    error = error_of(403, b'{"error":{"type":"forbidden","message":"Blocked by policy 7"}}')

    assert type(error) is exceptions.PermissionDeniedError
    assert (error.error_type, error.may_have_been_accepted) == (None, True)
    assert "responded with 403 forbidden." in str(error)
    assert "Blocked by policy 7" in str(error)
    assert LOOK in str(error)
    assert "workspace and its permissions" in str(error)


def test_retry_after_date_is_measured_on_the_servers_clock():
    headers = {"date": "Sun, 22 Nov 2026 09:00:00 GMT", "retry-after": "Sun, 22 Nov 2026 09:00:30 GMT"}

    assert error_response_failure(request(), HTTPResponse(429, headers, b"")).error.retry_after == 30.0


def test_call_without_a_response_says_why():
    error = no_response_failure(request(), Stage.WAITING, "ReadTimeout").error

    assert str(error) == f"Could not create a message batch: no response from api.anthropic.com (ReadTimeout).\n{LOOK}"
    assert error.may_have_been_accepted is True
    untrusted = no_response_failure(request(), Stage.UNTRUSTED, "certificate verify failed").error
    assert "name the CA file" in str(untrusted)
    assert untrusted.may_have_been_accepted is False


@given(text=st.text(), length=st.integers(min_value=10, max_value=100))
def test_shortened_text_is_one_short_printable_line(text, length):
    line = shorten(text, length)

    assert len(line) <= length
    assert line.isprintable()


@given(st.integers(min_value=300, max_value=599), st.binary(max_size=100), st.sampled_from(Effect))
def test_every_error_status_and_body_gives_an_error(status, body, effect):
    assert isinstance(error_of(status, body, effect), exceptions.APIError)


@pytest.mark.parametrize("where", ["message", "type", "code", "request id", "html", "text"])
def test_gateway_token_that_a_response_repeats_is_masked(where):
    said = "no gateway-token-0123 here"
    bodies = {
        "message": {"error": {"type": "e", "message": said}},
        "type": {"error": {"type": said, "message": "m"}},
        "code": {"error": {"type": "e", "message": "m", "details": {"error_code": said}}},
        "request id": {"error": {"type": "e", "message": "m"}, "request_id": said},
        "html": f"<html><title>{said}</title>",
        "text": said,
    }
    body = bodies[where] if isinstance(bodies[where], str) else json.dumps(bodies[where])
    asked = replace(request(), headers={"authorization": "Bearer gateway-token-0123"})
    error = error_response_failure(asked, HTTPResponse(401, {}, body.encode())).error

    assert "gateway-token" not in str(error)
    assert "gateway-token" not in repr(vars(error))
    assert "no *** here" in str(error)


def test_request_id_cannot_add_lines_to_a_log():
    body = json.dumps({"error": {"type": "e", "message": "m"}, "request_id": "x\nINFO all is well" + "y" * 1000})
    error = error_of(400, body.encode())

    assert "\nINFO" not in str(error)
    assert len(error.request_id) <= 100
