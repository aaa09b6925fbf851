"""Clients of Claude's Message Batches API: one for threads, a smaller one for event loops.

Every method raises an :class:`~airflow_claude_batch.exceptions.APIError` if its call fails. The error's
``may_have_been_accepted`` says whether the call may have taken effect nevertheless. **A create call is sent again only
if it cannot have been accepted.** All other calls are retried freely.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.base_url import is_first_party
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.endpoints import QUICK_CALL_SECONDS, Call
from airflow_claude_batch.api.evidence import Effect, ErrorResponse, may_resend
from airflow_claude_batch.api.http import CallFailed, HTTPRequest
from airflow_claude_batch.api.limits import DEFAULT_LIST_LIMIT, LIST_LIMIT
from airflow_claude_batch.api.line_splitter import MAX_SHORTENED_BYTES, LineSplitter
from airflow_claude_batch.api.message_response import MessageResponse, read_message_response
from airflow_claude_batch.api.model_info import ModelInfo
from airflow_claude_batch.api.request_body import RequestBody
from airflow_claude_batch.api.responses import read_response
from airflow_claude_batch.api.retry import RetryState
from airflow_claude_batch.api.time_limit import call_seconds, seconds_left, time_limit
from airflow_claude_batch.api.transport import AsyncTransport, Transport
from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.exceptions import AuthenticationError

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["AsyncClaudeClient", "ClaudeClient", "ClientConfig", "RequestBody"]

# Seconds in which a create call must be sent. The largest one takes this long at 3 Mbit/s.
CREATE_DEADLINE_SECONDS: Final = 720.0

# Seconds in which a message must be answered. The vendor's SDK waits as long; SDK, _constants.py.
MESSAGE_SECONDS: Final = 600.0

R = TypeVar("R")
S = TypeVar("S", bound=msgspec.Struct)


class ClaudeClient:
    """Client for threads. It is a context manager, and many threads may share one client.

    :param config: the base URL, the credential, timeouts and retries.
    :param transport: replaces the network, for tests.
    :param sleep: sleeps between attempts.
    :param clock: returns monotonic seconds, for deadlines and the expiry of tokens.
    :param rng: returns numbers in [0, 1), for the jitter of retries.
    :raises ConfigurationError: the certificates or the proxy cannot be used.

    .. code-block:: python

        config = ClientConfig(credentials=ApiKey("sk-ant-..."))
        with ClaudeClient(config) as client:
            batch = client.retrieve_batch("msgbatch_01AbCd")
            if batch.ended:
                with client.stream_results(batch.id) as lines:
                    for line in lines:
                        print(decode_result_line(line).custom_id)
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
        self._given_transport = transport
        self._transport = Transport(config, transport)
        self._replaced: list[Transport] = []
        self._sleep = sleep
        self._clock = clock
        self._rng = rng

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        for transport in (*self._replaced, self._transport):
            transport.close()

    def reconfigure(self, config: ClientConfig) -> None:
        """Use another configuration from the next call on, for example a rotated key. Running calls are not affected.

        :raises ConfigurationError: the certificates or the proxy cannot be used. Then the old configuration stays.
        """
        if config == self._config:
            return
        transport = Transport(config, self._given_transport)
        self._replaced.append(self._transport)
        self._transport, self._config = transport, config

    @property
    def calls_per_minute(self) -> int | None:
        """The account's limit of calls to the batch endpoints, from the last response. None if none named it."""
        return self._transport.calls_per_minute

    @property
    def base_url(self) -> str:
        """The URL of the API, without a path of its own."""
        return self._config.base_url

    @property
    def workspace_id(self) -> str | None:
        """The workspace that the last response named. None before that, and behind a gateway that drops the header."""
        return self._transport.workspace_id

    @property
    def configured_workspace_id(self) -> str | None:
        """The workspace that every call names, None if the credential belongs to one. Nobody has confirmed it."""
        return self._config.workspace_id

    @property
    def api_version(self) -> str:
        """The version of the API that every call asks for."""
        return self._config.api_version

    @property
    def is_anthropic(self) -> bool:
        """Whether the calls go to Anthropic's own API, or to a cloud that serves it unchanged, and not to a gateway."""
        return is_first_party(self._config.base_url)

    @property
    def betas(self) -> tuple[str, ...]:
        """The betas of every call."""
        return self._config.betas

    def create_batch(
        self,
        body: RequestBody | bytes,
        *,
        deadline_seconds: float = CREATE_DEADLINE_SECONDS,
        may_send_again: Callable[[], bool] = lambda: True,
    ) -> MessageBatch:
        """Create a message batch.

        :param body: the JSON ``{"requests": [...]}``. It is read piece by piece and never held whole.
        :param deadline_seconds: after this time no attempt begins and an upload under way stops. The kernel drops
            bytes that are then unconfirmed for ``write_timeout``. So a lost create call can arrive only within a
            bounded time.
        :param may_send_again: asked before each further attempt after a response, because a look at the listing is
            cheap: an API that is overloaded may have created the batch that it refused. If not, the refusal is raised.
        :raises APIError: check ``may_have_been_accepted`` before sending the same again.
        """
        return self._call(
            endpoints.create_batch(
                body, seconds=deadline_seconds, write_timeout=self._config.write_timeout, clock=self._clock
            ),
            may_send_again,
        )

    def retrieve_batch(self, batch_id: str) -> MessageBatch:
        """Retrieve a message batch: its status and its request counts."""
        return self._call(endpoints.retrieve_batch(batch_id))

    def list_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = DEFAULT_LIST_LIMIT
    ) -> BatchPage:
        """Return one page of the workspace's message batches, newest first.

        :param before_id: return the batches that are just newer than this one.
        :param after_id: return the batches that are older than this one.
        :param limit: the page size, 1 to 1000.
        """
        return self._call(endpoints.list_batches(before_id=before_id, after_id=after_id, limit=limit))

    def cancel_batch(self, batch_id: str) -> MessageBatch:
        """Cancel a message batch. It ends soon. What it has answered is kept and billed.

        :raises BadRequestError: the batch has ended already.
        """
        return self._call(endpoints.cancel_batch(batch_id))

    def delete_batch(self, batch_id: str) -> str:
        """Delete a message batch that has ended, with its results. Return its id.

        :raises NotFoundError: there is no such batch. An earlier attempt whose response was lost may have deleted it.
        """
        return self._call(endpoints.delete_batch(batch_id)).id

    @contextmanager
    def stream_results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        """Return the lines of a batch's results as they arrive, in any order. ``decode_result_line`` reads them.

        :raises NotFoundError: the batch has not ended, or its results are gone.
        :raises APIConnectionError: the connection was lost while iterating. Start again: the order may differ.
        """
        call = endpoints.stream_results(batch_id)
        with ExitStack() as stack:
            yield self._with_retries(call, lambda request: self._open_lines(request, stack))

    def create_message(self, params: Mapping[str, Any] | bytes, *, seconds: float = MESSAGE_SECONDS) -> MessageResponse:
        """Ask one request directly, at full price. It is sent once: the caller decides whether to ask again.

        ::

            response = client.create_message(params)
            if response.proof is Proof.ACCEPTED:
                line = decode_result_line(response.result_line("row-7"))

        :param params: of the request, or their JSON.
        :param seconds: for the whole call. An answer that takes longer is lost, and may be billed.
        :raises APIError: nothing is proven if ``may_have_been_accepted``: the response was lost, or is not the API's,
            and to ask again may pay twice. Otherwise the API was not reached, or refused the credential.
        """
        try:
            return self._with_renewed_credential(
                endpoints.create_message(params, seconds=seconds),
                lambda request: read_message_response(request, self._transport.send(request)),
            )
        except CallFailed as failed:
            raise failed.error from failed.__cause__

    def count_tokens(self, params: Mapping[str, Any]) -> int:
        """Estimate the input tokens of one request's params. The call is free of charge."""
        return self._call(endpoints.count_tokens(params)).input_tokens

    def list_models(self, *, limit: int = LIST_LIMIT, lifecycle: Sequence[str] = ()) -> list[ModelInfo]:
        """Return the first ``limit`` models of the catalogue.

        :param lifecycle: any of ``active``, ``deprecated`` and ``retired``. Empty means the first two.
        """
        return self._call(endpoints.list_models(limit=limit, lifecycle=lifecycle)).data

    def retrieve_model(self, model_id: str) -> ModelInfo:
        """Retrieve a model by its id or an alias.

        :raises NotFoundError: there is no such model.
        """
        return self._call(endpoints.retrieve_model(model_id))

    def _call(self, call: Call[S], may_send_again: Callable[[], bool] = lambda: True) -> S:
        def send(request: HTTPRequest) -> S:
            return read_response(request, self._transport.send(request), call.response_type)

        return self._with_retries(call, send, may_send_again)

    def _with_retries(
        self, call: Call[Any], send: Callable[[HTTPRequest], R], may_send_again: Callable[[], bool] = lambda: True
    ) -> R:
        # A create call has a deadline of its own: cut off by another, it would be billed unseen.
        is_limited = call.effect is not Effect.NOT_IDEMPOTENT
        with time_limit(call_seconds()) if is_limited else nullcontext():
            return self._try(call, send, may_send_again)

    def _try(self, call: Call[Any], send: Callable[[HTTPRequest], R], may_send_again: Callable[[], bool]) -> R:
        state = RetryState(self._config.max_retries, self._clock, self._rng, _last_attempt_at(call, self._clock))
        while True:
            try:
                return self._with_renewed_credential(call, send)
            except CallFailed as failed:
                pause, failure, error = state.pause_after(failed), failed.failure, failed.error
            self._sleep(pause)
            if isinstance(failure, ErrorResponse) and not may_send_again():
                raise error

    def _with_renewed_credential(self, call: Call[Any], send: Callable[[HTTPRequest], R]) -> R:
        request = self._request(call)
        try:
            return send(request)
        except CallFailed as failed:
            if not _may_renew(self._config, failed, request):
                raise
        return send(self._request(call))

    def _request(self, call: Call[Any]) -> HTTPRequest:
        return self._config.credentials.sign(call.request(self._config), self._transport.send, self._clock)

    def _open_lines(self, request: HTTPRequest, stack: ExitStack) -> Iterator[bytes]:
        response = stack.enter_context(self._transport.stream(request))
        return self._read_lines(request, response)

    def _read_lines(self, request: HTTPRequest, response: httpx.Response) -> Iterator[bytes]:
        splitter = LineSplitter(MAX_SHORTENED_BYTES)
        try:
            for chunk in self._transport.chunks(request, response):
                yield from splitter.feed(chunk)
        except CallFailed as failed:
            raise failed.error from failed.__cause__
        yield from splitter.end()


