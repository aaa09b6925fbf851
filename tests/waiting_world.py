"""A simulator, clients of it and an event loop, all on one virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, TypeVar

import msgspec
from virtual_time import LoopClock, VirtualTimeLoop

from airflow_claude_batch.api.client import AsyncClaudeClient, ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.watcher import Watcher
from airflow_claude_batch.simulator import Simulator

T = TypeVar("T")

_REQUEST = {
    "custom_id": "r0",
    "params": {
        "model": "claude-opus-5-5",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Hello"}],
    },
}

#: The body of a create call with one request.
BODY = msgspec.json.encode({"requests": [_REQUEST]})


class World(AbstractContextManager["World"]):
    """The place where waiting is tested. ``lines`` holds what was logged for each waiter.

    :param settings: for the simulator.
    """

    def __init__(self, **settings: Any) -> None:
        self.loop = VirtualTimeLoop()
        self.clock = LoopClock(self.loop)
        self.simulator = Simulator(clock=self.clock, **settings)
        self.key = "sk-test"
        self.connects = 0
        self.closed = 0
        self.lines: dict[str, list[str]] = {}
        self._runner = asyncio.Runner(loop_factory=lambda: self.loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.close()

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return self._runner.run(main())

    @property
    def now(self) -> float:
        return self.loop.time()

    @property
    def polls(self) -> int:
        calls = self.simulator.calls()
        return calls.get("retrieve", 0) + calls.get("list", 0)

    def create(self, count: int = 1) -> list[str]:
        with ClaudeClient(self.config(), transport=self.simulator.transport()) as client:
            return [client.create_batch(BODY).id for _ in range(count)]

    def sync_client(self) -> ClaudeClient:
        return ClaudeClient(self.config(), transport=self.simulator.transport())

    async def connect(self) -> AsyncClaudeClient:
        self.connects += 1
        return _CountedClient(self)

    def watcher(self, **options: Any) -> Watcher:
        options = {"clock": self.clock.now, "jitter": lambda: 0.0} | options
        return Watcher("claude_default", self.connect, **options)

    def log_of(self, name: str) -> Callable[..., None]:
        """Return a ``write_log`` that appends to ``lines[name]``."""
        lines = self.lines.setdefault(name, [])
        return lambda level, text, *args: lines.append(text % args)

    def config(self) -> ClientConfig:
        return ClientConfig(credentials=ApiKey(self.key), base_url="http://127.0.0.1", max_retries=0, read_timeout=60.0)


class _CountedClient(AsyncClaudeClient):
    """An in-process client that counts its closing."""

    def __init__(self, world: World) -> None:
        super().__init__(world.config(), transport=world.simulator.transport(), clock=world.loop.time)
        self._world = world

    async def aclose(self) -> None:
        self._world.closed += 1
        await super().aclose()
