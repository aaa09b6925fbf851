"""Claude on Google Cloud, managed by Anthropic: its base URL, and access tokens of Google's as a credential.

Facts from the SDK, lib/google_cloud. The paths, bodies and model ids below the base URL are the API's own. The library
google-auth fetches the tokens; ``google_auth.py`` beside this module calls it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeVar
from urllib.parse import quote

from airflow_claude_batch.api.credentials import AsyncSend, Clock, Send, check_secret
from airflow_claude_batch.api.evidence import Effect, Stage
from airflow_claude_batch.api.http import CallFailed, HTTPRequest
from airflow_claude_batch.api.renewed_token import RenewedToken
from airflow_claude_batch.api.responses import no_response_failure
from airflow_claude_batch.api.time_limit import seconds_left
from airflow_claude_batch.api.token_cache import Token, TokenCache

GOOGLE_ORIGIN: Final = "https://claude.googleapis.com"
DEFAULT_LOCATION: Final = "global"  # "the gateway should always be addressed via the global region"
FETCH_SECONDS: Final = 30.0  # for a token, with all retries of google-auth
#: Seconds before expiry. The metadata server gives a new token from 5 minutes before on, and google-auth asks for one
#: 225 seconds before (google/auth/_helpers.py, REFRESH_THRESHOLD).
_REFRESH_EARLY: Final = 225.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FetchedToken:
    """An access token and the seconds until it ends."""

    value: str = field(repr=False)
    seconds: float


class TokenSource(Protocol):
    """The interface of what fetches tokens. Equal sources give tokens of the same account."""

    @property
    def description(self) -> str:
        """What the tokens come from, after "of"."""
        ...

    def fetch(self, deadline: float) -> FetchedToken:
        """Fetch a token. Blocks.

        :param deadline: no call of it begins after this time, on ``time.monotonic``.
        :raises CallFailed: Google cannot be reached, or refuses.
        :raises ConfigurationError: there are no credentials, or their library is missing.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GoogleToken(RenewedToken):
    """An access token of Google's, renewed before it ends. It goes to the host of the configuration only.

    :param source: fetches the tokens, in a thread of its own: google-auth has blocking calls only.
    """

    source: TokenSource
    _cache: TokenCache = field(default_factory=TokenCache, init=False, repr=False, compare=False)

    names_workspace: ClassVar[bool] = True  # it is in the path of every call

    @property
    def remedy(self) -> str:
        return (
            f"Check the Google credentials: those of {self.source.description}. Their account needs a role in the "
            "project that may use Claude, and the scope cloud-platform. Check project_id, location and workspace_id, "
            "too."
        )

    def _fetch(self, send: Send, clock: Clock) -> Token:
        started = clock()
        try:
            fetched = self._begin().result(seconds := _wait_seconds())
        except TimeoutError:
            raise self._too_slow(seconds) from None
        return _token(fetched, started)

    async def _afetch(self, send: AsyncSend, clock: Clock) -> Token:
        started = clock()
        try:
            async with asyncio.timeout(seconds := _wait_seconds()):
                fetched = await asyncio.wrap_future(self._begin())
        except TimeoutError:
            raise self._too_slow(seconds) from None
        return _token(fetched, started)

    def _begin(self) -> Future[FetchedToken]:
        deadline = time.monotonic() + FETCH_SECONDS
        return _in_thread(lambda: self.source.fetch(deadline))

    def _too_slow(self, seconds: float) -> CallFailed:
        request = token_request("https://oauth2.googleapis.com/token", self.remedy)
        return no_response_failure(request, Stage.CONNECTING, f"no access token within {seconds:.0f} s")


def google_base_url(project: str, location: str, workspace: str) -> str:
    """Return the base URL of a workspace."""
    names = [quote(name, safe="") for name in (project, location, workspace)]
    return "{}/v1/projects/{}/locations/{}/workspaces/{}/invoke".format(GOOGLE_ORIGIN, *names)


def token_request(url: str, remedy: str) -> HTTPRequest:
    """Describe a call of google-auth's for the texts of errors. It is not sent."""
    return HTTPRequest(
        action="get an access token of Google's",
        effect=Effect.READ_ONLY,
        method="POST",
        url=url,
        headers={},
        read_timeout=FETCH_SECONDS,
        write_timeout=FETCH_SECONDS,
        credential_remedy=remedy,
        not_found_remedy=remedy,
        max_response_bytes=0,
    )


def _wait_seconds() -> float:
    return max(0.0, min(FETCH_SECONDS, seconds_left()))


def _token(fetched: FetchedToken, started: float) -> Token:
    check_secret(fetched.value, "the access token of Google's")
    return Token.lasting(fetched.value, fetched.seconds, started, refresh_early=_REFRESH_EARLY)


def _in_thread(function: Callable[[], T]) -> Future[T]:
    """Run a function in a thread that does not keep the process alive, however long the function blocks."""
    future: Future[T] = Future()
    # A running future cannot be canceled: the thread sets its result in any case.
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="google-access-token", daemon=True).start()
    return future
