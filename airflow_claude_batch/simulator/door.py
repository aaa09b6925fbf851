"""The in-process door: an httpx transport, so that tests need neither sockets nor threads.

This is the only module of the simulator that knows httpx.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import parse_qsl

import httpx

from airflow_claude_batch.simulator.exchange import (
    Answer,
    ConnectionDropped,
    ConnectionRefused,
    Hanging,
    Misfortune,
    Request,
)
from airflow_claude_batch.simulator.outages import Outage

_HANG_STEP_SECONDS = 0.05


class Door(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests of ``httpx.Client`` and ``httpx.AsyncClient`` straight to the simulator.

    Delays are real, but none is longer than the client's read timeout, which then strikes.
    """

    def __init__(
        self, handle: Callable[[Request], Answer], *, body_limit: Callable[[str], int], outage: Outage
    ) -> None:
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request, request.read())
        for wait in self._waits(answer, request):
            time.sleep(wait)
        return _response(answer, request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = self._answer(request, await request.aread())
        for wait in self._waits(answer, request):
            await asyncio.sleep(wait)
        return _response(answer, request)

    def _answer(self, request: httpx.Request, body: bytes) -> Answer:
        url = request.url
        try:
            return self._handle(
                Request(
                    method=request.method,
                    path=url.path,
                    query=tuple(parse_qsl(url.query.decode("ascii"), keep_blank_values=True)),
                    headers={name.lower(): value for name, value in request.headers.items()},
                    body=body if len(body) <= self._body_limit(url.path) else None,
                    base_url=f"{url.scheme}://{url.netloc.decode('ascii')}",
                )
            )
        except Hanging:
            return Answer(delay_seconds=math.inf)
        except Misfortune as fault:
            raise _as_httpx_error(fault, request) from None

    def _waits(self, answer: Answer, request: httpx.Request) -> Iterator[float]:
        """The seconds to sleep, piecewise; a read timeout strikes after them."""
        patience = request.extensions.get("timeout", {}).get("read")
        patience = math.inf if patience is None else patience
        if math.isinf(answer.delay_seconds):
            while self._outage.kind == "hang" and patience > 0:
                yield min(_HANG_STEP_SECONDS, patience)
                patience -= _HANG_STEP_SECONDS
            if patience > 0:
                raise _as_httpx_error(ConnectionDropped(), request)
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        if answer.delay_seconds > 0:
            yield min(answer.delay_seconds, patience)
        if answer.delay_seconds > patience:
            raise httpx.ReadTimeout("The read operation timed out", request=request)


def _response(answer: Answer, request: httpx.Request) -> httpx.Response:
    if isinstance(answer.body, bytes):
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(answer.body))
    return httpx.Response(answer.status, headers=answer.headers, stream=_Stream(answer.body, request))


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes], request: httpx.Request) -> None:
        self._pieces = pieces
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except Misfortune as fault:
            raise _as_httpx_error(fault, self._request) from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def _as_httpx_error(fault: Misfortune, request: httpx.Request) -> httpx.TransportError:
    """What httpx raises when that happens on a socket."""
    match fault:
        case ConnectionRefused():
            return httpx.ConnectError("[Errno 111] Connection refused", request=request)
        case ConnectionDropped(reset=True):
            return httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        case _:
            message = "Server disconnected without sending a response."
            return httpx.RemoteProtocolError(message, request=request)
