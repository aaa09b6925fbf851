"""Both clients with one face, so that a test written once runs through each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from airflow_claude_batch.api.client import AsyncClaudeClient, ClaudeClient
from airflow_claude_batch.api.config import ClientConfig

KEY = "sk-ant-api03-secret-of-the-tests"
BATCH_ID = "msgbatch_01AbCdEfGhJkLmNpQrStUvWx"

BATCH = {
    "id": BATCH_ID,
    "type": "message_batch",
    "processing_status": "in_progress",
    "request_counts": {"processing": 2, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
    "ended_at": None,
    "created_at": "2026-11-22T09:00:00.123456+00:00",
    "expires_at": "2026-11-23T09:00:00.123456+00:00",
    "archived_at": None,
    "cancel_initiated_at": None,
    "results_url": None,
}

BODY = (
    b'{"requests":[{"custom_id":"a","params":{"model":"claude-haiku-5-5","max_tokens":16,'
    b'"messages":[{"role":"user","content":"hello"}]}}]}'
)


class RecordedSleep(list[float]):
    """A sleep that only takes notes."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


class FakeClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class AsyncClientAdapter:
    """AsyncClaudeClient, called the way ClaudeClient is."""

    def __init__(self, config: ClientConfig, *, sleep: Callable[[float], None] | None = None, **options: Any) -> None:
        async def pause(seconds: float) -> None:
            if sleep is not None:
                sleep(seconds)

        self._runner = asyncio.Runner()
        self.client = AsyncClaudeClient(config, sleep=pause, **options)

    def __enter__(self) -> AsyncClientAdapter:
        self.run(self.client.__aenter__())
        return self

    def __exit__(self, *exception: object) -> None:
        self.run(self.client.__aexit__(*exception))
        self._runner.close()

    def run(self, work: Any) -> Any:
        async def waiting() -> Any:
            return await work

        return self._runner.run(waiting())

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self.client, name)
        if not callable(operation):
            return operation
        return lambda *args, **options: self.run(operation(*args, **options))

    def close(self) -> None:
        self.run(self.client.aclose())

    def iter_batches(self, **options: Any) -> Iterator[Any]:
        return self._iterate(self.client.iter_batches(**options))

    @contextmanager
    def stream_results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        context = self.client.stream_results(batch_id)
        lines = self.run(context.__aenter__())
        try:
            yield self._iterate(lines)
        finally:
            self.run(context.__aexit__(None, None, None))

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        try:
            while True:
                yield self.run(anext(items))
        except StopAsyncIteration:
            return


class SyncClient(ClaudeClient):
    """ClaudeClient that does not really sleep."""

    def __init__(self, config: ClientConfig, *, sleep: Callable[[float], None] | None = None, **options: Any) -> None:
        super().__init__(config, sleep=RecordedSleep() if sleep is None else sleep, **options)
