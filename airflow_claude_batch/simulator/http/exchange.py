"""One HTTP exchange, independent of any HTTP library.

Calls arrive in two ways: over real sockets (`server`) or through an httpx transport (`in_process_transport`).
Each builds a `Request`, calls the handler, and then sends the `Response` or acts out the `TransportFailure`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from mmap import mmap

import msgspec

Body = bytes | mmap


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call as it arrived.

    :param target: path and query as they arrived. Empty where nobody kept them.
    :param path: decoded, without the query.
    :param query: decoded pairs in order. A name may repeat.
    :param headers: names in lower case.
    :param body: None when it exceeded the limit, because it was not kept then.
    :param base_url: scheme and authority that the caller used.
    """

    method: str
    path: str
    target: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = b""
    base_url: str = "http://simulator"

    def query_value(self, name: str) -> str | None:
        return next((value for key, value in reversed(self.query) if key == name), None)


@dataclass(slots=True, kw_only=True)
class Response:
    """One response to send.

    :param body: the whole body, or chunks that are generated while they are sent (without Content-Length).
    :param delay_seconds: real seconds to wait before sending.
    :param date_offset_seconds: seconds that the ``Date`` header differs from the clock. None: no such header.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""
    delay_seconds: float = 0.0
    date_offset_seconds: float | None = 0.0


Handler = Callable[[Request], Response]


class TransportFailure(Exception):  # noqa: N818  (not a failure of the simulator, but what the client is to see)
    """The client gets no response, or not all of it."""


class ConnectionDropped(TransportFailure):
    """The connection ends here: before any response, or within a body.

    :param reset: end it with a TCP reset instead of an ordinary close.
    """

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__("connection dropped")
        self.reset = reset


class ConnectionRefused(TransportFailure):
    """Nothing listens on the address."""


class ConnectionStalled(TransportFailure):
    """No response is sent for as long as the outage lasts."""


def json_response(content: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Build a response with a JSON body."""
    return Response(
        status=status,
        headers={"content-type": "application/json", **(headers or {})},
        body=msgspec.json.encode(content),
    )
