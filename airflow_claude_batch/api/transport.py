"""Send requests with httpx: one class for threads, one for event loops.

Redirects are not followed, because they would send the credential to another host. Without a proxy of its own, a
client uses the environment's proxy.

Every call ends within the ``total_timeout`` of its request, however slowly the other side sends. A download of results
may take as long as it brings bytes.
"""

from __future__ import annotations

import asyncio
import functools
import math
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

import httpx

from airflow_claude_batch.api.base_url import host_in, is_loopback, is_plain_http
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.evidence import Effect, Stage
from airflow_claude_batch.api.http import CallFailed, HTTPRequest, HTTPResponse
from airflow_claude_batch.api.httpx_errors import call_failure
from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.api.request_body import RequestBody, UploadStopped
from airflow_claude_batch.api.responses import error_response_failure, invalid_response_failure, no_response_failure
from airflow_claude_batch.api.socket_options import SocketOptions
from airflow_claude_batch.api.time_limit import ReadRate, TooSlow, call_seconds, seconds_left, time_limit
from airflow_claude_batch.api.tls import ssl_context
from airflow_claude_batch.exceptions import ConfigurationError

# Seconds an idle connection is kept: longer than poll intervals in use, shorter than load balancers and NATs keep it
# (350 s is the shortest common time). httpx's default of 5 s would open a new connection for nearly every poll.
KEEPALIVE_SECONDS: Final = 300.0
MAX_CONNECTIONS: Final = 20
MAX_CONNECTIONS_OF_THREADS: Final = 80  # each thread that asks a request directly has one
ENCODING: Final = "gzip"  # of responses

# Of an error's body. The API's errors are much shorter, and a proxy's page need not be read whole.
MAX_ERROR_BYTES: Final = 64 * 1024


