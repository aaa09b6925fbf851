"""Both clients through httpx's own fake transport: what goes out, what comes back, what is sent again."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

import httpx
import pytest
from clients import BATCH, BATCH_ID, BODY, KEY, FakeClock, RecordedSleep, sync_only, with_clients

from airflow_claude_batch import exceptions
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.workload_identity import WorkloadIdentity

BASE_URL = "http://127.0.0.1:8700"  # nothing is there; https would load certificates for every test
DATE = {"date": "Sun, 22 Nov 2026 09:00:01 GMT"}
OK = httpx.Response(200, json=BATCH, headers=DATE)


class Api:
    """Gives scripted answers, the last of them for ever, and keeps the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request):
        request.read()
        return self._answer(request)

    async def on_loop(self, request):
        await request.aread()
        return self._answer(request)

    def _answer(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            return answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Transport(httpx.MockTransport):
    """Reads a request's body the way that the client at hand gives it."""

    async def handle_async_request(self, request):
        return await self.handler.on_loop(request)


@pytest.fixture
def client_of(client_class):
    """Makes a client whose API gives these answers."""
    opened = []

    def make(*answers, sleep=None, clock=None, rng=lambda: 0.0, **settings):
        api = Api(*answers)
        config = ClientConfig(**({"credentials": ApiKey(KEY), "base_url": BASE_URL} | settings))
        options = {"clock": clock} if clock else {}
        client = client_class(config, transport=Transport(api), sleep=sleep, rng=rng, **options)
        client.__enter__()
        opened.append(client)
        client.api = api
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


class Chunks:
    """A body in pieces, which can be asked for them again."""

    def __init__(self, *pieces, length=None):
        self.pieces = pieces
        self.content_length = sum(map(len, pieces)) if length is None else length

    def chunks(self):
        yield from self.pieces


def refusal(status, kind="api_error", code=None, **headers):
    details = {"error_code": code} if code else None
    body = {"type": "error", "error": {"type": kind, "message": "m", "details": details}, "request_id": "req_1"}
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()})


SHARED_CALLS = [
    pytest.param(lambda c: c.retrieve_batch(BATCH_ID), "GET", f"/v1/messages/batches/{BATCH_ID}", OK, id="retrieve"),
    pytest.param(
        lambda c: c.list_batches(before_id="msgbatch_1", limit=5),
        "GET",
        "/v1/messages/batches?before_id=msgbatch_1&limit=5",
        httpx.Response(200, json={"data": [BATCH], "has_more": False, "first_id": BATCH_ID, "last_id": BATCH_ID}),
        id="list",
    ),
    pytest.param(
        lambda c: c.cancel_batch(BATCH_ID), "POST", f"/v1/messages/batches/{BATCH_ID}/cancel", OK, id="cancel"
    ),
]

SYNC_CALLS = [
    pytest.param(lambda c: c.create_batch(BODY), "POST", "/v1/messages/batches", OK, id="create"),
    pytest.param(
        lambda c: c.delete_batch(BATCH_ID),
        "DELETE",
        f"/v1/messages/batches/{BATCH_ID}",
        httpx.Response(200, json={"id": BATCH_ID, "type": "message_batch_deleted"}),
        id="delete",
    ),
    pytest.param(
        lambda c: c.count_tokens({"model": "m", "messages": [], "max_tokens": 5}),
        "POST",
        "/v1/messages/count_tokens",
        httpx.Response(200, json={"input_tokens": 7}),
        id="count_tokens",
    ),
    pytest.param(
        lambda c: c.list_models(limit=3, lifecycle=["active", "retired"]),
        "GET",
        "/v1/models?limit=3&lifecycle%5B%5D=active&lifecycle%5B%5D=retired",
        httpx.Response(200, json={"data": [{"id": "m"}], "has_more": False}),
        id="list_models",
    ),
    pytest.param(
        lambda c: c.retrieve_model("a/b c"),
        "GET",
        "/v1/models/a%2Fb%20c",
        httpx.Response(200, json={"id": "m"}),
        id="retrieve_model",
    ),
]


