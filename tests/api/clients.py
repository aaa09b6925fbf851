"""Both clients behind one interface, so that a test written once runs with each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

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
    """A sleep that only records its seconds."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


class FakeClock:
    """A clock that the test sets."""

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


class SyncClient(ClaudeClient):
    """ClaudeClient that does not really sleep."""

    def __init__(self, config: ClientConfig, *, sleep: Callable[[float], None] | None = None, **options: Any) -> None:
        super().__init__(config, sleep=RecordedSleep() if sleep is None else sleep, **options)


#: Runs a test with ClaudeClient alone, because it makes calls that AsyncClaudeClient does not have.
sync_only = pytest.mark.parametrize("client_class", [SyncClient], ids=["sync"], indirect=True)


def with_clients(names: str, *, both: Iterable[Any], sync: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrize a test with rows for both clients and rows for ClaudeClient alone."""
    rows = [("sync", SyncClient, row) for row in (*both, *sync)] + [("async", AsyncClientAdapter, row) for row in both]
    return pytest.mark.parametrize(
        f"client_class,{names}",
        [pytest.param(client, *row.values, id=f"{kind}-{row.id}") for kind, client, row in rows],
        indirect=["client_class"],
    )
