"""Notify the tasks that wait for message batches: each has its own future and its own log."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.batch.wait.log_messages import LogLine
from airflow_claude_batch.batch.wait.progress import Known
from airflow_claude_batch.batch.wait.schedule import WaitFor
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult

#: After notifying this many waiters, other coroutines get their turn on the event loop.
NOTIFIED_PER_TURN: Final = 25

#: Takes a level, a text and its arguments, as a logger's ``log`` does.
WriteLog = Callable[..., None]


@dataclass(slots=True, eq=False)
class Waiter:
    """One waiting task.

    :param future: what the task awaits.
    :param context: where ``write_log`` is called. Airflow assigns a trigger's log lines by it.
    :param known: what the task knows of its other batches, for the log.
    :param ended: those of its batches that have ended.
    :param open_ids: those that have not.
    :param timer: fires at ``until``.
    :param hourly: fires once an hour, for the log.
    """

    future: asyncio.Future[WaitResult]
    batch_ids: tuple[str, ...]
    wait_for: WaitFor
    until: datetime | None
    write_log: WriteLog
    context: contextvars.Context
    known: Known = field(default_factory=Known)
    ended: dict[str, BatchState] = field(default_factory=dict)
    open_ids: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None
    hourly: asyncio.TimerHandle | None = None

    @property
    def is_satisfied(self) -> bool:
        """True once all, or any, of its batches have ended."""
        return not self.open_ids or (self.wait_for == "any" and bool(self.ended))

    def log(self, line: LogLine) -> None:
        level, text, args = line
        self.context.run(self.write_log, level, text, *args)

    def finish(self, result: WaitResult) -> None:
        """Resume the task with a result, unless it already has one or was canceled."""
        if not self.future.done():
            self.future.set_result(result)


class Waiters:
    """All waiters of a connection, indexed by message batch."""

    def __init__(self) -> None:
        self._all: set[Waiter] = set()
        self._by_batch: dict[str, set[Waiter]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Waiter]:
        """Iterate over a copy: waiters may leave meanwhile."""
        return iter(tuple(self._all))

    def of_batch(self, batch_id: str) -> tuple[Waiter, ...]:
        """Return those who wait for a batch."""
        return tuple(self._by_batch.get(batch_id, ()))

    def add(self, waiter: Waiter) -> None:
        """Add a waiter for all of its batches."""
        self._all.add(waiter)
        waiter.open_ids.update(waiter.batch_ids)
        for batch_id in waiter.batch_ids:
            self._by_batch.setdefault(batch_id, set()).add(waiter)

    def remove(self, waiter: Waiter) -> list[str]:
        """Remove a waiter; return the batches that nobody waits for any more."""
        self._all.discard(waiter)
        for timer in filter(None, (waiter.timer, waiter.hourly)):
            timer.cancel()
        return [batch_id for batch_id in waiter.open_ids if self.detach(waiter, batch_id)]

    def detach(self, waiter: Waiter, batch_id: str) -> bool:
        """Let a waiter no longer wait for one batch; return True if nobody else does."""
        others = self._by_batch.get(batch_id, set())
        others.discard(waiter)
        if others:
            return False
        self._by_batch.pop(batch_id, None)
        return True

    async def log(self, line: LogLine) -> None:
        """Write a line to every waiter's log."""
        for number, waiter in enumerate(self):
            waiter.log(line)
            await yield_to_event_loop(number)


async def yield_to_event_loop(number: int) -> None:
    """Let other coroutines run after every :data:`NOTIFIED_PER_TURN` notifications.

    :param number: the number of the notification just made, from 0.
    """
    if number % NOTIFIED_PER_TURN == NOTIFIED_PER_TURN - 1:
        await asyncio.sleep(0)