@with_clients("call,method,target,answer", both=SHARED_CALLS, sync=SYNC_CALLS)
def test_each_operation_sends_its_own_request(client_of, call, method, target, answer):
    client = client_of(answer)
    call(client)

    (request,) = client.api.requests
    assert request.method == method
    assert request.url.raw_path.decode() == target
    assert request.url.host == "127.0.0.1"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["anthropic-version"] == "2026-10-21"
    assert request.headers["user-agent"].startswith("airflow-claude-batch/")
    assert "anthropic-beta" not in request.headers
    assert ("content-type" in request.headers) is bool(request.content)


def test_path_of_the_base_url_is_kept(client_of):
    client = client_of(OK, base_url="https://claude.googleapis.com/v1/projects/p/invoke/")
    client.retrieve_batch(BATCH_ID)

    assert str(client.api.requests[0].url).startswith("https://claude.googleapis.com/v1/projects/p/invoke/v1/messages/")


@sync_only
def test_what_the_connection_says_goes_into_the_headers(client_of):
    client = client_of(
        OK,
        credentials=ApiKey(KEY, "x-api-key"),
        betas=("b1", "b2"),
        workspace_id="wrkspc_1",
        user_profile_id="profile_1",
        extra_headers={"x-gateway": "g"},
        api_version="2023-06-01",
    )
    client.create_batch(BODY)
    client.retrieve_batch(BATCH_ID)
    create, retrieve = (request.headers for request in client.api.requests)

    assert create["x-api-key"] == KEY
    assert "authorization" not in create
    assert create["anthropic-version"] == "2023-06-01"
    assert create["anthropic-beta"] == "b1,b2"
    assert create["anthropic-workspace-id"] == "wrkspc_1"
    assert create["x-gateway"] == "g"
    assert create["anthropic-user-profile-id"] == "profile_1"
    assert "anthropic-user-profile-id" not in retrieve


def test_a_batch_comes_back_as_a_value(client_of):
    batch = client_of(OK).retrieve_batch(BATCH_ID)

    assert batch.id == BATCH_ID
    assert batch.request_counts.total == 2
    assert batch.server_time == datetime(2026, 11, 22, 9, 0, 1, tzinfo=UTC)


@sync_only
@pytest.mark.parametrize(
    "body",
    [BODY, Chunks(BODY[:10], b"", BODY[10:]), Chunks(b"x" * 100_000, b"y" * 20_000)],
    ids=["bytes", "chunks", "large chunks"],
)
def test_a_create_is_sent_with_its_length(client_of, body):
    client = client_of(OK)
    client.create_batch(body)
    (request,) = client.api.requests
    expected = body if isinstance(body, bytes) else b"".join(body.pieces)

    assert request.content == expected
    assert request.headers["content-length"] == str(len(expected))
    assert "transfer-encoding" not in request.headers


@sync_only
def test_counting_takes_the_params_of_a_request_as_they_are(client_of):
    client = client_of(httpx.Response(200, json={"input_tokens": 7}))
    params = {
        "model": "m",
        "messages": [{"role": "user", "content": "é"}],
        "max_tokens": 5,
        "metadata": {},
        "system": "s",
    }

    assert client.count_tokens(params) == 7
    assert json.loads(client.api.requests[0].content) == {
        "model": "m",
        "messages": [{"role": "user", "content": "é"}],
        "system": "s",
    }


def test_calls_per_minute_is_the_last_limit_that_a_response_named(client_of):
    limited = httpx.Response(200, json=BATCH, headers={"anthropic-ratelimit-requests-limit": "4000"})
    odd = httpx.Response(200, json=BATCH, headers={"anthropic-ratelimit-requests-limit": "many"})
    endless = httpx.Response(200, json=BATCH, headers={"anthropic-ratelimit-requests-limit": "9" * 5000})
    client = client_of(OK, limited, odd, endless)
    known = []
    for _ in range(4):
        client.retrieve_batch(BATCH_ID)
        known.append(client.calls_per_minute)

    assert known == [None, 4000, 4000, 4000]


