"""Credentials: what goes into a call's headers, and what to do when the API refuses it.

API keys and ready tokens are values. A workload identity exchanges an OIDC token for a short-lived one: facts from
manage-claude/wif-reference and the SDK's lib/credentials. However many threads and tasks share an identity, one
exchange runs at a time and serves them all. None of the classes shows a secret in its repr.
"""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

import msgspec

from airflow_claude_batch.api.base_url import check_base_url
from airflow_claude_batch.api.evidence import Effect
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.limits import (
    DEFAULT_BASE_URL,
    MAX_IDENTITY_TOKEN_BYTES,
    MAX_TOKEN_RESPONSE_BYTES,
)
from airflow_claude_batch.api.request_body import BytesBody
from airflow_claude_batch.api.responses import invalid_response_failure, read_response
from airflow_claude_batch.exceptions import ConfigurationError

Send = Callable[[HTTPRequest], HTTPResponse]
AsyncSend = Callable[[HTTPRequest], Awaitable[HTTPResponse]]
Clock = Callable[[], float]

# Seconds; all from the SDK, lib/credentials/_constants.py.
EXCHANGE_TIMEOUT: Final = 30.0
REFRESH_SOON: Final = 120.0  # before the end: one caller fetches a new token, the others go on with the old one
REFRESH_NOW: Final = 30.0  # before the end: nobody uses the old one any more
PAUSE_AFTER_FAILURE: Final = 5.0  # of an early refresh

OAUTH_BETA: Final = "oauth-2025-04-20"
_EXCHANGE_BETAS: Final = f"{OAUTH_BETA},oidc-federation-2026-04-01"


class Credentials(Protocol):
    """What a client asks of a credential.

    ``betas`` go into every call's ``anthropic-beta``. ``names_workspace``: the credential belongs to one workspace,
    and a workspace header must not be sent with it. ``remedy``: what a person should check after a 401.
    """

    @property
    def header_name(self) -> str: ...
    @property
    def betas(self) -> tuple[str, ...]: ...
    @property
    def names_workspace(self) -> bool: ...
    @property
    def remedy(self) -> str: ...

    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        """Give the headers for one call; may make a call of its own."""
        ...

    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        """Do as :meth:`headers` does, from an event loop."""
        ...

    def forget(self, headers: Mapping[str, str]) -> bool:
        """Take note that the API refused these headers; say whether asking for new ones may help."""
        ...


class _Fixed(ABC):
    """A credential that is one header and never changes."""

    __slots__ = ()

    betas: ClassVar[tuple[str, ...]] = ()
    names_workspace: ClassVar[bool] = False

    @property
    @abstractmethod
    def header_name(self) -> str: ...

    @property
    @abstractmethod
    def _header_value(self) -> str: ...

    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        return {self.header_name: self._header_value}

    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        return {self.header_name: self._header_value}

    def forget(self, headers: Mapping[str, str]) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class ApiKey(_Fixed):
    """An API key.

    :param key: white space around it is dropped, for that is how keys come out of many secret stores.
    :param header: ``authorization`` is the documented way; ``x-api-key`` the older one that some gateways want.
    :raises ConfigurationError: the key is empty or cannot be a key.
    """

    key: str = field(repr=False)
    header: Literal["authorization", "x-api-key"] = "authorization"
    remedy: ClassVar[str] = "Check the API key, which is the connection's password."

    def __post_init__(self) -> None:
        if self.header not in ("authorization", "x-api-key"):
            raise ConfigurationError("an API key goes into the header 'authorization' or 'x-api-key'")
        check_secret(self.key, "the API key (the connection's password)")

    @property
    def header_name(self) -> str:
        return self.header

    @property
    def _header_value(self) -> str:
        key = self.key.strip()
        return key if self.header == "x-api-key" else f"Bearer {key}"


@dataclass(frozen=True, slots=True)
class BearerToken(_Fixed):
    """A ready token, such as a gateway's.

    :raises ConfigurationError: the token is empty or cannot be a token.
    """

    token: str = field(repr=False)
    remedy: ClassVar[str] = "Check the connection's token: it is wrong, or it has expired."

    def __post_init__(self) -> None:
        check_secret(self.token, "the connection's token")

    @property
    def header_name(self) -> str:
        return "authorization"

    @property
    def _header_value(self) -> str:
        return f"Bearer {self.token.strip()}"


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    stale_at: float
    dead_at: float


