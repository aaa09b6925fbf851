"""The in-process transport for httpx, so that tests need neither sockets nor threads.

This is the only module of the simulator that imports httpx.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import parse_qsl

import httpx

from airflow_claude_batch.simulator.http.exchange import (
    ConnectionDropped,
    ConnectionRefused,
    ConnectionStalled,
    Handler,
    Request,
    Response,
    TransportFailure,
)
from airflow_claude_batch.simulator.http.outages import Outage
from airflow_claude_batch.simulator.http.response_bodies import compressed

_STALL_CHECK_SECONDS = 0.05


class InProcessTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries requests of ``httpx.Client`` and ``httpx.AsyncClient`` straight to the simulator.

    Delays are real. None is longer than the client's read timeout, which is raised then.
    """

    def __init__(self, handle: Handler, *, body_limit: Callable[[str], int], outage: Outage) -> None:
        self._handle = handle
        self._body_limit = body_limit
        self._outage = outage

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._respond(request, request.read())
        for seconds in self._delays(response, request):
            time.sleep(seconds)
        return _to_httpx(response, request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = self._respond(request, await request.aread())
        for seconds in self._delays(response, request):
            await asyncio.sleep(seconds)
        return _to_httpx(response, request)

    def _respond(self, request: httpx.Request, body: bytes) -> Response:
        url = request.url
        arrived = Request(
            method=request.method,
            path=url.path,
            target=url.raw_path.decode("ascii"),
            query=tuple(parse_qsl(url.query.decode("ascii"), keep_blank_values=True)),
            headers={name.lower(): value for name, value in request.headers.items()},
            body=body if len(body) <= self._body_limit(url.path) else None,
            base_url=f"{url.scheme}://{url.netloc.decode('ascii')}",
        )
        try:
            return compressed(self._handle(arrived), arrived)
        except ConnectionStalled:
            return Response(delay_seconds=math.inf)
        except TransportFailure as failure:
            raise _to_httpx_error(failure, request) from None

    def _delays(self, response: Response, request: httpx.Request) -> Iterator[float]:
        """Yield the seconds to sleep, in steps.

        :raises httpx.ReadTimeout: after them, when the response comes too late for the client.
        """
        timeout = request.extensions.get("timeout", {}).get("read")
        timeout = math.inf if timeout is None else timeout
        if math.isinf(response.delay_seconds):
            while self._outage.kind == "hang" and timeout > 0:
                yield min(_STALL_CHECK_SECONDS, timeout)
                timeout -= _STALL_CHECK_SECONDS
            if timeout > 0:
                raise _to_httpx_error(ConnectionDropped(), request)
            raise httpx.ReadTimeout("The read operation timed out", request=request)
        if response.delay_seconds > 0:
            yield min(response.delay_seconds, timeout)
        if response.delay_seconds > timeout:
            raise httpx.ReadTimeout("The read operation timed out", request=request)


def _to_httpx(response: Response, request: httpx.Request) -> httpx.Response:
    if isinstance(response.body, bytes):
        return httpx.Response(response.status, headers=response.headers, stream=httpx.ByteStream(response.body))
    return httpx.Response(response.status, headers=response.headers, stream=_Stream(response.body, request))


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that is generated while it is read."""

    def __init__(self, pieces: Iterator[bytes], request: httpx.Request) -> None:
        self._pieces = pieces
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        except TransportFailure as failure:
            raise _to_httpx_error(failure, self._request) from None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def _to_httpx_error(failure: TransportFailure, request: httpx.Request) -> httpx.TransportError:
    """Return the error that httpx raises when the same happens on a socket."""
    match failure:
        case ConnectionRefused():
            return httpx.ConnectError("[Errno 111] Connection refused", request=request)
        case ConnectionDropped(reset=True):
            return httpx.ReadError("[Errno 104] Connection reset by peer", request=request)
        case _:
            message = "Server disconnected without sending a response."
            return httpx.RemoteProtocolError(message, request=request)
