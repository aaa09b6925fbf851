"""One watcher per event loop and connection serves every task that waits there.

However many tasks wait, it asks for all of them in one survey per interval, over one client. Each waits on a future of
its own, so that a canceled one hurts nobody. The watcher begins with the first waiter and ends, with its client, soon
after the last; it never ends silently: whatever breaks it is told to all who wait.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from random import random
from typing import Final
from weakref import WeakKeyDictionary

from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.wait import log_messages
from airflow_claude_batch.batch.wait.log_messages import Line
from airflow_claude_batch.batch.wait.poll_round import Answer, Call, ListPage, PollResult, Retrieve, poll_round
from airflow_claude_batch.batch.wait.schedule import WaitFor, utc_now
from airflow_claude_batch.batch.wait.shared_client import Connect, SharedClient
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult
from airflow_claude_batch.batch.wait.watch_list import WatchList, WatchListChanges
from airflow_claude_batch.exceptions import APIConnectionError, APIError, ConfigurationError

log = logging.getLogger(__name__)

#: How long the client is kept for the next waiter.
GRACE_SECONDS: Final = 30.0
#: Reading a connection may fail because Airflow's own services are busy; believed at the third time.
CONNECT_TRIES: Final = 3
CONNECT_PAUSE_SECONDS: Final = 20.0
#: So many waiters are told something before others get their turn on the loop.
TOLD_AT_ONCE: Final = 25
#: So many batches of a survey are looked through before that; it takes some 4 ms.
SEEN_AT_ONCE: Final = 1000
#: A timer this long is checked against the wall clock on the way, in case that was set.
LONGEST_TIMER_SECONDS: Final = 600.0

Tell = Callable[..., None]


@dataclass(slots=True, eq=False)
class _Waiter:
    future: asyncio.Future[WaitResult]
    batch_ids: tuple[str, ...]
    wait_for: WaitFor
    until: datetime | None
    tell: Tell
    context: contextvars.Context
    ended: dict[str, BatchState] = field(default_factory=dict)
    open_ids: set[str] = field(default_factory=set)
    timer: asyncio.TimerHandle | None = None

    @property
    def satisfied(self) -> bool:
        return not self.open_ids or (self.wait_for == "any" and bool(self.ended))

    def say(self, line: Line) -> None:
        """Log in the waiter's own context: Airflow files a trigger's lines by it."""
        level, text, args = line
        self.context.run(self.tell, level, text, *args)

    def wake(self, wake: WaitResult) -> None:
        if not self.future.done():
            self.future.set_result(wake)


class Watcher:
    """Waits for message batches of one connection, for any number of tasks on one event loop.

    :param name: of the connection, for messages.
    :param connect: reads the connection and makes a client of it.
    :param clock: the wall clock.
    :param observer: is told of looks that fail.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        clock: Callable[[], datetime] = utc_now,
        dice: Callable[[], float] = random,
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self._road = SharedClient(name, connect)
        self._clock = clock
        self._dice = dice
        self._observer = observer or NullObserver()
        self._loop = asyncio.get_running_loop()
        self._bell = asyncio.Event()
        self._waiters: set[_Waiter] = set()
        self._by_batch: dict[str, set[_Waiter]] = {}
        self._roster = WatchList()
        self._asleep_until = 0.0
        self._task: asyncio.Task[None] | None = None

    async def wait(
        self,
        batch_ids: Collection[str],
        *,
        wait_for: WaitFor = "all",
        poll_interval: float = 60.0,
        until: datetime | None = None,
        created_at: datetime | None = None,
        tell: Tell = log.log,
    ) -> WaitResult:
        """Wait until all (or any) of the batches have ended, or until ``until``.

        :param batch_ids: none at all for a mere timer.
        :param created_at: a guess at when the oldest was created, which saves calls at the beginning.
        :param tell: takes a level, a text and its arguments; called in the caller's context.
        :raises InputError: an id is none.
        """
        waiter = _Waiter(
            self._loop.create_future(),
            tuple(dict.fromkeys(map(check_batch_id, batch_ids))),
            wait_for,
            until,
            tell,
            contextvars.copy_context(),
        )
        self._enroll(waiter, poll_interval, created_at)
        try:
            return await waiter.future
        finally:
            self._dismiss(waiter)

    async def prepare(self) -> None:
        """Read the connection; what is wrong with it is said when there is something to look at."""
        self._start()
        with suppress(Exception):
            await self._road.client()

    async def cancel(self, batch_id: str) -> MessageBatch:
        """Cancel a batch with the watcher's client."""
        self._start()
        client = await self._road.client()
        return await client.cancel_batch(batch_id)

    # ------------------------------------------------------------------ who waits

    def _enroll(self, waiter: _Waiter, poll_interval: float, created_at: datetime | None) -> None:
        self._waiters.add(waiter)
        waiter.open_ids.update(waiter.batch_ids)
        now = self._loop.time()
        for batch_id in waiter.batch_ids:
            self._by_batch.setdefault(batch_id, set()).add(waiter)
            self._roster.add(batch_id, poll_interval=poll_interval, created_at=created_at, now=now)
        if waiter.until is None and not waiter.batch_ids:
            waiter.wake(WaitResult("due"))
        self._set_timer(waiter)
        if self._roster.outage:
            waiter.say(log_messages.outage_began(self._roster.outage, self.name))
        self._start()
        if self._asleep_until > max(now, self._roster.not_before):
            self._bell.set()

    def _dismiss(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        if waiter.timer:
            waiter.timer.cancel()
        for batch_id in waiter.open_ids:
            self._leave(batch_id, waiter)
        if not self._waiters:
            self._bell.set()

    def _leave(self, batch_id: str, waiter: _Waiter) -> None:
        others = self._by_batch.get(batch_id, set())
        others.discard(waiter)
        if not others:
            self._by_batch.pop(batch_id, None)
            self._roster.remove(batch_id)

    def _set_timer(self, waiter: _Waiter) -> None:
        if waiter.until is None:
            return
        left = (waiter.until - self._clock()).total_seconds()
        if left <= 0:
            waiter.wake(WaitResult("due", self._states(waiter)))
        else:
            waiter.timer = self._loop.call_later(
                min(left, LONGEST_TIMER_SECONDS), self._set_timer, waiter, context=waiter.context
            )

    # ------------------------------------------------------------------ the loop

    def _start(self) -> None:
        if self._task is None:
            _watchers.setdefault(self._loop, {})[self.name] = self
            # An empty context: this task serves everybody, so its own lines belong to no trigger's log.
            self._task = self._loop.create_task(
                self._run(), name=f"claude-batch-watcher-{self.name}", context=contextvars.Context()
            )
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if any(not waiter.future.done() for waiter in self._waiters):
            self._start()
        else:
            _forget(self)

    async def _run(self) -> None:
        try:
            while self._waiters or await self._somebody_comes():
                await self._turn()
        except Exception as error:
            log.exception("The watcher of connection %r broke", self.name)
            await self._fail_all(log_messages.broken(error), error)
        finally:
            await self._road.close()

    async def _turn(self) -> None:
        next_look_at = self._roster.next_look_at()
        now = self._loop.time()
        if next_look_at is None or next_look_at > now:
            await self._sleep(None if next_look_at is None else next_look_at - now)
        elif await self._connected():
            await self._look()

    async def _connected(self) -> bool:
        for tries_left in reversed(range(CONNECT_TRIES)):
            try:
                await self._road.client()
                return True
            except Exception as error:  # connections may live in anybody's secrets back end
                log.warning("Connection %r could not be read", self.name, exc_info=True)
                if tries_left:
                    await asyncio.sleep(CONNECT_PAUSE_SECONDS)
                else:
                    await self._fail_all(log_messages.unreadable(error, self.name), error)
        return False

    async def _sleep(self, seconds: float | None) -> None:
        self._bell.clear()
        self._asleep_until = self._loop.time() + (LONGEST_TIMER_SECONDS if seconds is None else seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._bell.wait()
        self._asleep_until = 0.0

    async def _somebody_comes(self) -> bool:
        await self._sleep(GRACE_SECONDS)
        return bool(self._waiters)

    async def _look(self) -> None:
        findings = await self._survey()
        report = self._roster.note(findings, now=self._loop.time(), calls_per_minute=self._road.calls_per_minute)
        for line in log_messages.about_the_road(report, self.name):
            await self._say_all(line)
        await self._see(findings)
        await self._give_up(report)
        if report.reconnect or (report.reconnect_if_old and self._road.is_old):
            await self._road.renew()
            self._roster.may_list = True

    async def _see(self, findings: PollResult) -> None:
        seen, spread = iter(findings.seen.values()), self._dice()
        while some := list(islice(seen, SEEN_AT_ONCE)):
            changed = self._roster.see(some, now=self._loop.time(), wall=self._clock(), spread=spread)
            for number, batch in enumerate(changed):
                self._deliver_change(batch)
                await _breathe(number)
            await asyncio.sleep(0)

    async def _survey(self) -> PollResult:
        roster = self._roster
        asking = poll_round(roster.due(self._loop.time()), watched=roster.batch_ids, may_list=roster.may_list)
        try:
            calls = next(asking)
            while True:
                calls = asking.send(await asyncio.gather(*map(self._ask, calls)))
        except StopIteration as stop:
            findings: PollResult = stop.value
            return findings

    async def _ask(self, call: Call) -> Answer:
        client = await self._road.client()
        try:
            match call:
                case Retrieve(batch_id):
                    return await client.retrieve_batch(batch_id)
                case ListPage(limit, after_id):
                    return await client.list_batches(limit=limit, after_id=after_id)
        except (APIError, ConfigurationError) as error:
            self._observer.poll_failed(error)
            return error
        except Exception as error:  # one look must not end the waiting of all
            self._observer.poll_failed(error)
            log.exception("Asking failed in an unexpected way: %r", call)
            return APIConnectionError(f"unexpected {type(error).__name__}, see the triggerer's log.")

    # ------------------------------------------------------------------ what was found

    def _deliver_change(self, batch: MessageBatch) -> None:
        line, state = log_messages.status_changed(batch), BatchState.of(batch)
        for waiter in tuple(self._by_batch.get(batch.id, ())):
            waiter.say(line)
            if not batch.ended:
                continue
            waiter.ended[batch.id] = state
            waiter.open_ids.discard(batch.id)
            self._leave(batch.id, waiter)
            if waiter.satisfied:
                waiter.wake(WaitResult("ended", self._states(waiter)))

    async def _give_up(self, report: WatchListChanges) -> None:
        for waiter in {waiter for batch_id in report.gone for waiter in self._by_batch.get(batch_id, ())}:
            gone = {batch_id: error for batch_id, error in report.gone.items() if batch_id in waiter.open_ids}
            waiter.wake(WaitResult.gone(log_messages.gone(gone, self.name), gone, self._states(waiter)))
        if report.refused:
            await self._fail_all(log_messages.refused(report.refused, self.name), report.refused)

    async def _fail_all(self, text: str, error: Exception) -> None:
        for number, waiter in enumerate(tuple(self._waiters)):
            waiter.wake(WaitResult.failed(text, error, self._states(waiter)))
            await _breathe(number)
        await asyncio.sleep(0)  # let them leave before the next turn counts them

    def _states(self, waiter: _Waiter) -> dict[str, BatchState]:
        """What is known of the waiter's batches."""
        seen = {batch_id: self._roster.last_seen(batch_id) for batch_id in waiter.open_ids}
        return waiter.ended | {batch_id: BatchState.of(batch) for batch_id, batch in seen.items() if batch}

    async def _say_all(self, line: Line) -> None:
        for number, waiter in enumerate(tuple(self._waiters)):
            waiter.say(line)
            await _breathe(number)


async def _breathe(number: int) -> None:
    if number % TOLD_AT_ONCE == TOLD_AT_ONCE - 1:
        await asyncio.sleep(0)


# ---------------------------------------------------------------------- the watchers of each loop

#: By event loop: ``dag.test()`` runs every trigger in a loop of its own, and a client belongs to one loop.
_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Watcher]] = WeakKeyDictionary()


def watcher_for(name: str, connect: Connect, *, observer: Observer | None = None) -> Watcher:
    """Return the running loop's watcher for a connection; the arguments are used if there is none at work."""
    at_work = _watchers.get(asyncio.get_running_loop(), {}).get(name)
    return at_work or Watcher(name, connect, observer=observer)


def _forget(watcher: Watcher) -> None:
    watchers = _watchers.get(watcher._loop, {})
    if watchers.get(watcher.name) is watcher:
        del watchers[watcher.name]
    if not watchers:
        _watchers.pop(watcher._loop, None)
