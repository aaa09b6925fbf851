"""Claude's Message Batches API, for threads and for event loops.

:class:`ClaudeClient` and :class:`AsyncClaudeClient` offer the same operations; what to ask is in ``calls``, what the
answer means in ``answers``, whether to ask again in ``attempts`` and ``retry``. Every operation raises an
:class:`~airflow_claude_batch.exceptions.APIError` when it fails, whose ``may_have_been_accepted`` says whether it may
have taken effect nevertheless. **A create is sent again only when it cannot have been accepted**; reading, canceling
and deleting are sent again freely.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, ExitStack, aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.endpoints import Call, Cursor
from airflow_claude_batch.api.http import CallFailed, HTTPRequest
from airflow_claude_batch.api.limits import DEFAULT_LIST_LIMIT, LIST_LIMIT
from airflow_claude_batch.api.line_splitter import LineSplitter
from airflow_claude_batch.api.request_body import RequestBody
from airflow_claude_batch.api.responses import read_response
from airflow_claude_batch.api.retry import Attempts
from airflow_claude_batch.api.transport import AsyncTransport, Transport
from airflow_claude_batch.api.wire import BatchPage, MessageBatch, ModelInfo
from airflow_claude_batch.exceptions import AuthenticationError

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["AsyncClaudeClient", "ClaudeClient", "ClientConfig", "RequestBody"]

# Seconds in which a create has to be sent: the largest one at 3 Mbit/s.
CREATE_DEADLINE_SECONDS: Final = 720.0

A = TypeVar("A")
S = TypeVar("S", bound=msgspec.Struct)


class ClaudeClient:
    """The API for threads. A context manager; one client may serve many threads.

    :param transport: replaces the sockets, in tests.
    :param sleep: waits between attempts.
    :param clock: monotonic seconds, for deadlines and the life of tokens.
    :param rng: gives numbers in [0, 1).
    :raises ConfigurationError: certificates or proxy cannot be used.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._transport = Transport(config, transport)
        self._sleep = sleep
        self._clock = clock
        self._rng = rng

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def calls_per_minute(self) -> int | None:
        """The account's limit of calls to the batch endpoints, as the last answer had it; None if none did yet."""
        return self._transport.calls_per_minute

    def create_batch(
        self, body: RequestBody | bytes, *, deadline_seconds: float = CREATE_DEADLINE_SECONDS
    ) -> MessageBatch:
        """Make a message batch out of ``{"requests": [...]}``, read piece by piece and never held whole.

        :param deadline_seconds: after that no byte of it is sent: no attempt begins, and an upload under way is cut
            off. What is in the kernel by then is dropped if unconfirmed for ``write_timeout``. So a create whose
            answer was lost is under way for a bounded time.
        :raises APIError: look at ``may_have_been_accepted`` before sending the same again.
        """
        return self._call(
            endpoints.create_batch(
                body, seconds=deadline_seconds, write_timeout=self._config.write_timeout, clock=self._clock
            )
        )

    def retrieve_batch(self, batch_id: str) -> MessageBatch:
        """Ask how a message batch stands."""
        return self._call(endpoints.retrieve_batch(batch_id))

    def list_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = DEFAULT_LIST_LIMIT
    ) -> BatchPage:
        """Give one page of the workspace's message batches, newest first.

        :param before_id: give batches newer than this one, the nearest of them.
        :param after_id: give batches older than this one.
        :param limit: 1 to 1000.
        """
        return self._call(Cursor(before_id=before_id, after_id=after_id, limit=limit).call())

    def iter_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = LIST_LIMIT
    ) -> Iterator[MessageBatch]:
        """Give all message batches, page by page of ``limit``.

        Each page is newest first. With ``before_id`` the pages themselves go from old to new.
        """
        cursor: Cursor | None = Cursor(before_id=before_id, after_id=after_id, limit=limit)
        while cursor:
            page = self._call(cursor.call())
            yield from page.data
            cursor = cursor.next(page)

    def cancel_batch(self, batch_id: str) -> MessageBatch:
        """Cancel a message batch: it ends soon, and what was answered by then is kept and billed.

        :raises BadRequestError: it has ended already.
        """
        return self._call(endpoints.cancel_batch(batch_id))

    def delete_batch(self, batch_id: str) -> str:
        """Delete a message batch that has ended, with its results; gives its id.

        :raises NotFoundError: there is none; also when an attempt whose answer was lost has deleted it.
        """
        return self._call(endpoints.delete_batch(batch_id)).id

    @contextmanager
    def stream_results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        """Give the lines of a message batch's results, in any order, as they arrive; see ``decode_result_line``.

        :raises NotFoundError: it has not ended, or its results are gone.
        :raises APIConnectionError: while iterating: the stream was cut. Begin again; rows come in another order.
        """
        call = endpoints.stream_results(batch_id)
        with ExitStack() as stack:
            yield self._attempting(call, lambda request: self._lines(request, stack))

    def count_tokens(self, params: Mapping[str, Any]) -> int:
        """Estimate the input tokens of one request's params, free of charge."""
        return self._call(endpoints.count_tokens(params)).input_tokens

    def list_models(self, *, limit: int = LIST_LIMIT, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        """Give the first ``limit`` models of the catalogue.

        :param lifecycle: of ``active``, ``deprecated`` and ``retired``; the first two if empty.
        """
        return self._call(endpoints.list_models(limit=limit, lifecycle=lifecycle)).data

    def retrieve_model(self, model_id: str) -> ModelInfo:
        """Look up a model by id or alias.

        :raises NotFoundError: there is none.
        """
        return self._call(endpoints.retrieve_model(model_id))

    def _call(self, call: Call[S]) -> S:
        def use(request: HTTPRequest) -> S:
            return read_response(request, self._transport.send(request), call.kind)

        return self._attempting(call, use)

    def _attempting(self, call: Call[Any], use: Callable[[HTTPRequest], A]) -> A:
        attempts = Attempts(self._config.max_retries, self._clock, self._rng, call.deadline)
        while True:
            try:
                return self._authorized(call, use)
            except CallFailed as failed:
                pause = attempts.pause_after(failed)
            self._sleep(pause)

    def _authorized(self, call: Call[Any], use: Callable[[HTTPRequest], A]) -> A:
        request = self._signed(call)
        try:
            return use(request)
        except CallFailed as failed:
            if not _may_renew(self._config, failed, request):
                raise
        return use(self._signed(call))

    def _signed(self, call: Call[Any]) -> HTTPRequest:
        headers = self._config.credentials.headers(self._transport.send, self._clock)
        return call.request(self._config, headers)

    def _lines(self, request: HTTPRequest, stack: ExitStack) -> Iterator[bytes]:
        response = stack.enter_context(self._transport.stream(request))
        return self._split(request, response)

    def _split(self, request: HTTPRequest, response: httpx.Response) -> Iterator[bytes]:
        splitter = LineSplitter()
        try:
            for chunk in self._transport.chunks(request, response):
                yield from splitter.feed(chunk)
        except CallFailed as failed:
            raise failed.error from failed.__cause__
        yield from splitter.end()


class AsyncClaudeClient:
    """The API for one event loop. An async context manager; operations as in :class:`ClaudeClient`.

    :param ssl_context: a ready one, for those who make many clients; otherwise it is loaded in a thread.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        ssl_context: ssl.SSLContext | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._transport = AsyncTransport(config, transport, ssl_context)
        self._sleep = sleep
        self._clock = clock
        self._rng = rng

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    @property
    def calls_per_minute(self) -> int | None:
        """The account's limit of calls to the batch endpoints, as the last answer had it; None if none did yet."""
        return self._transport.calls_per_minute

    async def create_batch(
        self, body: RequestBody | bytes, *, deadline_seconds: float = CREATE_DEADLINE_SECONDS
    ) -> MessageBatch:
        """Make a message batch; see :meth:`ClaudeClient.create_batch`. The body is read in threads."""
        return await self._call(
            endpoints.create_batch(
                body, seconds=deadline_seconds, write_timeout=self._config.write_timeout, clock=self._clock
            )
        )

    async def retrieve_batch(self, batch_id: str) -> MessageBatch:
        """Ask how a message batch stands."""
        return await self._call(endpoints.retrieve_batch(batch_id))

    async def list_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = DEFAULT_LIST_LIMIT
    ) -> BatchPage:
        """Give one page of the workspace's message batches; see :meth:`ClaudeClient.list_batches`."""
        return await self._call(Cursor(before_id=before_id, after_id=after_id, limit=limit).call())

    async def iter_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = LIST_LIMIT
    ) -> AsyncIterator[MessageBatch]:
        """Give all message batches; see :meth:`ClaudeClient.iter_batches`."""
        cursor: Cursor | None = Cursor(before_id=before_id, after_id=after_id, limit=limit)
        while cursor:
            page = await self._call(cursor.call())
            for batch in page.data:
                yield batch
            cursor = cursor.next(page)

    async def cancel_batch(self, batch_id: str) -> MessageBatch:
        """Cancel a message batch; see :meth:`ClaudeClient.cancel_batch`."""
        return await self._call(endpoints.cancel_batch(batch_id))

    async def delete_batch(self, batch_id: str) -> str:
        """Delete a message batch that has ended; see :meth:`ClaudeClient.delete_batch`."""
        return (await self._call(endpoints.delete_batch(batch_id))).id

    @asynccontextmanager
    async def stream_results(self, batch_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the lines of a message batch's results; see :meth:`ClaudeClient.stream_results`."""
        call = endpoints.stream_results(batch_id)
        async with AsyncExitStack() as stack:
            yield await self._attempting(call, lambda request: self._lines(request, stack))

    async def count_tokens(self, params: Mapping[str, Any]) -> int:
        """Estimate the input tokens of one request's params, free of charge."""
        return (await self._call(endpoints.count_tokens(params))).input_tokens

    async def list_models(self, *, limit: int = LIST_LIMIT, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        """Give the first ``limit`` models of the catalogue; see :meth:`ClaudeClient.list_models`."""
        return (await self._call(endpoints.list_models(limit=limit, lifecycle=lifecycle))).data

    async def retrieve_model(self, model_id: str) -> ModelInfo:
        """Look up a model by id or alias."""
        return await self._call(endpoints.retrieve_model(model_id))

    async def _call(self, call: Call[S]) -> S:
        async def use(request: HTTPRequest) -> S:
            return read_response(request, await self._transport.send(request), call.kind)

        return await self._attempting(call, use)

    async def _attempting(self, call: Call[Any], use: Callable[[HTTPRequest], Awaitable[A]]) -> A:
        attempts = Attempts(self._config.max_retries, self._clock, self._rng, call.deadline)
        while True:
            try:
                return await self._authorized(call, use)
            except CallFailed as failed:
                pause = attempts.pause_after(failed)
            await self._sleep(pause)

    async def _authorized(self, call: Call[Any], use: Callable[[HTTPRequest], Awaitable[A]]) -> A:
        request = await self._signed(call)
        try:
            return await use(request)
        except CallFailed as failed:
            if not _may_renew(self._config, failed, request):
                raise
        return await use(await self._signed(call))

    async def _signed(self, call: Call[Any]) -> HTTPRequest:
        headers = await self._config.credentials.aheaders(self._transport.send, self._clock)
        return call.request(self._config, headers)

    async def _lines(self, request: HTTPRequest, stack: AsyncExitStack) -> AsyncIterator[bytes]:
        response = await stack.enter_async_context(self._transport.stream(request))
        return await stack.enter_async_context(aclosing(self._split(request, response)))

    async def _split(self, request: HTTPRequest, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        splitter = LineSplitter()
        try:
            async with aclosing(self._transport.chunks(request, response)) as chunks:
                async for chunk in chunks:
                    for line in splitter.feed(chunk):
                        yield line
        except CallFailed as failed:
            raise failed.error from failed.__cause__
        for line in splitter.end():
            yield line


def _may_renew(config: ClientConfig, failed: CallFailed, request: HTTPRequest) -> bool:
    """Whether the credential was refused and there may be a better one. A refused call was not accepted."""
    return isinstance(failed.error, AuthenticationError) and config.credentials.forget(request.headers)