@with_clients(
    "call",
    both=[
        pytest.param(lambda c: c.retrieve_batch("../models"), id="retrieve"),
        pytest.param(lambda c: c.cancel_batch("a/b"), id="cancel"),
        pytest.param(lambda c: c.list_batches(before_id="a/b"), id="before_id"),
        pytest.param(lambda c: c.list_batches(after_id=""), id="after_id"),
        pytest.param(lambda c: c.list_batches(before_id="a", after_id="b"), id="both cursors"),
        pytest.param(lambda c: c.list_batches(limit=0), id="empty page"),
        pytest.param(lambda c: c.list_batches(limit=1001), id="large page"),
    ],
    sync=[
        pytest.param(lambda c: c.delete_batch(""), id="delete"),
        pytest.param(lambda c: c.stream_results("a?b").__enter__(), id="results"),
        pytest.param(lambda c: c.list_models(limit=0), id="no models"),
        pytest.param(lambda c: c.retrieve_model(".."), id="model dots"),
        pytest.param(lambda c: c.retrieve_model(""), id="empty model"),
    ],
)
def test_invalid_argument_is_refused_before_any_call(client_of, call):
    client = client_of(OK)

    with pytest.raises(exceptions.InputError):
        call(client)
    assert client.api.requests == []


def page(*ids, more):
    data = [BATCH | {"id": batch_id} for batch_id in ids]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    return httpx.Response(200, json={"data": data, "has_more": more, "first_id": first, "last_id": last}, headers=DATE)


def test_a_page_comes_back_as_a_value(client_of):
    client = client_of(page("c", "b", more=True))
    found = client.list_batches()

    assert [batch.id for batch in found.data] == ["c", "b"]
    assert (found.has_more, found.first_id, found.last_id) == (True, "c", "b")
    assert found.server_time == found.data[0].server_time == datetime(2026, 11, 22, 9, 0, 1, tzinfo=UTC)
    assert client.api.requests[0].url.query == b"limit=20"


LINES = [
    json.dumps({"custom_id": "a", "text": "\u2028 \x85 é"}, ensure_ascii=False).encode(),
    b'{"custom_id":"b"}\r',
    b'{"custom_id":"c"}',
]


@sync_only
@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"], ids=["no end", "end", "blank line"])
def test_results_come_line_by_line_however_they_arrive(client_of, size, end):
    data = b"\n".join(LINES) + end

    class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self):
            yield from (data[start : start + size] for start in range(0, len(data), size))

        async def __aiter__(self):
            for piece in self:
                yield piece

    client = client_of(lambda request: httpx.Response(200, stream=Stream()))
    with client.stream_results(BATCH_ID) as lines:
        assert list(lines) == LINES
    request = client.api.requests[0]
    assert str(request.url) == f"{BASE_URL}/v1/messages/batches/{BATCH_ID}/results"
    assert request.headers["accept"] == "application/binary"


@sync_only
def test_the_results_url_of_a_batch_is_never_asked(client_of):
    client = client_of(httpx.Response(200, json=BATCH | {"results_url": "https://evil.example/results"}))
    batch = client.retrieve_batch(BATCH_ID)
    with client.stream_results(batch.id):
        pass

    assert {request.url.host for request in client.api.requests} == {"127.0.0.1"}


@sync_only
def test_results_that_are_not_there_yet_are_not_found(client_of):
    client = client_of(refusal(404, "not_found_error"))

    with pytest.raises(exceptions.NotFoundError), client.stream_results(BATCH_ID):
        pytest.fail("there is nothing to read")