class AsyncClaudeClient:
    """Client for one event loop, with the calls that waiting for batches needs. It is an async context manager.

    :param ssl_context: a loaded context, for callers that make many clients. Otherwise it is loaded in a thread.

    The other parameters are those of :class:`ClaudeClient`.

    .. code-block:: python

        async with AsyncClaudeClient(ClientConfig(credentials=ApiKey("sk-ant-..."))) as client:
            while not (await client.retrieve_batch("msgbatch_01AbCd")).ended:
                await asyncio.sleep(60)
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
        """The account's limit of calls to the batch endpoints, from the last response. None if none named it."""
        return self._transport.calls_per_minute

    async def retrieve_batch(self, batch_id: str) -> MessageBatch:
        """Retrieve a message batch: its status and its request counts."""
        return await self._call(endpoints.retrieve_batch(batch_id))

    async def list_batches(
        self, *, before_id: str | None = None, after_id: str | None = None, limit: int = DEFAULT_LIST_LIMIT
    ) -> BatchPage:
        """Return one page of the workspace's message batches; see :meth:`ClaudeClient.list_batches`."""
        return await self._call(endpoints.list_batches(before_id=before_id, after_id=after_id, limit=limit))

    async def cancel_batch(self, batch_id: str) -> MessageBatch:
        """Cancel a message batch; see :meth:`ClaudeClient.cancel_batch`."""
        return await self._call(endpoints.cancel_batch(batch_id))

    async def _call(self, call: Call[S]) -> S:
        state = RetryState(self._config.max_retries, self._clock, self._rng, _last_attempt_at(call, self._clock))
        while True:
            try:
                return await self._with_renewed_credential(call)
            except CallFailed as failed:
                pause = state.pause_after(failed)
            await self._sleep(pause)

    async def _with_renewed_credential(self, call: Call[S]) -> S:
        request = await self._request(call)
        try:
            return await self._send(request, call)
        except CallFailed as failed:
            if not _may_renew(self._config, failed, request):
                raise
        return await self._send(await self._request(call), call)

    async def _send(self, request: HTTPRequest, call: Call[S]) -> S:
        return read_response(request, await self._transport.send(request), call.response_type)

    async def _request(self, call: Call[Any]) -> HTTPRequest:
        return await self._config.credentials.asign(call.request(self._config), self._transport.send, self._clock)


def _last_attempt_at(call: Call[Any], clock: Callable[[], float]) -> float:
    """Return the time, on the clock, after which no attempt begins."""
    seconds = min(seconds_left(), math.inf if call.is_slow else QUICK_CALL_SECONDS)
    return min(call.deadline, clock() + seconds)


def _may_renew(config: ClientConfig, failed: CallFailed, request: HTTPRequest) -> bool:
    """Tell whether the credential was refused and a new one may help.

    The API's own 401 proves that a call was not accepted. A gateway's does not, so a create call is not sent again.
    """
    is_renewed = isinstance(failed.error, AuthenticationError) and config.credentials.forget(request.headers)
    return is_renewed and may_resend(failed.failure, failed.effect)
