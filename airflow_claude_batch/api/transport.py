"""The one place where bytes travel: httpx, made and used the same way for both clients.

Redirects are not followed: they would carry the credential along. Without a proxy of their own, clients use the
environment's. What httpx raises is sorted here into what the policy understands, by how far the call had come.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import httpx

from airflow_claude_batch.api.base_url import host_in, is_loopback
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.evidence import Stage
from airflow_claude_batch.api.http import (
    MAX_ERROR_BYTES,
    CallFailed,
    HTTPRequest,
    HTTPResponse,
)
from airflow_claude_batch.api.request_body import RequestBody, UploadStopped
from airflow_claude_batch.api.responses import (
    error_response_failure,
    invalid_response_failure,
    no_response_failure,
    shorten,
)
from airflow_claude_batch.exceptions import ConfigurationError

# Seconds an idle connection is kept: above any poll interval in use, below what load balancers and NATs drop (350 s
# is the shortest common one). httpx's default of 5 s would open a new connection for nearly every poll.
KEEPALIVE_SECONDS: Final = 300.0
MAX_CONNECTIONS: Final = 20
ENCODING: Final = "gzip"  # of answers

# Socket options, seconds: notice a peer that vanished while a call waits for its answer.
_KEEPALIVE: Final = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15}

_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
_NOT_ALL_SENT: Final = (httpx.WriteError, httpx.WriteTimeout, httpx.LocalProtocolError, UploadStopped)


class Transport:
    """Sends requests, from any thread."""

    def __init__(self, config: ClientConfig, transport: httpx.BaseTransport | None = None) -> None:
        self.calls_per_minute: int | None = None
        self._config = config
        self._tuning = _Tuning(config.write_timeout)
        context = ssl_context(config)
        with _configuring():
            self._client = httpx.Client(transport=transport, **_options(config, context))

    def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send, and read the whole answer.

        :raises CallFailed: no answer, or one that is too large to be the API's.
        """
        with self.open(request) as response:
            return self._collected(request, response)

    @contextmanager
    def open(self, request: HTTPRequest) -> Iterator[httpx.Response]:
        """Send, and give the answer with its body still to come.

        :raises CallFailed: no answer.
        """
        body = _Body(request.body) if request.body is not None else None
        try:
            response = self._client.send(_built(self._client, self._config, request, body, self._tuning), stream=True)
        except (httpx.HTTPError, UploadStopped) as error:
            raise _sorted(request, error) from error
        self.calls_per_minute = _calls_per_minute(response) or self.calls_per_minute
        try:
            yield response
        finally:
            response.close()

    @contextmanager
    def stream(self, request: HTTPRequest) -> Iterator[httpx.Response]:
        """Send, and give the answer if it is a success.

        :raises CallFailed: no answer, or one that is an error.
        """
        with self.open(request) as response:
            if not response.is_success:
                raise error_response_failure(request, self._collected(request, response))
            yield response

    def chunks(self, request: HTTPRequest, response: httpx.Response) -> Iterator[bytes]:
        """Read the body piece by piece.

        :raises CallFailed: it was cut off.
        """
        _check_encoding(request, response)
        try:
            yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise _sorted(request, error) from error

    def _collected(self, request: HTTPRequest, response: httpx.Response) -> HTTPResponse:
        collected = _Collected(request, response)
        try:
            for chunk in self.chunks(request, response):
                if collected.add(chunk):
                    break
        except CallFailed:
            # The status of an error is worth more than that its last bytes are missing: edges often refuse a large
            # body and hang up.
            if response.is_success:
                raise
        return collected.answer()

    def close(self) -> None:
        self._client.close()


