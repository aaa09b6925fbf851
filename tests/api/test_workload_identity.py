from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from clients import FakeClock

from airflow_claude_batch.api.http import CallFailed, HTTPResponse
from airflow_claude_batch.api.workload_identity import WorkloadIdentity
from airflow_claude_batch.exceptions import AuthenticationError, ConfigurationError, MalformedResponseError

ASSERTION = "eyJhbGciOi.eyJzdWIi.c2lnbmF0dXJl"


class TokenEndpoint:
    """Stands in for ``/v1/oauth/token``, for threads and for event loops."""

    def __init__(self, **answer):
        self.requests = []
        self.answer = {"expires_in": 3600} | answer
        self.failures = []
        self.hold = None

    def __call__(self, request):
        self.requests.append(json.loads(b"".join(request.body.chunks())))
        self.last = request
        if self.hold:
            self.hold()
        return self._answer()

    async def on_loop(self, request):
        self.requests.append(json.loads(b"".join(request.body.chunks())))
        if self.hold:
            await self.hold()
        return self._answer()

    def _answer(self):
        if self.failures:
            return self.failures.pop(0)
        body = {"access_token": f"sk-ant-oat01-token{len(self.requests)}", "token_type": "Bearer"} | self.answer
        return HTTPResponse(200, {}, json.dumps(body).encode())


def identity(**options):
    fields = {"federation_rule_id": "fdrl_1", "organization_id": "org", "identity_token": ASSERTION}
    return WorkloadIdentity(**(fields | options))


class Caller:
    """Gets a credential's token, from a thread or from an event loop."""

    def __init__(self, credentials, endpoint, clock):
        self.credentials, self.endpoint, self.clock = credentials, endpoint, clock


class SyncCaller(Caller):
    def token(self):
        return self.credentials.headers(self.endpoint, self.clock)["authorization"].removeprefix("Bearer ")


class AsyncCaller(Caller):
    def token(self):
        headers = asyncio.run(self.credentials.aheaders(self.endpoint.on_loop, self.clock))
        return headers["authorization"].removeprefix("Bearer ")


@pytest.fixture(params=[SyncCaller, AsyncCaller], ids=["sync", "async"])
def caller(request):
    """A caller with an identity, an endpoint and a clock of its own."""
    return request.param(identity(), TokenEndpoint(), FakeClock())


def test_an_exchange_says_what_the_documentation_asks_for(caller):
    caller.credentials = identity(service_account_id="svac_1", workspace_id="wrkspc_1")

    assert caller.token() == "sk-ant-oat01-token1"
    assert caller.endpoint.requests == [
        {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": ASSERTION,
            "federation_rule_id": "fdrl_1",
            "organization_id": "org",
            "service_account_id": "svac_1",
            "workspace_id": "wrkspc_1",
        }
    ]


def test_exchange_leaves_out_unset_values_and_the_version():
    endpoint = TokenEndpoint()
    identity(base_url="https://gateway.example/claude/").headers(endpoint, FakeClock())

    assert set(endpoint.requests[0]) == {"grant_type", "assertion", "federation_rule_id", "organization_id"}
    assert endpoint.last.url == "https://gateway.example/claude/v1/oauth/token"
    assert endpoint.last.headers == {
        "content-type": "application/json",
        "anthropic-beta": "oauth-2025-04-20,oidc-federation-2026-04-01",
    }
    assert endpoint.last.read_timeout == 30
    assert endpoint.last.max_response_bytes == 1024 * 1024


def test_token_is_cached_until_shortly_before_its_expiry(caller):
    tokens = []
    for moment in (0, 3479, 3480, 3600):
        caller.clock.now = 1000.0 + moment
        tokens.append(caller.token().removeprefix("sk-ant-oat01-"))

    # At 3480 s, 120 s before its end, it was renewed early; that one is good until long after.
    assert tokens == ["token1", "token1", "token2", "token2"]
    assert len(caller.endpoint.requests) == 2


def test_a_short_lived_token_is_not_renewed_at_every_call(caller):
    caller.endpoint.answer["expires_in"] = 60
    tokens = []
    for moment in (0, 29, 30, 31):
        caller.clock.now = 1000.0 + moment
        tokens.append(caller.token()[-1])

    assert tokens == ["1", "1", "2", "2"]


