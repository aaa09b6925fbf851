"""The road to the API: the one client that all who wait on an event loop share, and the connection it was made of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from airflow_claude_batch.api.wire import BatchPage, MessageBatch

log = logging.getLogger(__name__)

#: A connection that is in trouble is read again, at most this often: somebody may have mended it there.
RENEW_SECONDS: Final = 300.0


class BatchClient(Protocol):
    """What waiting needs of :class:`~airflow_claude_batch.api.client.AsyncClaudeClient`."""

    @property
    def calls_per_minute(self) -> int | None: ...
    async def retrieve_batch(self, batch_id: str) -> MessageBatch: ...
    async def list_batches(self, *, limit: int, after_id: str | None = None) -> BatchPage: ...
    async def cancel_batch(self, batch_id: str) -> MessageBatch: ...
    async def aclose(self) -> None: ...


#: Reads the connection and makes a client of it.
Connect = Callable[[], Awaitable[BatchClient]]


class SharedClient:
    """Opens when first used, and again after it was closed."""

    def __init__(self, name: str, connect: Connect) -> None:
        self._name = name
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._client: BatchClient | None = None
        self._read_at = 0.0
        self._opening = asyncio.Lock()

    @property
    def calls_per_minute(self) -> int | None:
        return self._client.calls_per_minute if self._client else None

    @property
    def is_old(self) -> bool:
        """Whether the connection was last read long enough ago to be read again."""
        return self._loop.time() - self._read_at > RENEW_SECONDS

    async def client(self) -> BatchClient:
        """Return the client, made first if there is none."""
        async with self._opening:
            if self._client is None:
                self._client = await self._read()
            return self._client

    async def renew(self) -> None:
        """Read the connection again and go on with a client made of it; with the old one if that fails."""
        try:
            client = await self._read()
        except Exception as error:  # connections may live in anybody's secrets back end
            log.warning("Connection %r could not be read again: %s", self._name, error)
            return
        await self.close()
        self._client = client

    async def close(self) -> None:
        client, self._client = self._client, None
        if client:
            await client.aclose()

    async def _read(self) -> BatchClient:
        self._read_at = self._loop.time()
        return await self._connect()
