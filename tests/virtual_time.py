"""An event loop whose time advances only when nothing else is left to do, so that a day takes milliseconds."""

from __future__ import annotations

import asyncio
import selectors
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any

#: How long the loop waits for a thread, in real seconds, before the test counts as hung.
THREAD_TIMEOUT_SECONDS = 20.0


class _Selector(selectors.DefaultSelector):
    """Moves the clock to the next timer instead of waiting for it. Only threads are waited for in real time."""

    now = 0.0
    threads = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        if self.threads or timeout is None:
            events = super().select(THREAD_TIMEOUT_SECONDS)
            if not events:
                raise TimeoutError("the loop waits, but no timer and no thread is pending")
        else:
            self.now += timeout
        return events


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time, for code that does its I/O in process or in threads."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def run_in_executor(self, executor: Executor | None, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        future = super().run_in_executor(executor, func, *args)
        self._virtual.threads += 1
        future.add_done_callback(self._thread_done)
        return future

    def _thread_done(self, _: asyncio.Future[Any]) -> None:
        self._virtual.threads -= 1


class LoopClock:
    """A wall clock on a loop's time. The simulator accepts it as its clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: datetime = datetime(2026, 11, 22, tzinfo=UTC)) -> None:
        self._loop = loop
        self._start = start

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._loop.time())