@with_clients(
    "call,remedy",
    both=[
        pytest.param(lambda c: c.list_batches(limit=1), "Check the base URL", id="list"),
        pytest.param(lambda c: c.retrieve_batch(BATCH_ID), "belongs to the batch's workspace", id="a batch"),
        pytest.param(lambda c: c.cancel_batch(BATCH_ID), "belongs to the batch's workspace", id="cancel a batch"),
    ],
    sync=[
        pytest.param(lambda c: c.create_batch(BODY), "Check the base URL", id="create"),
        pytest.param(
            lambda c: c.retrieve_model("claude-none"),
            r"Message: m\. Request id: req_1\.\n.*costs nothing\.$",
            id="a model",
        ),
    ],
)
def test_404_says_what_to_check(client_of, call, remedy):
    client = client_of(refusal(404, "not_found_error"))

    with pytest.raises(exceptions.NotFoundError, match=remedy):
        call(client)


@sync_only
def test_results_are_retried_until_they_begin(client_of):
    pauses = RecordedSleep()
    client = client_of(refusal(529), httpx.Response(200, content=b'{"a":1}'), sleep=pauses)

    with client.stream_results(BATCH_ID) as lines:
        assert list(lines) == [b'{"a":1}']
    assert pauses == [0.5]


@sync_only
def test_error_of_the_caller_while_reading_results_is_not_changed(client_of):
    client = client_of(httpx.Response(200, content=b"{}\n{}"))

    def read():
        with client.stream_results(BATCH_ID) as lines:
            next(lines)
            raise httpx.ReadError("mine")

    with pytest.raises(httpx.ReadError, match="mine"):
        read()


# Errors of httpx, and whether a create call may have been accepted before them.
HTTPX_ERRORS = [
    (httpx.ConnectError("[Errno 111] Connection refused"), False),
    (httpx.ConnectError("[Errno -2] Name or service not known"), False),
    (httpx.ConnectTimeout(""), False),
    (httpx.PoolTimeout(""), False),
    (httpx.ProxyError("407 Proxy Authentication Required"), False),
    (httpx.UnsupportedProtocol("no"), False),
    (httpx.WriteError("broken pipe"), True),
    (httpx.WriteTimeout(""), True),
    (httpx.LocalProtocolError("Illegal header value b'Bearer secret'"), True),
    (httpx.ReadError("reset"), True),
    (httpx.ReadTimeout(""), True),
    (httpx.RemoteProtocolError("Server disconnected without sending a response."), True),
    (httpx.CloseError("close"), True),
    (httpx.DecodingError("gzip"), True),
]


@sync_only
@pytest.mark.parametrize(("error", "accepted"), HTTPX_ERRORS, ids=[type(error).__name__ for error, _ in HTTPX_ERRORS])
def test_create_without_a_response_is_sent_again_only_if_nothing_was_sent(client_of, error, accepted):
    client = client_of(error, OK)

    if accepted:
        with pytest.raises(exceptions.APIConnectionError) as caught:
            client.create_batch(BODY)
        assert caught.value.may_have_been_accepted is True
        assert type(error).__name__ in str(caught.value)
        assert "look for it" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is error
        assert len(client.api.requests) == 1
    else:
        assert client.create_batch(BODY).id == BATCH_ID
        assert [request.content for request in client.api.requests] == [BODY, BODY]


@pytest.mark.parametrize("error", [error for error, _ in HTTPX_ERRORS], ids=lambda error: type(error).__name__)
@with_clients(
    "call",
    both=[
        pytest.param(lambda c: c.retrieve_batch(BATCH_ID), id="retrieve"),
        pytest.param(lambda c: c.cancel_batch(BATCH_ID), id="cancel"),
        pytest.param(lambda c: c.list_batches(), id="list"),
    ],
    sync=[pytest.param(lambda c: c.list_models(), id="list_models")],
)
def test_other_calls_are_sent_again(client_of, call, error):
    client = client_of(error, httpx.Response(200, json=BATCH | {"data": [], "has_more": False}))
    call(client)

    assert len(client.api.requests) == 2