class _TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 3600.0  # what the docs give as the default


@dataclass(frozen=True, slots=True)
class _Flight:
    """An exchange under way. ``landing`` gives the outcome to those who wait for it."""

    mine: bool
    early: bool
    landing: Future[str]


class _Abandoned(Exception):  # noqa: N818  (not an error: the one who was fetching was canceled, another has to)
    pass


class _TokenCache:
    """Holds an identity's token and sees to it that one exchange runs at a time, in all threads and loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: _Token | None = None
        self._landing: Future[str] | None = None
        self._pause_until = float("-inf")

    def take(self, now: float) -> str | _Flight:
        """Give a token that is good now; or an exchange, to make (``mine``) or to wait for."""
        with self._lock:
            usable = self._token if self._token and now < self._token.dead_at else None
            if usable and (now < usable.stale_at or self._landing or now < self._pause_until):
                return usable.value
            if self._landing:
                return _Flight(mine=False, early=False, landing=self._landing)
            self._landing = Future()
            # A running future cannot be canceled, so a waiting task that is canceled takes nobody along.
            self._landing.set_running_or_notify_cancel()
            return _Flight(mine=True, early=usable is not None, landing=self._landing)

    @contextmanager
    def telling(self, flight: _Flight, clock: Clock) -> Iterator[None]:
        """Tell those who wait, if the exchange made inside fails or is canceled."""
        try:
            yield
        except BaseException as error:
            with self._lock:
                self._landing = None
                self._pause_until = clock() + PAUSE_AFTER_FAILURE
            flight.landing.set_exception(error if isinstance(error, Exception) else _Abandoned())
            raise

    def land(self, flight: _Flight, token: _Token) -> str:
        """Keep a new token and hand it to those who wait."""
        with self._lock:
            self._landing = None
            self._token = token
        flight.landing.set_result(token.value)
        return token.value

    def forget(self, value: str) -> None:
        """Drop the token if it is still this one; another caller may have brought a better one already."""
        with self._lock:
            if self._token and self._token.value == value:
                self._token = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """An identity that is proved by an OIDC token of the platform: no key is stored anywhere.

    :param service_account_id: the documentation asks for it; the SDK sends it only if there is one.
    :param workspace_id: needed if the federation rule enables several; the token then belongs to that one.
    :param identity_token: the OIDC token itself; or
    :param identity_token_file: where the platform keeps it, read anew at every exchange because it is rotated.
    :param base_url: where to exchange it.
    :raises ConfigurationError: no token or two, or an address to which a token must not be sent.
    """

    federation_rule_id: str
    organization_id: str
    service_account_id: str | None = None
    workspace_id: str | None = None
    identity_token: str | None = field(default=None, repr=False)
    identity_token_file: str | None = None
    base_url: str = DEFAULT_BASE_URL
    _cache: _TokenCache = field(default_factory=_TokenCache, init=False, repr=False, compare=False)

    betas: ClassVar[tuple[str, ...]] = (OAUTH_BETA,)
    names_workspace: ClassVar[bool] = True
    header_name: ClassVar[str] = "authorization"
    remedy: ClassVar[str] = (
        "Check the workload identity: federation rule, organization, service account, workspace, and the identity "
        "token's issuer, audience and expiry. The API does not say which of them it is; the Claude Console's "
        "authentication events do."
    )

    def __post_init__(self) -> None:
        if bool(self.identity_token) == bool(self.identity_token_file):
            raise ConfigurationError("a workload identity needs either identity_token or identity_token_file")
        if not (self.federation_rule_id and self.organization_id):
            raise ConfigurationError("a workload identity needs federation_rule_id and organization_id")
        check_base_url(self.base_url)

    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        """Give the header with a token that is good now, exchanging or waiting for one if need be."""
        while True:
            step = self._cache.take(clock())
            if isinstance(step, str):
                return {"authorization": f"Bearer {step}"}
            with _passing_over(step):
                token = self._exchange(step, send, clock) if step.mine else step.landing.result()
                return {"authorization": f"Bearer {token}"}

    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        """Do as :meth:`headers` does, from an event loop."""
        while True:
            step = self._cache.take(clock())
            if isinstance(step, str):
                return {"authorization": f"Bearer {step}"}
            with _passing_over(step):
                waiting = self._aexchange(step, send, clock) if step.mine else asyncio.wrap_future(step.landing)
                return {"authorization": f"Bearer {await waiting}"}

    def forget(self, headers: Mapping[str, str]) -> bool:
        """Drop the token of these headers. A new one may be accepted."""
        self._cache.forget(headers["authorization"].removeprefix("Bearer "))
        return True

    def _exchange(self, flight: _Flight, send: Send, clock: Clock) -> str:
        with self._cache.telling(flight, clock):
            begun = clock()
            request = self._request()
            return self._cache.land(flight, _read_token(request, send(request), begun))

    async def _aexchange(self, flight: _Flight, send: AsyncSend, clock: Clock) -> str:
        with self._cache.telling(flight, clock):
            begun = clock()
            request = await asyncio.to_thread(self._request)
            return self._cache.land(flight, _read_token(request, await send(request), begun))

    def _request(self) -> HTTPRequest:
        assertion = self._assertion()
        fields = {
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "assertion": assertion,
            "federation_rule_id": self.federation_rule_id,
            "organization_id": self.organization_id,
            "service_account_id": self.service_account_id,
            "workspace_id": self.workspace_id,
        }
        body = BytesBody(msgspec.json.encode({name: value for name, value in fields.items() if value}))
        return HTTPRequest(
            what="exchange the identity token for an access token",
            effect=Effect.READ_ONLY,
            method="POST",
            url=f"{check_base_url(self.base_url)}/v1/oauth/token",
            headers={"content-type": "application/json", "anthropic-beta": _EXCHANGE_BETAS},
            body=body,
            read_timeout=EXCHANGE_TIMEOUT,
            write_timeout=EXCHANGE_TIMEOUT,
            credential_remedy=self.remedy,
            not_found_remedy="Nothing there exchanges tokens: check the base URL, which is the connection's host.",
            max_response_bytes=MAX_TOKEN_RESPONSE_BYTES,
            secret_in_body=assertion,
        )

    def _assertion(self) -> str:
        token = self.identity_token or _read_file(self.identity_token_file or "")
        check_secret(token, "the identity token")
        if len(token) > MAX_IDENTITY_TOKEN_BYTES:
            raise ConfigurationError(
                f"the identity token has {len(token):,} bytes; the API takes {MAX_IDENTITY_TOKEN_BYTES:,}"
            )
        return token.strip()


def check_secret(value: str, what: str) -> None:
    """Refuse what cannot stand in a header; otherwise the HTTP library's own complaint would quote it.

    :raises ConfigurationError: names ``what``, never the value.
    """
    bare = value.strip()
    if not bare:
        raise ConfigurationError(f"{what} is empty")
    if not (bare.isascii() and bare.isprintable()) or " " in bare:
        raise ConfigurationError(f"{what} has a blank, a line break or another character that no key has")


@contextmanager
def _passing_over(flight: _Flight) -> Iterator[None]:
    """Go on with the old token when refreshing it early failed, and look again when the one who fetched gave up."""
    try:
        yield
    except _Abandoned:
        pass
    except (CallFailed, ConfigurationError):
        if not flight.early:
            raise


def _read_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a token"
        raise ConfigurationError(f"the identity token file {path} cannot be read: {reason}") from None


def _read_token(request: HTTPRequest, answer: HTTPResponse, begun: float) -> _Token:
    """Read a token, with the times from when on it is stale and dead; for short-lived ones these come closer."""
    said = read_response(request, answer, _TokenAnswer)
    try:
        check_secret(said.access_token, "the access token")
    except ConfigurationError as error:
        raise invalid_response_failure(request, str(error)) from None
    return _Token(
        said.access_token.strip(),
        stale_at=begun + said.expires_in - min(REFRESH_SOON, said.expires_in / 2),
        dead_at=begun + said.expires_in - min(REFRESH_NOW, said.expires_in / 4),
    )