class AsyncTransport:
    """Sends requests, from one event loop. Certificates are loaded off the loop, at the first call."""

    def __init__(
        self,
        config: ClientConfig,
        transport: httpx.AsyncBaseTransport | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.calls_per_minute: int | None = None
        self._config = config
        self._tuning = _Tuning(config.write_timeout)
        self._transport = transport
        self._context = context
        self._client: httpx.AsyncClient | None = None

    async def send(self, request: HTTPRequest) -> HTTPResponse:
        """Send, and read the whole answer.

        :raises CallFailed: no answer, or one that is too large to be the API's.
        """
        async with self.open(request) as response:
            return await self._collected(request, response)

    @asynccontextmanager
    async def open(self, request: HTTPRequest) -> AsyncIterator[httpx.Response]:
        """Send, and give the answer with its body still to come.

        :raises CallFailed: no answer.
        """
        client = await self._opened()
        body = _AsyncBody(request.body) if request.body is not None else None
        try:
            response = await client.send(_built(client, self._config, request, body, self._tuning.on_loop), stream=True)
        except (httpx.HTTPError, UploadStopped) as error:
            raise _sorted(request, error) from error
        self.calls_per_minute = _calls_per_minute(response) or self.calls_per_minute
        try:
            yield response
        finally:
            await response.aclose()

    @asynccontextmanager
    async def stream(self, request: HTTPRequest) -> AsyncIterator[httpx.Response]:
        """Send, and give the answer if it is a success.

        :raises CallFailed: no answer, or one that is an error.
        """
        async with self.open(request) as response:
            if not response.is_success:
                raise error_response_failure(request, await self._collected(request, response))
            yield response

    async def chunks(self, request: HTTPRequest, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """Read the body piece by piece.

        :raises CallFailed: it was cut off.
        """
        _check_encoding(request, response)
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as error:
            raise _sorted(request, error) from error

    async def _collected(self, request: HTTPRequest, response: httpx.Response) -> HTTPResponse:
        collected = _Collected(request, response)
        try:
            async with aclosing(self.chunks(request, response)) as chunks:
                async for chunk in chunks:
                    if collected.add(chunk):
                        break
        except CallFailed:
            if response.is_success:
                raise
        return collected.answer()

    async def aclose(self) -> None:
        if self._client:
            await self._client.aclose()

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            context = self._context
            if context is None:
                context = await asyncio.to_thread(ssl_context, self._config)
            # Another task may have come first while this one was loading certificates.
            if self._client is None:
                with _configuring():
                    options = _options(self._config, context)
                    self._client = httpx.AsyncClient(transport=self._transport, **options)
        return self._client


def ssl_context(config: ClientConfig) -> ssl.SSLContext:
    """Load what certificates are checked with; takes about 50 ms, so keep it off an event loop.

    :raises ConfigurationError: the CA file or folder cannot be used.
    """
    if config.base_url.startswith("http:") and config.proxy is None:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts nobody, and nobody is asked
    if isinstance(config.verify, bool):
        return httpx.create_ssl_context(verify=config.verify)
    is_folder = Path(config.verify).is_dir()
    try:
        return ssl.create_default_context(
            capath=config.verify if is_folder else None, cafile=None if is_folder else config.verify
        )
    except OSError as error:
        raise ConfigurationError(f"the CA file {config.verify} cannot be used: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Body:
    body: RequestBody

    def __iter__(self) -> Iterator[bytes]:
        return self.body.chunks()


@dataclass(frozen=True, slots=True)
class _AsyncBody:
    """Reads the next piece in a thread: bodies come from files and object stores."""

    body: RequestBody

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = self.body.chunks()
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield chunk


def _check_encoding(request: HTTPRequest, response: httpx.Response) -> None:
    """Unpack what was asked for and nothing else: one layer of gzip makes a thousand bytes of one, two a million.

    :raises CallFailed: the body is packed otherwise.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", ENCODING):
        raise invalid_response_failure(
            request, f"its body is encoded as {shorten(encoding, 40)!r}, which nobody asked for"
        )


class _Collected:
    """An answer's body as it comes in, and no more of it than it may have."""

    def __init__(self, request: HTTPRequest, response: httpx.Response) -> None:
        self._request = request
        self._response = response
        self._body = bytearray()
        self._limit = request.max_response_bytes if response.is_success else MAX_ERROR_BYTES

    def add(self, chunk: bytes) -> bool:
        """Take a piece; true when that is enough."""
        self._body += chunk
        return len(self._body) > self._limit

    def answer(self) -> HTTPResponse:
        """Give what came.

        :raises CallFailed: it is too much to be an answer.
        """
        if self._response.is_success and len(self._body) > self._limit:
            raise invalid_response_failure(self._request, f"the answer has more than {self._limit:,} bytes")
        headers = {name.lower(): value for name, value in self._response.headers.items()}
        return HTTPResponse(self._response.status_code, headers, bytes(self._body[: self._limit]))


@contextmanager
def _configuring() -> Iterator[None]:
    """Report what httpx thinks of proxy settings, its own words left out: they can quote a proxy's password."""
    try:
        yield
    except (ValueError, TypeError, ImportError, httpx.InvalidURL) as error:
        reason = type(error).__name__
        raise ConfigurationError(
            "the proxy cannot be used: check the connection's proxy, or HTTP_PROXY, HTTPS_PROXY and ALL_PROXY in the "
            f"environment, for a URL like http://host:port ({reason}; socks needs the package httpx[socks])"
        ) from None


def _options(config: ClientConfig, context: ssl.SSLContext) -> dict[str, Any]:
    # On loopback plain http is allowed because nothing leaves the machine; a proxy from the environment would undo it.
    loopback = is_loopback(host_in(config.base_url) or "")
    return {
        "verify": context,
        "proxy": config.proxy,
        "trust_env": not loopback,
        "follow_redirects": False,
        "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, keepalive_expiry=KEEPALIVE_SECONDS),
        "headers": {
            "user-agent": f"airflow-claude-batch/{version('airflow-claude-batch')}",
            "accept-encoding": ENCODING,
        },
    }


def _built(
    client: httpx.Client | httpx.AsyncClient,
    config: ClientConfig,
    request: HTTPRequest,
    body: _Body | _AsyncBody | None,
    trace: Callable[[str, Mapping[str, Any]], object],
) -> httpx.Request:
    headers = dict(request.headers)
    if request.body is not None:
        headers["content-length"] = str(request.body.content_length)
    timeout = httpx.Timeout(
        connect=config.connect_timeout,
        read=request.read_timeout,
        write=request.write_timeout,
        pool=config.read_timeout,
    )
    try:
        return client.build_request(
            request.method, request.url, headers=headers, content=body, timeout=timeout, extensions={"trace": trace}
        )
    except (httpx.InvalidURL, ValueError) as error:
        raise ConfigurationError(f"nothing can be sent to {request.host}: {error}") from error


@dataclass(frozen=True, slots=True)
class _Tuning:
    """Tells each new connection's socket when to give up. httpx's tracing calls it with every step it takes.

    A kernel goes on sending what a process has written for a quarter of an hour, even when the process is dead: a
    create could arrive long after everybody took it for lost. So unconfirmed bytes are dropped after a while.
    """

    write_timeout: float

    def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        if not event.endswith("connect_tcp.complete"):
            return
        opened = info["return_value"].get_extra_info("socket")
        for name, value in (_KEEPALIVE | {"TCP_USER_TIMEOUT": int(self.write_timeout * 1000)}).items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            if hasattr(socket, name):  # macOS lacks some
                opened.setsockopt(level, getattr(socket, name), value)

    async def on_loop(self, event: str, info: Mapping[str, Any]) -> None:
        self(event, info)


def _calls_per_minute(response: httpx.Response) -> int | None:
    text = response.headers.get("anthropic-ratelimit-requests-limit", "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _sorted(request: HTTPRequest, error: Exception) -> CallFailed:
    if isinstance(error, UploadStopped):
        return no_response_failure(request, Stage.SENDING, str(error))
    # What httpx says of a request that it cannot write may quote its headers.
    said = "" if isinstance(error, httpx.LocalProtocolError) else str(error)
    return no_response_failure(request, _stage(error), f"{type(error).__name__}: {said}".rstrip(": "))


def _stage(error: Exception) -> Stage:
    if isinstance(error, _NOT_SENT):
        return Stage.UNTRUSTED if _is_about_trust(error) else Stage.CONNECTING
    return Stage.SENDING if isinstance(error, _NOT_ALL_SENT) else Stage.WAITING


def _is_about_trust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