def test_cancel_that_may_have_been_accepted_once_keeps_the_flag(client_of):
    client = client_of(httpx.ReadTimeout(""), httpx.ConnectError("refused"))

    with pytest.raises(exceptions.APIConnectionError) as caught:
        client.cancel_batch(BATCH_ID)
    assert caught.value.may_have_been_accepted is True


def test_reading_never_counts_as_accepted(client_of):
    with pytest.raises(exceptions.APIConnectionError) as caught:
        client_of(httpx.ReadTimeout("")).retrieve_batch(BATCH_ID)
    assert caught.value.may_have_been_accepted is False


@sync_only
@pytest.mark.parametrize(
    ("answer", "sent"),
    [
        (refusal(529, "overloaded_error"), 2),
        (refusal(429, "rate_limit_error"), 2),
        (refusal(429, "rate_limit_error", "ramp_limit_exceeded"), 2),
        (refusal(400, "invalid_request_error", "request_body_timeout"), 2),
        (refusal(429, "rate_limit_error", "enforced_spend_limit_reached"), 1),
        (refusal(400, "invalid_request_error"), 1),
        (refusal(401, "authentication_error"), 1),
        (refusal(408, "timeout_error"), 1),
        (refusal(409, "conflict_error"), 1),
        (refusal(413, "request_too_large"), 1),
        (refusal(500), 1),
        (refusal(502), 1),
        (refusal(504, "timeout_error"), 1),
        (refusal(504, "timeout_error", x_should_retry="true"), 1),
        (httpx.Response(200, content=b"<html>"), 1),
        (httpx.Response(200, json={"id": BATCH_ID}), 1),
        (httpx.Response(302, headers={"location": "https://login.example"}), 1),
    ],
)
def test_refused_create_is_retried_only_if_it_was_not_accepted_and_a_retry_may_help(client_of, answer, sent):
    client = client_of(answer, OK)
    try:
        client.create_batch(BODY)
    except exceptions.APIError:
        assert sent == 1

    assert len(client.api.requests) == sent


def test_retries_end(client_of):
    pauses = RecordedSleep()
    client = client_of(refusal(503), max_retries=3, sleep=pauses)

    with pytest.raises(exceptions.ServerError):
        client.retrieve_batch(BATCH_ID)
    assert len(client.api.requests) == 4
    assert pauses == [0.5, 1.0, 2.0]


def test_pause_follows_retry_after(client_of):
    pauses = RecordedSleep()
    client = client_of(refusal(429, retry_after="7"), refusal(429, retry_after_ms="1500"), OK, sleep=pauses)
    client.retrieve_batch(BATCH_ID)

    assert pauses == [pytest.approx(7.5), pytest.approx(1.65)]


def test_long_retry_after_is_raised_to_the_caller(client_of):
    client = client_of(refusal(429, retry_after="3600"))

    with pytest.raises(exceptions.RateLimitError) as caught:
        client.retrieve_batch(BATCH_ID)
    assert caught.value.retry_after == 3600.0
    assert len(client.api.requests) == 1


@sync_only
def test_a_redirect_is_not_followed(client_of):
    client = client_of(httpx.Response(307, headers={"location": "https://evil.example/v1?k=1"}), OK)

    with pytest.raises(exceptions.MalformedResponseError, match=r"redirect to evil\.example\."):
        client.create_batch(BODY)
    assert {request.url.host for request in client.api.requests} == {"127.0.0.1"}


def test_response_that_is_too_large_is_refused(client_of):
    huge = httpx.Response(200, content=b"[" * (64 * 1024 * 1024 + 1))

    with pytest.raises(exceptions.MalformedResponseError, match="more than 67,108,864 bytes"):
        client_of(huge, max_retries=0).retrieve_batch(BATCH_ID)


