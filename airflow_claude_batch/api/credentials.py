"""Credentials: they sign a call, and say what to do when the API refuses it.

API keys and bearer tokens are headers with fixed values. A
:class:`~airflow_claude_batch.api.workload_identity.WorkloadIdentity` is a header too, and fetches its token. No class
here shows a secret in its repr.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, Protocol

from airflow_claude_batch.api.http import HTTPRequest, HTTPResponse
from airflow_claude_batch.exceptions import ConfigurationError

_QUOTES: Final = "\"'`\u00ab\u00b4\u00bb\u2018\u2019\u201c\u201d"
#: What people paste as a secret, and what it is. No key or token has these forms.
_NOT_SECRETS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), problem)
    for pattern, problem in (
        (rf"^[{_QUOTES}]|[{_QUOTES}]$", "has quotation marks around it"),
        (r"^(authorization|x-api-key)\s*:", "begins with the name of a header"),
        (r"^(bearer|basic)\s", "begins with 'Bearer' or 'Basic', which the client adds by itself"),
        (r"^(export\s+)?\w*(key|token|secret|password)\w*\s*=\s*[^=\s]", "begins with the name of a variable"),
        (r"^\$(\w+|\{\w+\}|\(.*\))$|^%\w+%$", "is the name of a variable, not its value"),
        (r"^\{\{.*\}\}$", "is a template, which Airflow does not render in a connection"),
        (r"^[*•]+$", "is only the mask that is shown for a secret"),
        (r"^s?k-ant-.*(\.\.\.|…)", "is the shortened form that the Console shows"),
        (r"[\r\n]", "has a line break in it"),
        (r"\s", "has a space in it"),
    )
)

Send = Callable[[HTTPRequest], HTTPResponse]
AsyncSend = Callable[[HTTPRequest], Awaitable[HTTPResponse]]
Clock = Callable[[], float]


class Credentials(Protocol):
    """The interface of a credential, as the client uses it. Every attempt of a call is signed anew.

    ``header_names`` are the headers that it sets, in lower case. ``betas`` are added to every call's ``anthropic-beta``
    header. ``names_workspace`` is true if the credential belongs to one workspace: then a workspace header must not be
    sent with it. ``remedy`` says what to check after a 401.
    """

    @property
    def header_names(self) -> tuple[str, ...]: ...
    @property
    def betas(self) -> tuple[str, ...]: ...
    @property
    def names_workspace(self) -> bool: ...
    @property
    def remedy(self) -> str: ...

    def sign(self, request: HTTPRequest, send: Send, clock: Clock) -> HTTPRequest:
        """Return the request with the headers that authenticate it. This may send a request of its own.

        :raises CallFailed: that request failed, or the body cannot be read. The call itself was not sent.
        """
        ...

    async def asign(self, request: HTTPRequest, send: AsyncSend, clock: Clock) -> HTTPRequest:
        """Return the request with the headers that authenticate it, from an event loop. See :meth:`sign`."""
        ...

    def forget(self, headers: Mapping[str, str]) -> bool:
        """Drop headers that the API refused. Return true if new ones may be accepted."""
        ...


class HeaderCredentials(ABC):
    """Base of credentials whose headers do not depend on the request."""

    __slots__ = ()

    betas: ClassVar[tuple[str, ...]] = ()
    names_workspace: ClassVar[bool] = False

    @property
    def header_names(self) -> tuple[str, ...]:
        return ("authorization",)

    @abstractmethod
    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        """Return the headers for one call. This may send a request of its own."""

    @abstractmethod
    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        """Return the headers for one call, from an event loop. See :meth:`headers`."""

    def sign(self, request: HTTPRequest, send: Send, clock: Clock) -> HTTPRequest:
        return with_headers(request, self.headers(send, clock))

    async def asign(self, request: HTTPRequest, send: AsyncSend, clock: Clock) -> HTTPRequest:
        return with_headers(request, await self.aheaders(send, clock))


class _FixedHeader(HeaderCredentials):
    """A credential that is one header and never changes."""

    __slots__ = ()

    @property
    @abstractmethod
    def _header(self) -> tuple[str, str]:
        """The name and the value of the header."""

    def headers(self, send: Send, clock: Clock) -> Mapping[str, str]:
        return dict([self._header])

    async def aheaders(self, send: AsyncSend, clock: Clock) -> Mapping[str, str]:
        return dict([self._header])

    def forget(self, headers: Mapping[str, str]) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class ApiKey(_FixedHeader):
    """An API key.

    :param key: white space around it is removed, because many secret stores add a line break.
    :param header: ``authorization`` is the documented header. Some gateways need the older ``x-api-key``.
    :raises ConfigurationError: the key is empty or has characters that no key has.
    """

    key: str = field(repr=False)
    header: Literal["authorization", "x-api-key"] = "authorization"
    remedy: ClassVar[str] = "Check the API key, which is the connection's password."

    def __post_init__(self) -> None:
        if self.header not in ("authorization", "x-api-key"):
            raise ConfigurationError("The header of an API key must be 'authorization' or 'x-api-key'.")
        check_secret(self.key, "the API key (the connection's password)")

    @property
    def header_names(self) -> tuple[str, ...]:
        return (self.header,)

    @property
    def _header(self) -> tuple[str, str]:
        key = self.key.strip()
        return self.header, key if self.header == "x-api-key" else f"Bearer {key}"


@dataclass(frozen=True, slots=True)
class BearerToken(_FixedHeader):
    """An access token, for example a gateway's.

    :raises ConfigurationError: the token is empty or has characters that no token has.
    """

    token: str = field(repr=False)
    remedy: ClassVar[str] = "Check the connection's token: it is wrong, or it has expired."

    def __post_init__(self) -> None:
        check_secret(self.token, "the connection's token")

    @property
    def _header(self) -> tuple[str, str]:
        return "authorization", f"Bearer {self.token.strip()}"


def with_headers(request: HTTPRequest, headers: Mapping[str, str]) -> HTTPRequest:
    """Return the request with more headers. One that it has already is replaced."""
    return replace(request, headers={**request.headers, **headers})


def check_secret(value: str, name: str) -> None:
    """Raise if a secret cannot be the value of a header. The HTTP library's own error would show the secret.

    :raises ConfigurationError: the message has ``name`` and what is wrong, never the value.
    """
    secret = value.strip()
    subject = name[0].upper() + name[1:]
    if not secret:
        raise ConfigurationError(f"{subject} is empty.")
    if problem := _problem_of(secret):
        raise ConfigurationError(f"{subject} {problem}.", "Copy it again, without anything around it.")


def _problem_of(secret: str) -> str | None:
    """Say what came along when a secret was copied, or was copied in its place."""
    for pattern, problem in _NOT_SECRETS:
        if pattern.search(secret):
            return problem
    for character in secret:
        if not (character.isascii() and character.isprintable()):
            shown = unicodedata.name(character, "").lower()
            return f"has a character that no key or token has: U+{ord(character):04X}{f', {shown}' if shown else ''}"
    return None
