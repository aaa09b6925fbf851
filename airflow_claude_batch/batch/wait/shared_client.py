"""Share one async client among all tasks that wait on an event loop, and read its connection again when needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from airflow_claude_batch.api.wire import BatchPage, MessageBatch

log = logging.getLogger(__name__)

#: While polls fail, the connection is read again at most this often: somebody may have fixed it.
RECONNECT_SECONDS: Final = 300.0


class BatchClient(Protocol):
    """The part of :class:`~airflow_claude_batch.api.client.AsyncClaudeClient` that the watcher uses."""

    @property
    def calls_per_minute(self) -> int | None: ...
    async def retrieve_batch(self, batch_id: str) -> MessageBatch: ...
    async def list_batches(self, *, limit: int, after_id: str | None = None) -> BatchPage: ...
    async def cancel_batch(self, batch_id: str) -> MessageBatch: ...
    async def aclose(self) -> None: ...


#: Reads the connection and builds a client from it.
Connect = Callable[[], Awaitable[BatchClient]]


@dataclass(slots=True, eq=False)
class _OpenClient:
    """One client and its running calls. A retired client is closed once the last of them has ended."""

    client: BatchClient
    calls: int = 0
    retired: bool = False
    closed: bool = False

    async def retire(self) -> None:
        self.retired = True
        await self.close_if_unused()

    async def close_if_unused(self) -> None:
        if self.retired and not self.calls and not self.closed:
            self.closed = True
            await self.client.aclose()


class SharedClient:
    """Shared async client: one per event loop and connection. It connects when first used, and again after a close.

    A client that is replaced or closed while calls run is closed after the last of them, and exactly once::

        async with shared.use() as client:
            batch = await client.retrieve_batch("msgbatch_01AbCd")
    """

    def __init__(self, conn_id: str, connect: Connect) -> None:
        self._conn_id = conn_id
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._client: _OpenClient | None = None
        self._closes = 0
        self._connected_at = 0.0
        self._lock = asyncio.Lock()

    @property
    def calls_per_minute(self) -> int | None:
        """The rate limit that the API last reported, or None."""
        return self._client.client.calls_per_minute if self._client else None

    @property
    def is_stale(self) -> bool:
        """True once the connection was read long enough ago to read it again."""
        return self._loop.time() - self._connected_at > RECONNECT_SECONDS

    @asynccontextmanager
    async def use(self) -> AsyncIterator[BatchClient]:
        """Lend the client for the calls of this block. Connects first if there is none."""
        opened = await self._get()
        opened.calls += 1
        try:
            yield opened.client
        finally:
            opened.calls -= 1
            await opened.close_if_unused()

    async def connect(self) -> None:
        """Connect if there is no client yet."""
        async with self.use():
            pass

    async def reconnect(self) -> bool:
        """Read the connection again and replace the client. Keeps the old client, and returns false, if that fails."""
        try:
            opened = await self._open()
        except Exception as error:  # a custom secrets backend may raise anything
            log.warning("Could not read connection %r again, so its old settings stay in use: %s", self._conn_id, error)
            return False
        if opened.retired:
            await opened.close_if_unused()
        else:
            await self._replace(opened)
        return True

    async def close(self) -> None:
        """Close the client, once its running calls have ended. A client that is being opened now is closed too."""
        self._closes += 1
        await self._replace(None)

    async def _get(self) -> _OpenClient:
        async with self._lock:
            if self._client is None:
                opened = await self._open()
                if opened.retired or self._client is not None:
                    opened.retired = True  # it serves its caller alone, who closes it
                    return opened
                self._client = opened
            return self._client

    async def _open(self) -> _OpenClient:
        """Connect. A client is born retired if everything was closed meanwhile."""
        self._connected_at, closes = self._loop.time(), self._closes
        client = await self._connect()
        return _OpenClient(client, retired=self._closes != closes)

    async def _replace(self, opened: _OpenClient | None) -> None:
        old, self._client = self._client, opened
        if old is not None:
            await old.retire()