def test_long_error_page_is_read_only_in_part(client_of):
    def endless(request):
        class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
            def __iter__(self):
                yield b"<html><title>Gone</title>"
                while True:
                    yield b"x" * 10_000

            async def __aiter__(self):
                for piece in self:
                    yield piece

        return httpx.Response(502, stream=Stream())

    with pytest.raises(exceptions.ServerError, match="'Gone'"):
        client_of(endless).retrieve_batch(BATCH_ID)


class Slow:
    """A body whose pieces take their time, on a clock moved by hand."""

    def __init__(self, clock, seconds, count):
        self.clock, self.seconds, self.count = clock, seconds, count
        self.content_length = count
        self.given = 0

    def chunks(self):
        for _ in range(self.count):
            self.given += 1
            yield b"x"
            self.clock.now += self.seconds


@sync_only
def test_an_upload_is_cut_off_at_its_deadline(client_of):
    clock = FakeClock()
    body = Slow(clock, seconds=10, count=50)
    client = client_of(OK, clock=clock)

    with pytest.raises(exceptions.APIConnectionError, match="the deadline for sending it has passed") as caught:
        client.create_batch(body, deadline_seconds=100)
    assert caught.value.may_have_been_accepted is True
    # The slice that begins last may take 25 s, a quarter of the time, and is still over in time.
    assert body.given == 9
    assert client.api.requests == []


@sync_only
def test_upload_before_its_deadline_is_sent(client_of):
    clock = FakeClock()
    client_of(OK, clock=clock).create_batch(Slow(clock, seconds=10, count=7), deadline_seconds=100)


@sync_only
def test_no_attempt_begins_after_the_deadline(client_of):
    pauses = RecordedSleep()
    client = client_of(refusal(529, retry_after="60"), OK, sleep=pauses, clock=FakeClock())

    with pytest.raises(exceptions.OverloadedError):
        client.create_batch(BODY, deadline_seconds=80)
    assert pauses == []
    assert len(client.api.requests) == 1


def test_reading_has_no_deadline(client_of):
    client = client_of(refusal(529, retry_after="300"), OK, clock=FakeClock())

    assert client.retrieve_batch(BATCH_ID).id == BATCH_ID


def drain(client):
    with client.stream_results(BATCH_ID):
        pass


CREATE = pytest.param(lambda c: c.create_batch(BODY), id="create")
RETRIEVE = pytest.param(lambda c: c.retrieve_batch(BATCH_ID), id="retrieve")


@with_clients(
    "call,seconds",
    both=[pytest.param(lambda c: c.retrieve_batch(BATCH_ID), 60.0, id="retrieve")],
    sync=[
        pytest.param(lambda c: c.create_batch(BODY), 600.0, id="create"),
        pytest.param(drain, 600.0, id="results"),
    ],
)
def test_only_slow_calls_have_the_long_read_timeout(client_of, call, seconds):
    client = client_of(OK)
    call(client)
    timeout = client.api.requests[0].extensions["timeout"]

    assert timeout == {"connect": 10.0, "read": seconds, "write": 30.0, "pool": seconds}


@sync_only
def test_a_body_that_cannot_be_read_fails_with_its_own_error(client_of):
    class Broken(Chunks):
        def chunks(self):
            yield b"x"
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        client_of(OK).create_batch(Broken(length=2))


def identity():
    return WorkloadIdentity(federation_rule_id="f", organization_id="o", identity_token="eyJ.eyJ.sig")


def token(value, **fields):
    return httpx.Response(200, json={"access_token": value, "expires_in": 3600} | fields)


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_a_workload_identity_gets_its_token_over_the_clients_own_connections(client_of, call):
    client = client_of(token("sk-ant-oat01-one"), OK, credentials=identity())
    call(client)
    client.retrieve_batch(BATCH_ID)
    exchange, first, second = client.api.requests

    assert str(exchange.url) == "https://api.anthropic.com/v1/oauth/token"
    assert "anthropic-version" not in exchange.headers
    assert first.headers["authorization"] == second.headers["authorization"] == "Bearer sk-ant-oat01-one"
    assert first.headers["anthropic-beta"] == "oauth-2025-04-20"


