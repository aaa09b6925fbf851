"""What each kind of answer proves of each call. The reasons are the ids."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.evidence import (
    LASTING,
    LASTING_POLLS,
    Effect,
    NoResponse,
    Proof,
    Stage,
    has_lasted,
    may_have_been_accepted,
    may_resend,
    proof_of,
    proof_of_failure,
    strict_error_type,
)
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.responses import error_response_failure, no_response_failure, read_response
from airflow_claude_batch.api.wire import BatchPage, DeletedMessageBatch, MessageBatch, TokenCount

# Every call, with what sending it twice does and with the value that it returns.
CALLS = {
    "create": (Effect.NOT_IDEMPOTENT, MessageBatch),
    "retrieve": (Effect.READ_ONLY, MessageBatch),
    "list": (Effect.READ_ONLY, BatchPage),
    "cancel": (Effect.IDEMPOTENT, MessageBatch),
    "delete": (Effect.IDEMPOTENT, DeletedMessageBatch),
    "results": (Effect.READ_ONLY, MessageBatch),
    "count_tokens": (Effect.READ_ONLY, TokenCount),
}


def error(kind, message="Some words.", **more):
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}, **more}).encode()


HTML = b"<html><head><title>Sign in</title></head></html>"
EDGE_413 = b'{"error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}'

# id: status, body, what it proves
THE_APIS_OWN = {
    "400 refuses the request itself": (400, error("invalid_request_error"), Proof.REFUSED),
    "400 for want of credit": (400, error("billing_error"), Proof.REFUSED),
    "401 refuses the credential": (401, error("authentication_error"), Proof.NOT_ACCEPTED),
    "402 for want of credit": (402, error("billing_error"), Proof.NOT_ACCEPTED),
    "403 refuses the permission": (403, error("permission_error"), Proof.NOT_ACCEPTED),
    "404 does not know the object": (404, error("not_found_error"), Proof.DOES_NOT_EXIST),
    "405 refuses the method": (405, error("invalid_request_error"), Proof.REFUSED),
    "413 refuses the size": (413, error("request_too_large"), Proof.REFUSED),
    "413 of the API's edge, which has no top-level type": (413, EDGE_413, Proof.REFUSED),
    "422 refuses the request itself": (422, error("invalid_request_error"), Proof.REFUSED),
    "429 refuses it for now": (429, error("rate_limit_error"), Proof.NOT_ACCEPTED),
    "529 refuses it for now": (529, error("overloaded_error"), Proof.NOT_ACCEPTED),
    "408 gave up waiting for the call": (408, error("timeout_error"), Proof.NOTHING),
    "409 may conflict with a copy of the call": (409, error("conflict_error"), Proof.NOTHING),
    "499 lost the call": (499, error("api_error"), Proof.NOTHING),
    "500 failed at any step": (500, error("api_error"), Proof.NOTHING),
    "503 failed at any step": (503, error("api_error"), Proof.NOTHING),
    "504 gave up waiting for the call": (504, error("timeout_error"), Proof.NOTHING),
    "envelope with a request id and fields of tomorrow": (
        404,
        error("not_found_error", request_id="req_1", more=[1]),
        Proof.DOES_NOT_EXIST,
    ),
}

STATUSES = (199, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404, 405, 407, 408, 409, 410, 411, 413, 415, 418)
STATUSES += (421, 422, 425, 429, 431, 444, 451, 460, 463, 499, 500, 501, 502, 503, 504, 520, 522, 524, 529, 530, 600)
NOT_THE_APIS = {
    "html": HTML,
    "empty": b"",
    "text": b"upstream connect error",
    "binary": b"\xff\xfe\x00",
    "list": b'["error"]',
    "null": b"null",
    "cut": error("rate_limit_error")[:-2],
    "json of a gateway": b'{"message":"no Route matched with those values"}',
    "error as text": b'{"type":"error","error":"not_found_error"}',
    "openai's form": b'{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":429}}',
    "without a message": b'{"type":"error","error":{"type":"not_found_error"}}',
    "without the outer type": b'{"error":{"type":"not_found_error","message":"no"}}',
    "with another outer type": b'{"type":"fault","error":{"type":"not_found_error","message":"no"}}',
    "with a type of its own": error("gateway_error"),
    "with a null type": b'{"type":"error","error":{"type":null,"message":"no"}}',
    "with two envelopes": error("not_found_error") * 2,
}


def request(call):
    return HTTPRequest(
        action=call,
        effect=CALLS[call][0],
        method="POST",
        url="https://api.anthropic.com/v1/messages/batches",
        headers={},
        read_timeout=1,
        write_timeout=1,
        credential_remedy="",
        max_response_bytes=1000,
    )


def check(call, failed, proof):
    """Check that every word on a failed attempt agrees with what it proves."""
    effect = CALLS[call][0]
    assert proof_of_failure(failed.failure) is proof
    assert failed.error.may_have_been_accepted is (effect is not Effect.READ_ONLY and proof is Proof.NOTHING)
    assert may_resend(failed.failure, effect) is (effect is not Effect.NOT_IDEMPOTENT or proof is not Proof.NOTHING)
    assert ("may have been created" in str(failed.error)) is (call == "create" and proof is Proof.NOTHING)


@pytest.mark.parametrize(("status", "body", "proof"), THE_APIS_OWN.values(), ids=THE_APIS_OWN)
@pytest.mark.parametrize("call", CALLS)
def test_answer_of_the_api_proves_what_it_says(call, status, body, proof):
    failed = error_response_failure(request(call), HTTPResponse(status, {}, body))

    check(call, failed, proof)
    assert proof_of(failed.error) is proof
    assert failed.error.error_type == json.loads(body)["error"]["type"]


@pytest.mark.parametrize("body", NOT_THE_APIS.values(), ids=NOT_THE_APIS)
@pytest.mark.parametrize("call", CALLS)
def test_answer_of_somebody_else_proves_nothing_whatever_its_status(call, body):
    headers = {"location": "https://login.example/"}
    for status in STATUSES:
        failed = error_response_failure(request(call), HTTPResponse(status, headers, body))

        check(call, failed, Proof.NOTHING)
        assert proof_of(failed.error) is Proof.NOTHING, status
        assert getattr(failed.error, "error_type", None) is None, status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(404, "api_error", id="404 with the type of a 500"),
        pytest.param(429, "overloaded_error", id="429 with the type of a 529"),
        pytest.param(529, "rate_limit_error", id="529 with the type of a 429"),
        pytest.param(401, "permission_error", id="401 with the type of a 403"),
        pytest.param(400, "not_found_error", id="400 with the type of a 404"),
        pytest.param(302, "not_found_error", id="redirect with an envelope"),
        pytest.param(418, "invalid_request_error", id="status that the API does not have"),
        pytest.param(451, "invalid_request_error", id="451, which the API does not have"),
        pytest.param(502, "invalid_request_error", id="502 with the type of a 400"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_type_that_does_not_belong_to_its_status_proves_nothing(call, status, kind):
    failed = error_response_failure(request(call), HTTPResponse(status, {}, error(kind)))

    check(call, failed, Proof.NOTHING)
    assert proof_of(failed.error) is Proof.NOTHING


@pytest.mark.parametrize("body", [*NOT_THE_APIS.values(), error("api_error"), b'{"id":"msgbatch_1"}', b'{"id":7}'])
@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
@pytest.mark.parametrize("call", [call for call in CALLS if call not in ("delete", "count_tokens")])
def test_success_without_the_apis_object_proves_nothing(call, status, body):
    with pytest.raises(CallFailed) as caught:
        read_response(request(call), HTTPResponse(status, {}, body), CALLS[call][1])

    check(call, caught.value, Proof.NOTHING)
    assert proof_of(caught.value.error) is Proof.NOTHING


@pytest.mark.parametrize(
    ("stage", "proof"),
    [
        pytest.param(Stage.CONNECTING, Proof.NOT_ACCEPTED, id="no byte left this machine"),
        pytest.param(Stage.UNTRUSTED, Proof.NOT_ACCEPTED, id="the certificate was refused before any byte"),
        pytest.param(Stage.SENDING, Proof.NOTHING, id="a part left, and a proxy may have the rest"),
        pytest.param(Stage.WAITING, Proof.NOTHING, id="all of it left"),
    ],
)
@pytest.mark.parametrize("call", CALLS)
def test_call_without_a_response_proves_only_what_was_not_sent(call, stage, proof):
    failed = no_response_failure(request(call), stage, "why")

    assert failed.failure == NoResponse(stage)
    check(call, failed, proof)


@pytest.mark.parametrize(
    "failure",
    [
        exceptions.APIConnectionError("no response"),
        exceptions.MalformedResponseError("not the API's"),
        exceptions.NotFoundError("no type", status_code=404),
        exceptions.ResultsError("other errors of this package"),
        ValueError("any other error"),
    ],
    ids=str,
)
def test_error_that_does_not_carry_the_apis_words_proves_nothing(failure):
    assert proof_of(failure) is Proof.NOTHING


@pytest.mark.parametrize(
    ("polls", "elapsed", "lasted"),
    [
        pytest.param(1, timedelta(days=1), False, id="one answer, however old"),
        pytest.param(LASTING_POLLS - 1, timedelta(days=1), False, id="too few"),
        pytest.param(100, LASTING - timedelta(seconds=1), False, id="too short"),
        pytest.param(LASTING_POLLS, LASTING, True, id="often and long enough"),
        pytest.param(100, timedelta(seconds=-1), False, id="a clock that was set back"),
    ],
)
def test_absence_is_believed_only_if_it_lasts(polls, elapsed, lasted):
    assert has_lasted(polls, elapsed) is lasted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["type", "error", "message", "x"]), inner),
)


@given(status=st.integers(100, 999), body=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_and_only_the_strict_envelope_has_a_type(status, body):
    kind = strict_error_type(status, body)

    if kind is not None:
        value = json.loads(body)
        assert value["error"]["type"] == kind
        assert isinstance(value["error"]["message"], str)


@given(status=st.integers(100, 999), kind=st.none() | st.text(), effect=st.sampled_from(Effect))
def test_only_proof_lets_a_create_be_sent_again(status, kind, effect):
    failed = exceptions.APIStatusError("no", status_code=status, error_type=kind)
    failure = NoResponse(Stage.WAITING)

    assert (proof_of(failed) is Proof.NOTHING) or (kind is not None and status in range(400, 530))
    assert may_have_been_accepted(failure, effect) is (effect is not Effect.READ_ONLY)
