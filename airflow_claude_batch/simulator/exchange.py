"""One HTTP exchange, free of any HTTP library: what a door hands in and what it must carry out.

Two doors lead here, real sockets (`server`) and an in-process transport (`door`). A door builds a
`Request`, calls ``handle``, and carries out either the `Answer` or the `Misfortune` that was raised.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from mmap import mmap

import msgspec

Body = bytes | mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call as it arrived.

    :param path: decoded, without the query.
    :param query: decoded pairs in order; a name may repeat.
    :param headers: names in lower case.
    :param body: None if it was above the limit; it was not kept then.
    :param base_url: scheme and authority by which the caller reached us.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = b""
    base_url: str = "http://simulator"

    def query_value(self, name: str) -> str | None:
        return next((value for key, value in reversed(self.query) if key == name), None)


@dataclass(slots=True, kw_only=True)
class Answer:
    """One answer to be sent.

    :param body: whole, or chunks that are made while they are sent (no Content-Length then).
    :param delay_seconds: real time to wait before sending.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    delay_seconds: float = 0.0


class Misfortune(Exception):  # noqa: N818  (not an error of ours: it is what the caller is to suffer)
    """Something other than an answer."""


class ConnectionDropped(Misfortune):
    """The connection ends here: before any answer, or in the midst of a body.

    :param reset: end it with a TCP reset instead of an ordinary close.
    """

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("connection dropped")
        self.reset = reset


class ConnectionRefused(Misfortune):
    """Nobody listens."""


class Hanging(Misfortune):
    """Nobody answers, for as long as the outage lasts."""


def json_answer(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(
        status=status,
        headers={"content-type": "application/json", **(headers or {})},
        body=msgspec.json.encode(content),
    )