@with_clients(
    "call,body",
    both=[pytest.param(*RETRIEVE.values, b"", id="retrieve")],
    sync=[pytest.param(*CREATE.values, BODY, id="create")],
)
def test_after_a_401_a_token_is_renewed_once_even_for_a_create(client_of, call, body):
    unauthorized = refusal(401, "authentication_error")
    client = client_of(token("one"), unauthorized, token("two"), OK, credentials=identity())

    assert call(client).id == BATCH_ID
    assert [request.headers.get("authorization") for request in client.api.requests] == [
        None,
        "Bearer one",
        None,
        "Bearer two",
    ]
    assert client.api.requests[3].content == body


def test_second_401_is_an_authentication_error(client_of):
    unauthorized = refusal(401, "authentication_error")
    client = client_of(token("one"), unauthorized, token("two"), unauthorized, credentials=identity())

    with pytest.raises(exceptions.AuthenticationError, match="workload identity"):
        client.retrieve_batch(BATCH_ID)
    assert len(client.api.requests) == 4


def test_a_key_is_not_tried_twice(client_of):
    client = client_of(refusal(401, "authentication_error"), OK)

    with pytest.raises(exceptions.AuthenticationError, match="Check the API key"):
        client.retrieve_batch(BATCH_ID)
    assert len(client.api.requests) == 1


@with_clients(
    "call,path",
    both=[pytest.param(*RETRIEVE.values, f"/v1/messages/batches/{BATCH_ID}", id="retrieve")],
    sync=[pytest.param(*CREATE.values, "/v1/messages/batches", id="create")],
)
@pytest.mark.parametrize("failure", [httpx.ReadTimeout(""), refusal(504), httpx.Response(200, content=b"<html>")])
def test_failed_exchange_does_not_count_as_a_failed_create(client_of, failure, call, path):
    client = client_of(failure, token("one"), OK, credentials=identity())

    assert call(client).id == BATCH_ID
    assert [request.url.path for request in client.api.requests] == [
        "/v1/oauth/token",
        "/v1/oauth/token",
        path,
    ]


@sync_only
def test_an_exchange_that_keeps_failing_has_created_nothing(client_of):
    client = client_of(httpx.ReadTimeout(""), credentials=identity())

    with pytest.raises(exceptions.APIConnectionError) as caught:
        client.create_batch(BODY)
    assert caught.value.may_have_been_accepted is False
    assert "exchange the identity token" in str(caught.value)


def test_token_response_above_one_mebibyte_is_refused(client_of):
    client = client_of(httpx.Response(200, content=b" " * 1_048_577), credentials=identity(), max_retries=0)

    with pytest.raises(exceptions.MalformedResponseError, match="more than 1,048,576 bytes"):
        client.retrieve_batch(BATCH_ID)


@with_clients("call", both=[RETRIEVE], sync=[CREATE])
def test_neither_keys_nor_prompts_nor_answers_get_into_a_log(client_of, caplog, call):
    caplog.set_level(logging.DEBUG)
    answer = refusal(529, "overloaded_error")
    client = client_of(answer, OK, extra_headers={"x-gateway": "gateway-secret"})
    call(client)
    said = caplog.text

    assert "Trying again in 0.5 s." in said
    assert "overloaded_error" in said
    for secret in (KEY, "gateway-secret", "hello"):
        assert secret not in said


def test_closed_client_cannot_be_used(client_of):
    client = client_of(OK)
    client.retrieve_batch(BATCH_ID)
    client.close()

    with pytest.raises(RuntimeError, match="closed"):
        client.retrieve_batch(BATCH_ID)
