"""Share one async client among all tasks that wait on an event loop, and read its connection again when needed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
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


class SharedClient:
    """Shared async client: one per event loop and connection. It connects when first used, and again after a close."""

    def __init__(self, conn_id: str, connect: Connect) -> None:
        self._conn_id = conn_id
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._client: BatchClient | None = None
        self._connected_at = 0.0
        self._lock = asyncio.Lock()

    @property
    def calls_per_minute(self) -> int | None:
        """The rate limit that the API last reported, or None."""
        return self._client.calls_per_minute if self._client else None

    @property
    def is_stale(self) -> bool:
        """True once the connection was read long enough ago to read it again."""
        return self._loop.time() - self._connected_at > RECONNECT_SECONDS

    async def get(self) -> BatchClient:
        """Return the client. Connects first if there is none."""
        async with self._lock:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def reconnect(self) -> None:
        """Read the connection again and replace the client. Keeps the old client if that fails."""
        try:
            client = await self._open()
        except Exception as error:  # a custom secrets backend may raise anything
            log.warning("Could not read connection %r again, so its old settings stay in use: %s", self._conn_id, error)
            return
        await self.close()
        self._client = client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client:
            await client.aclose()

    async def _open(self) -> BatchClient:
        self._connected_at = self._loop.time()
        return await self._connect()
