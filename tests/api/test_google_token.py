"""Access tokens of Google's, from stand-ins of its metadata server and token endpoint over real sockets."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from clients import FakeClock
from google_servers import MetadataServer, TokenEndpoint, metadata_server, token_endpoint

from airflow_claude_batch.api import google_token
from airflow_claude_batch.api.google_auth import GivenCredentials, MachineAccount, ServiceAccount
from airflow_claude_batch.api.google_token import FetchedToken, GoogleToken, TokenSource, google_base_url
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.time_limit import time_limit
from airflow_claude_batch.exceptions import APIConnectionError, AuthenticationError, ConfigurationError

__all__ = ["metadata_server", "token_endpoint"]

Caller = Callable[[GoogleToken, FakeClock], str]


def never(request: HTTPRequest) -> HTTPResponse:
    raise AssertionError("google-auth sends its own calls")


def in_thread(credentials: GoogleToken, clock: FakeClock) -> str:
    return credentials.headers(never, clock)["authorization"]


def on_loop(credentials: GoogleToken, clock: FakeClock) -> str:
    return asyncio.run(credentials.aheaders(never, clock))["authorization"]  # type: ignore[arg-type]


@pytest.fixture(params=[in_thread, on_loop], ids=["thread", "loop"])
def token_of(request: pytest.FixtureRequest) -> Caller:
    return request.param


def machine() -> GoogleToken:
    return GoogleToken(source=MachineAccount())


def test_machine_token_comes_from_the_metadata_server(metadata_server: MetadataServer, token_of: Caller) -> None:
    assert token_of(machine(), FakeClock()) == "Bearer ya29.token-1"


def test_service_account_token_comes_for_a_signed_assertion(token_endpoint: TokenEndpoint, token_of: Caller) -> None:
    credentials = GoogleToken(source=ServiceAccount(token_endpoint.key))

    assert token_of(credentials, FakeClock()) == "Bearer ya29.token-1"
    assert token_endpoint.calls == ["POST /token"]


def test_token_is_renewed_before_it_ends(metadata_server: MetadataServer, token_of: Caller) -> None:
    credentials, clock = machine(), FakeClock()
    began, tokens = clock.now, []
    for moment in (0, 3374, 3376, 3600):
        clock.now = began + moment
        tokens.append(token_of(credentials, clock)[-1])

    # At 3376 s, 225 s before its end, it was renewed early; that one is good until long after.
    assert tokens == ["1", "1", "2", "2"]


def test_refused_token_is_replaced(metadata_server: MetadataServer, token_of: Caller) -> None:
    credentials, clock = machine(), FakeClock()
    first = token_of(credentials, clock)

    assert credentials.forget({"authorization": first}) is True
    assert token_of(credentials, clock) == "Bearer ya29.token-2"


def test_early_renewal_that_fails_goes_on_with_the_old_token(token_endpoint: TokenEndpoint, token_of: Caller) -> None:
    credentials, clock = GoogleToken(source=ServiceAccount(token_endpoint.key)), FakeClock()
    token_of(credentials, clock)
    token_endpoint.failures = [(401, '{"error":"unauthorized_client"}')]
    clock.now += 3400

    assert token_of(credentials, clock) == "Bearer ya29.token-1"
    clock.now += 5
    assert token_of(credentials, clock) == "Bearer ya29.token-2"


def test_service_account_that_google_refuses_is_told_with_googles_words(
    token_endpoint: TokenEndpoint, token_of: Caller
) -> None:
    stranger = token_endpoint.key | {"client_email": "stranger@example-project.iam.gserviceaccount.com"}

    with pytest.raises(CallFailed) as caught:
        token_of(GoogleToken(source=ServiceAccount(stranger)), FakeClock())
    error = caught.value.error
    assert isinstance(error, AuthenticationError)
    host = stranger["token_uri"].split("/")[2]
    assert str(error).split("\n") == [
        f"Could not get an access token of Google's: {host} responded with 400 invalid_grant.",
        "Message: Invalid grant: account not found.",
        "This call sends nothing and costs nothing.",
        "Check the Google credentials: those of the service account stranger@example-project.iam.gserviceaccount.com.",
    ]
    assert not error.may_have_been_accepted


def test_unreachable_token_endpoint_is_a_connection_error(token_of: Caller, token_endpoint: TokenEndpoint) -> None:
    nowhere = token_endpoint.key | {"token_uri": "http://127.0.0.1:9/token"}

    with pytest.raises(CallFailed) as caught:
        token_of(GoogleToken(source=ServiceAccount(nowhere)), FakeClock())
    assert isinstance(caught.value.error, APIConnectionError)
    assert "get an access token of Google's" in str(caught.value.error)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"private_key": "no key"}, "cannot be used: "),
        ({"client_email": None}, "cannot be used: "),
    ],
    ids=["no key", "no account"],
)
def test_unusable_key_is_a_configuration_error(
    token_endpoint: TokenEndpoint, change: dict[str, str | None], said: str, token_of: Caller
) -> None:
    info = {name: value for name, value in (token_endpoint.key | change).items() if value is not None}

    with pytest.raises(ConfigurationError, match=said) as caught:
        token_of(GoogleToken(source=ServiceAccount(info)), FakeClock())
    assert "BEGIN" not in str(caught.value)
    assert token_endpoint.calls == []


def test_machine_without_credentials_is_told_where_they_may_come_from(
    metadata_server: MetadataServer, monkeypatch: pytest.MonkeyPatch, token_of: Caller
) -> None:
    from google.auth.compute_engine import _metadata

    monkeypatch.setattr(_metadata, "_NO_GCE_CHECK", True)

    with pytest.raises(ConfigurationError, match="No Google credentials can be used on this machine") as caught:
        token_of(machine(), FakeClock())
    assert "gcp_conn_id" in str(caught.value)


def test_missing_library_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch, token_of: Caller) -> None:
    monkeypatch.setitem(sys.modules, "google.auth.transport.requests", None)

    with pytest.raises(ConfigurationError, match="need the library google-auth") as caught:
        token_of(machine(), FakeClock())
    assert "pip install 'airflow-claude-batch[google]'" in str(caught.value)


@pytest.mark.parametrize(("fetch_seconds", "limit"), [(0.05, 60), (60, 0.05)], ids=["of a fetch", "of the caller"])
def test_source_that_never_answers_is_given_up(
    fetch_seconds: float, limit: float, monkeypatch: pytest.MonkeyPatch, token_of: Caller
) -> None:
    monkeypatch.setattr(google_token, "FETCH_SECONDS", fetch_seconds)
    go_on = threading.Event()

    class Stuck:
        description = "nobody"

        def fetch(self, deadline: float) -> FetchedToken:
            go_on.wait(20)
            return FetchedToken("late", 60)

    with time_limit(limit), pytest.raises(CallFailed, match="no access token within 0 s"):
        token_of(GoogleToken(source=Stuck()), FakeClock())
    go_on.set()


def test_no_call_of_google_auth_begins_after_the_deadline(token_endpoint: TokenEndpoint) -> None:
    with pytest.raises(CallFailed, match="no time is left"):
        ServiceAccount(token_endpoint.key).fetch(time.monotonic())
    assert token_endpoint.calls == []


def test_event_loop_goes_on_while_a_token_is_fetched(metadata_server: MetadataServer) -> None:
    metadata_server.hold = threading.Event()

    async def scene() -> list[str]:
        asking = [asyncio.create_task(credentials.aheaders(never, FakeClock())) for _ in range(20)]  # type: ignore[arg-type]
        await asyncio.to_thread(metadata_server.called.wait, 20)
        turns = 0
        for _ in range(1000):
            await asyncio.sleep(0)
            turns += 1
        assert turns == 1000
        assert not any(task.done() for task in asking)
        metadata_server.hold.set()
        return [headers["authorization"] for headers in await asyncio.gather(*asking)]

    credentials = machine()
    assert asyncio.run(scene()) == ["Bearer ya29.token-1"] * 20
    assert len(metadata_server.issued) == 1


def test_credentials_of_another_part_are_refreshed_here(token_endpoint: TokenEndpoint, token_of: Caller) -> None:
    from google.oauth2.service_account import Credentials

    scopes = ["https://www.googleapis.com/auth/cloud-platform"]
    given = Credentials.from_service_account_info(token_endpoint.key, scopes=scopes)
    source = GivenCredentials("the connection 'gcp'", "fingerprint", lambda: given)
    credentials, clock = GoogleToken(source=source), FakeClock()

    assert token_of(credentials, clock) == "Bearer ya29.token-1"
    clock.now += 3600
    assert token_of(credentials, clock) == "Bearer ya29.token-2"


def test_equal_sources_make_equal_credentials(token_endpoint: TokenEndpoint) -> None:
    sources: list[TokenSource] = [
        MachineAccount(),
        ServiceAccount(token_endpoint.key),
        ServiceAccount(token_endpoint.key | {"private_key_id": "key-2"}),
        GivenCredentials("c", "1", object),
        GivenCredentials("c", "2", object),
    ]

    assert len({GoogleToken(source=source) for source in sources}) == len(sources)
    assert GoogleToken(source=MachineAccount()) == GoogleToken(source=MachineAccount())
    assert GoogleToken(source=ServiceAccount(dict(token_endpoint.key))) == GoogleToken(source=sources[1])


def test_no_secret_is_shown(token_endpoint: TokenEndpoint) -> None:
    credentials = GoogleToken(source=ServiceAccount(token_endpoint.key))
    token = in_thread(credentials, FakeClock())

    shown = repr(credentials) + repr(credentials._cache._token) + repr(FetchedToken("ya29.x", 1.0))
    assert token.removeprefix("Bearer ") not in shown
    assert "BEGIN" not in shown
    assert "ya29.x" not in shown


def test_base_url_is_that_of_the_vendors_client() -> None:
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AnthropicGoogleCloud(
        project="p-1", location="us-central1", workspace_id="wrkspc_1", token_provider=lambda: "t"
    )

    assert google_base_url("p-1", "us-central1", "wrkspc_1") == str(client.base_url).rstrip("/")
    assert google_base_url("a/b", "global", "w?").endswith("/projects/a%2Fb/locations/global/workspaces/w%3F/invoke")


def test_library_is_imported_when_a_token_is_fetched_and_not_before() -> None:
    code = (
        "import sys, airflow_claude_batch.api.google_auth as auth, airflow_claude_batch.api.google_token as token;"
        "token.GoogleToken(source=auth.MachineAccount());"
        "print([name for name in sys.modules if 'google' in name.split('.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"