def test_short_lived_token_is_unusable_a_quarter_of_its_lifetime_before_its_expiry(caller):
    caller.endpoint.answer["expires_in"] = 60
    caller.token()
    caller.endpoint.failures = [HTTPResponse(503, {}, b"")] * 2
    caller.clock.now += 44

    assert caller.token().endswith("token1")
    caller.clock.now += 1
    with pytest.raises(CallFailed):
        caller.token()


def test_token_without_expires_in_expires_after_an_hour(caller):
    del caller.endpoint.answer["expires_in"]
    caller.token()
    caller.clock.now += 3479

    assert caller.token().endswith("token1")
    caller.clock.now += 1
    assert caller.token().endswith("token2")


def test_token_that_has_expired_on_arrival_is_used_once(caller):
    caller.endpoint.answer["expires_in"] = 0

    assert caller.token().endswith("token1")
    assert caller.token().endswith("token2")


def test_an_early_refresh_that_fails_goes_on_with_the_old_token_and_pauses(caller):
    caller.token()
    caller.endpoint.failures = [HTTPResponse(503, {}, b"")] * 2
    caller.clock.now += 3500

    assert caller.token().endswith("token1")
    assert caller.token().endswith("token1")
    assert len(caller.endpoint.requests) == 2
    caller.clock.now += 5
    assert caller.token().endswith("token1")
    assert len(caller.endpoint.requests) == 3
    caller.clock.now += 5
    assert caller.token().endswith("token4")


def test_a_late_refresh_that_fails_is_an_error_and_the_next_call_tries_again(caller):
    caller.token()
    caller.endpoint.failures = [HTTPResponse(503, {}, b"")]
    caller.clock.now += 3570

    with pytest.raises(CallFailed):
        caller.token()
    assert caller.token().endswith("token3")


def test_refused_token_is_dropped_unless_a_newer_one_is_cached(caller):
    first = caller.token()

    assert caller.credentials.forget({"authorization": f"Bearer {first}"}) is True
    second = caller.token()
    assert second != first
    assert caller.credentials.forget({"authorization": f"Bearer {first}"}) is True
    assert caller.token() == second


def test_token_file_is_read_at_every_exchange(caller, tmp_path):
    path = tmp_path / "token"
    caller.credentials = identity(identity_token=None, identity_token_file=str(path))
    path.write_text("first.j.wt\n")
    first = caller.token()
    path.write_text("second.j.wt")
    caller.credentials.forget({"authorization": f"Bearer {first}"})
    caller.token()

    assert [request["assertion"] for request in caller.endpoint.requests] == ["first.j.wt", "second.j.wt"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"a b", "a space"),
        (b"\xff\xfe", "it is not a token"),
        (b"x" * 16385, "16,385 bytes"),
    ],
    ids=["missing", "empty", "blank", "two words", "binary", "too large"],
)
def test_unusable_token_file_is_a_configuration_error(caller, tmp_path, content, said):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    caller.credentials = identity(identity_token=None, identity_token_file=str(path))

    with pytest.raises(ConfigurationError, match=said):
        caller.token()
    assert caller.endpoint.requests == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"identity_token": None}, "either identity_token"),
        ({"identity_token_file": "/token"}, "either identity_token"),
        ({"federation_rule_id": ""}, "federation_rule_id"),
        ({"organization_id": ""}, "organization_id"),
        ({"base_url": "http://api.anthropic.com"}, "https"),
    ],
    ids=str,
)
def test_incomplete_identity_is_refused(options, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        identity(**options)

    assert ASSERTION not in str(caught.value)


def test_an_identity_shows_no_secret(caller):
    token = caller.token()
    shown = repr(caller.credentials)

    assert "fdrl_1" in shown
    assert ASSERTION not in shown
    assert token not in shown
    assert token not in repr(caller.credentials._cache._token)


def test_a_refused_exchange_says_what_to_check(caller):
    body = {"type": "error", "error": {"type": "authentication_error", "message": "Unauthorized"}}
    caller.endpoint.failures = [HTTPResponse(401, {}, json.dumps(body).encode())]

    with pytest.raises(CallFailed) as caught:
        caller.token()
    error = caught.value.error
    assert isinstance(error, AuthenticationError)
    assert "exchange the identity token" in str(error)
    assert "issuer, audience" in str(error)
    assert error.may_have_been_accepted is False


def test_oauth_error_is_read(caller):
    body = {"error": "invalid_grant", "error_description": "the assertion has expired"}
    caller.endpoint.failures = [HTTPResponse(400, {}, json.dumps(body).encode())]

    with pytest.raises(CallFailed, match=r"400 invalid_grant\.\nMessage: the assertion has expired"):
        caller.token()


@pytest.mark.parametrize(
    "body", [b"<html></html>", b"{}", b'{"access_token":"a\\nb"}', b'{"access_token":""}', b'{"access_token":"a b"}']
)
def test_response_without_a_usable_token_is_malformed(caller, body):
    caller.endpoint.failures = [HTTPResponse(200, {}, body)]

    with pytest.raises(CallFailed) as caught:
        caller.token()
    assert isinstance(caught.value.error, MalformedResponseError)


def test_many_threads_cause_one_exchange():
    endpoint, clock, workload = TokenEndpoint(), FakeClock(), identity()
    waiting = threading.Barrier(8)
    go_on = threading.Event()
    endpoint.hold = lambda: go_on.wait(10)

    def ask():
        waiting.wait(10)
        return workload.headers(endpoint, clock)["authorization"]

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(7)]
        waiting.wait(10)
        go_on.set()
        answers = {future.result(10) for future in asked}

    assert answers == {"Bearer sk-ant-oat01-token1"}
    assert len(endpoint.requests) == 1


