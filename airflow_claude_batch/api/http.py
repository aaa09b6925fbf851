"""A call as values: the request that goes out, the answer that comes back, the failure of it. No socket here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from airflow_claude_batch.api.address import host_of
from airflow_claude_batch.api.retry import Effect, Failure, http_date
from airflow_claude_batch.exceptions import APIError

# One TLS record: what is written to a socket at once, so that the write timeout covers it and no more.
SLICE_BYTES: Final = 16 * 1024

# Of an error's body; what the API says fits many times over, and a proxy's page need not be read whole.
MAX_ERROR_BYTES: Final = 64 * 1024


_PUBLIC_HEADERS: Final = frozenset(
    {
        "accept",
        "anthropic-beta",
        "anthropic-user-profile-id",
        "anthropic-version",
        "anthropic-workspace-id",
        "content-type",
    }
)
_SHORTEST_SECRET: Final = 8  # characters; hiding "true" would hide what an answer says


class RequestBody(Protocol):
    """A body that is never held whole: it can be iterated again for another attempt.

    ``chunks()`` gives exactly ``content_length`` bytes in all, in pieces of any size.
    """

    @property
    def content_length(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body that is in memory anyway."""

    data: bytes = field(repr=False)

    @property
    def content_length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


class UploadStopped(Exception):  # noqa: N818  (it is caught where it is made to be, and becomes an APIError there)
    """We stopped sending a body; says why."""


@dataclass(frozen=True, slots=True)
class TimedBody:
    """A body in slices, of which none begins to leave after ``deadline`` on ``clock``; and none too many or too few."""

    body: RequestBody
    deadline: float
    clock: Callable[[], float]

    @property
    def content_length(self) -> int:
        return self.body.content_length

    def chunks(self) -> Iterator[bytes]:
        """Give slices.

        :raises UploadStopped: before a slice that would leave too late, or if the length is not as announced.
        """
        left = self.content_length
        for piece in self._slices():
            left -= len(piece)
            if left < 0:
                break
            if self.clock() >= self.deadline:
                raise UploadStopped("the time for sending it is over")
            yield piece
        if left:
            raise UploadStopped("its body is not as long as it was said to be")

    def _slices(self) -> Iterator[bytes]:
        for chunk in self.body.chunks():
            view = memoryview(chunk)
            for start in range(0, len(view), SLICE_BYTES):
                yield bytes(view[start : start + SLICE_BYTES])


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """What to put on the wire, and what to say if it fails.

    :param what: completes "could not …" in messages.
    :param effect: what sending it twice does.
    :param read_timeout: seconds to wait for the next bytes of the answer.
    :param write_timeout: seconds to wait until the next bytes of the body have left.
    :param credential_remedy: what to check when the credential is refused.
    :param missing_remedy: what to check after a 404.
    :param max_answer_bytes: more than that is no answer of the API.
    :param secret_in_body: what must not be repeated, besides the headers.
    """

    what: str
    effect: Effect
    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: RequestBody | None = field(default=None, repr=False)
    read_timeout: float
    write_timeout: float
    credential_remedy: str
    missing_remedy: str = ""
    max_answer_bytes: int
    secret_in_body: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        return host_of(self.url)

    def hush(self, text: str) -> str:
        """The text without what this request holds of secrets: some gateways repeat what they refuse."""
        held = (value.removeprefix("Bearer ") for name, value in self.headers.items() if name not in _PUBLIC_HEADERS)
        for secret in (*held, self.secret_in_body):
            if len(secret) >= _SHORTEST_SECRET:
                text = re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)
        return text


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """What came back; header names are lower-case."""

    status_code: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def server_time(self) -> datetime | None:
        """The server's clock when it answered, in whole seconds."""
        return http_date(self.headers.get("date"))

    @property
    def succeeded(self) -> bool:
        return 200 <= self.status_code < 300


class CallFailed(Exception):  # noqa: N818  (never leaves this floor: the error in it does)
    """One attempt failed: ``failure`` is for the policy, ``error`` for the caller."""

    def __init__(self, failure: Failure, error: APIError, effect: Effect) -> None:
        super().__init__(str(error))
        self.failure = failure
        self.error = error
        self.effect = effect