class Transport:
    """Sends requests from any thread.

    :raises ConfigurationError: the certificates or the proxy cannot be used.
    """

    def __init__(self, config: ClientConfig, transport: httpx.BaseTransport | None = None) -> None:
        self.calls_per_minute: int | None = None
        #: As the last response that named it.
        self.workspace_id: str | None = None
        self._config = config
        self._socket_options = SocketOptions(config.write_timeout)
        context = ssl_context(config)
        with _proxy_errors():
            options = _options(config, context, MAX_CONNECTIONS_OF_THREADS)
            self._client = httpx.Client(transport=transport, **options)

    def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request and read the whole response.

        :raises CallFailed: there is no response, or one that is too large to be the API's.
        """
        with _limit_of(request), self._open(request) as response:
            return self._read(request, response)

    @contextmanager
    def stream(self, request: HTTPRequest) -> Iterator[httpx.Response]:
        """Send a request and return the response if its status is a success. Its body is not read yet.

        :raises CallFailed: there is no response, or one with an error status.
        """
        with self._open(request) as response:
            if not response.is_success:
                with _limit_of(request):
                    raise error_response_failure(request, self._read(request, response))
            yield response

    def chunks(self, request: HTTPRequest, response: httpx.Response) -> Iterator[bytes]:
        """Read the body chunk by chunk.

        :raises CallFailed: the connection was lost, or too few bytes come.
        """
        _check_encoding(request, response)
        chunks, rate = response.iter_bytes(), ReadRate(min(request.read_timeout, call_seconds()))
        while True:
            try:
                with rate.applied():
                    chunk = next(chunks, None)
            except (httpx.HTTPError, TooSlow) as error:
                raise call_failure(request, error) from error
            if chunk is None:
                return
            if seconds_left() <= 0:
                raise call_failure(request, TooSlow("the response was not complete in time"))
            yield chunk

    def close(self) -> None:
        self._client.close()

    @contextmanager
    def _open(self, request: HTTPRequest) -> Iterator[httpx.Response]:
        body = _Body(request.body) if request.body is not None else None
        try:
            with _limit_of(request):
                prepared = _httpx_request(self._client, self._config, request, body, self._socket_options)
                response = self._client.send(prepared, stream=True)
        except (httpx.HTTPError, UploadStopped, TooSlow) as error:
            raise call_failure(request, error) from error
        self.calls_per_minute = _calls_per_minute(request, response) or self.calls_per_minute
        self.workspace_id = response.headers.get("anthropic-workspace-id") or self.workspace_id
        try:
            yield response
        finally:
            response.close()

    def _read(self, request: HTTPRequest, response: httpx.Response) -> HTTPResponse:
        received = _ReceivedBody(request, response)
        try:
            for chunk in self.chunks(request, response):
                if received.add(chunk):
                    break
        except CallFailed:
            # Edges often refuse a large body and hang up. The status of the error is known all the same.
            if response.is_success:
                raise
        return received.response()


class AsyncTransport:
    """Sends requests from one event loop. Certificates are loaded in a thread, at the first call.

    :param context: an SSL context to use instead of loading one.
    """

    def __init__(
        self,
        config: ClientConfig,
        transport: httpx.AsyncBaseTransport | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.calls_per_minute: int | None = None
        self._config = config
        self._socket_options = SocketOptions(config.write_timeout)
        self._transport = transport
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send a request and read the whole response.

        :raises CallFailed: there is no response, or one that is too large to be the API's.
        """
        seconds = min(request.total_timeout, _seconds_left(request))
        try:
            async with asyncio.timeout(seconds), self._open(request) as response:
                return await self._read(request, response)
        except TimeoutError as error:
            raise call_failure(request, TooSlow(f"no complete response within {seconds:.0f} s")) from error

    async def aclose(self) -> None:
        if self._client:
            await self._client.aclose()

    @asynccontextmanager
    async def _open(self, request: HTTPRequest) -> AsyncIterator[httpx.Response]:
        client = await self._get_client()
        body = _AsyncBody(request.body) if request.body is not None else None
        prepared = _httpx_request(client, self._config, request, body, self._socket_options.on_loop)
        try:
            response = await client.send(prepared, stream=True)
        except (httpx.HTTPError, UploadStopped) as error:
            raise call_failure(request, error) from error
        self.calls_per_minute = _calls_per_minute(request, response) or self.calls_per_minute
        try:
            yield response
        finally:
            await response.aclose()

    async def _read(self, request: HTTPRequest, response: httpx.Response) -> HTTPResponse:
        received = _ReceivedBody(request, response)
        try:
            async with aclosing(self._chunks(request, response)) as chunks:
                async for chunk in chunks:
                    if received.add(chunk):
                        break
        except CallFailed:
            if response.is_success:
                raise
        return received.response()

    async def _chunks(self, request: HTTPRequest, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        _check_encoding(request, response)
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as error:
            raise call_failure(request, error) from error

    async def _get_client(self) -> httpx.AsyncClient:
        if self._client is None:
            context = self._context
            if context is None:
                context = await asyncio.to_thread(ssl_context, self._config)
            # Another task may have made the client while this one was loading certificates.
            if self._client is None:
                with _proxy_errors():
                    options = _options(self._config, context, MAX_CONNECTIONS)
                    self._client = httpx.AsyncClient(transport=self._transport, **options)
        return self._client


@dataclass(frozen=True, slots=True)
class _Body:
    body: RequestBody

    def __iter__(self) -> Iterator[bytes]:
        return self.body.chunks()


@dataclass(frozen=True, slots=True)
class _AsyncBody:
    """A body in memory: on an event loop, only token exchanges have one."""

    body: RequestBody

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.body.chunks():
            yield chunk


class _ReceivedBody:
    """Collects a response's body up to the size that it may have."""

    def __init__(self, request: HTTPRequest, response: httpx.Response) -> None:
        self._request = request
        self._response = response
        self._body = bytearray()
        self._limit = request.max_response_bytes if response.is_success else MAX_ERROR_BYTES

    def add(self, chunk: bytes) -> bool:
        """Add a chunk. Return true if the limit is passed, so that no more need be read."""
        self._body += chunk
        return len(self._body) > self._limit

    def response(self) -> HTTPResponse:
        """Return the response.

        :raises CallFailed: the body of a success is too large to be the API's.
        """
        if self._response.is_success and len(self._body) > self._limit:
            raise invalid_response_failure(self._request, f"it has more than {self._limit:,} bytes")
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        return HTTPResponse(self._response.status_code, headers, bytes(self._body[: self._limit]))


def _limit_of(request: HTTPRequest) -> AbstractContextManager[None]:
    """Limit the time of one attempt. A create call has a deadline of its own: cut off, it may be billed unseen.

    :raises CallFailed: no time is left for it. Nothing was sent.
    """
    _seconds_left(request)
    return time_limit(request.total_timeout, shielded=request.effect is Effect.NOT_IDEMPOTENT)


def _seconds_left(request: HTTPRequest) -> float:
    left = seconds_left()
    if left <= 0:
        raise no_response_failure(request, Stage.CONNECTING, "no time is left for this call")
    return math.inf if request.effect is Effect.NOT_IDEMPOTENT else left


def _check_encoding(request: HTTPRequest, response: httpx.Response) -> None:
    """Accept gzip once and nothing else. One layer of gzip makes a thousand bytes of one byte, two make a million.

    :raises CallFailed: the body has another encoding.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", ENCODING):
        reason = f"its body is encoded as {shorten(encoding, 40)!r}, which the client does not accept"
        raise invalid_response_failure(request, reason)


@contextmanager
def _proxy_errors() -> Iterator[None]:
    """Replace httpx's errors about proxy settings, because they can quote the proxy's password."""
    try:
        yield
    except (ValueError, TypeError, ImportError, httpx.InvalidURL) as error:
        raise ConfigurationError(
            f"The proxy cannot be used ({type(error).__name__}).",
            "Set the connection's proxy, or HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in the environment, to a URL like "
            "http://host:port. A socks proxy needs the package httpx[socks].",
        ) from None


@functools.cache  # to find the version, files of the installed package are read and parsed
def _user_agent() -> str:
    return f"airflow-claude-batch/{version('airflow-claude-batch')}"


def _options(config: ClientConfig, context: ssl.SSLContext, max_connections: int) -> dict[str, Any]:
    # Unencrypted http is allowed on loopback because nothing leaves the machine. A proxy would break that. Elsewhere it
    # is allowed because the connection trusts the way to its host, which is not the way through a proxy.
    plain = is_plain_http(config.base_url) or is_loopback(host_in(config.base_url) or "")
    return {
        "verify": context,
        "proxy": config.proxy,
        "trust_env": not plain,
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=max_connections, keepalive_expiry=KEEPALIVE_SECONDS),
        "headers": {
            "user-agent": _user_agent(),
            "accept-encoding": ENCODING,
        },
    }


def _httpx_request(
    client: httpx.Client | httpx.AsyncClient,
    config: ClientConfig,
    request: HTTPRequest,
    body: _Body | _AsyncBody | None,
    trace: Callable[[str, Mapping[str, Any]], object],
) -> httpx.Request:
    headers = dict(request.headers)
    if request.body is not None:
        headers["content-length"] = str(request.body.content_length)
    left = max(0.001, seconds_left())
    timeout = httpx.Timeout(
        connect=min(config.connect_timeout, left),
        read=request.read_timeout,
        write=min(request.write_timeout, left),
        pool=min(request.read_timeout, left),
    )
    try:
        return client.build_request(
            request.method, request.url, headers=headers, content=body, timeout=timeout, extensions={"trace": trace}
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"Nothing can be sent to {request.host}: {error}.") from error


def _calls_per_minute(request: HTTPRequest, response: httpx.Response) -> int | None:
    if request.is_single_message:  # it has limits of its own, see api/rate_limits.py
        return None
    text = response.headers.get("anthropic-ratelimit-requests-limit", "")
    return int(text) if text.isdecimal() and len(text) < 10 else None