def test_many_tasks_cause_one_exchange_and_share_its_failure():
    endpoint, clock, workload = TokenEndpoint(), FakeClock(), identity()
    endpoint.hold = lambda: asyncio.sleep(0)
    endpoint.failures = [HTTPResponse(500, {}, b"")]

    async def ask_together(count):
        asking = [workload.aheaders(endpoint.on_loop, clock) for _ in range(count)]
        return await asyncio.gather(*asking, return_exceptions=True)

    failed = asyncio.run(ask_together(5))
    assert all(isinstance(each, CallFailed) for each in failed)
    assert len(endpoint.requests) == 1

    answers = asyncio.run(ask_together(50))
    assert answers == [{"authorization": "Bearer sk-ant-oat01-token2"}] * 50
    assert len(endpoint.requests) == 2


def test_exchange_of_a_canceled_task_is_made_by_another():
    endpoint, clock, workload = TokenEndpoint(), FakeClock(), identity()

    async def scene():
        begun = asyncio.Event()

        async def hold():
            begun.set()
            await asyncio.Event().wait()

        endpoint.hold = hold
        first = asyncio.create_task(workload.aheaders(endpoint.on_loop, clock))
        await begun.wait()
        others = [asyncio.create_task(workload.aheaders(endpoint.on_loop, clock)) for _ in range(3)]
        await asyncio.sleep(0)
        others.pop().cancel()
        endpoint.hold = None
        first.cancel()
        return await asyncio.gather(first, *others, return_exceptions=True)

    first, *others = asyncio.run(scene())
    assert isinstance(first, asyncio.CancelledError)
    assert others == [{"authorization": "Bearer sk-ant-oat01-token2"}] * 2


def test_a_thread_and_a_loop_share_one_exchange():
    endpoint, clock, workload = TokenEndpoint(), FakeClock(), identity()
    begun, go_on = threading.Event(), threading.Event()

    def hold():
        begun.set()
        go_on.wait(10)

    endpoint.hold = hold

    async def ask():
        asking = asyncio.create_task(workload.aheaders(endpoint.on_loop, clock))
        await asyncio.sleep(0)
        go_on.set()
        return await asking

    with ThreadPoolExecutor(1) as pool:
        leading = pool.submit(workload.headers, endpoint, clock)
        begun.wait(10)
        following = asyncio.run(ask())
        assert following == leading.result(10)

    assert len(endpoint.requests) == 1
