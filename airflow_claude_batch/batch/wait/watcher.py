"""Poll the message batches of one connection for any number of waiting tasks.

However many tasks wait, the watcher polls for all of them in one round per interval, over one client. Each waits on a
future of its own, so a canceled task does not affect the others. The watcher starts with the first waiter. It stops,
and closes its client, soon after the last. It never stops silently: an error that ends it goes to every waiter.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import datetime
from itertools import islice
from random import random
from typing import Final

from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.wait import log_messages, schedule
from airflow_claude_batch.batch.wait.poll_round import PollResult
from airflow_claude_batch.batch.wait.poller import Poller
from airflow_claude_batch.batch.wait.progress import Known, progress
from airflow_claude_batch.batch.wait.schedule import WaitFor, utc_now
from airflow_claude_batch.batch.wait.shared_client import Connect, SharedClient
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult
from airflow_claude_batch.batch.wait.waiters import Waiter, Waiters, WriteLog, yield_to_event_loop
from airflow_claude_batch.batch.wait.watch_list import WatchList, WatchListChanges
from airflow_claude_batch.exceptions import AuthenticationError, PermissionDeniedError

log = logging.getLogger(__name__)

#: How long the watcher keeps its client open for the next waiter.
IDLE_TIMEOUT_SECONDS: Final = 30.0
#: After recording this many batches of a round, some 4 ms, other coroutines get their turn on the event loop.
BATCHES_PER_TURN: Final = 1000
#: Longer timers are split, because the wall clock may be set meanwhile.
MAX_TIMER_SECONDS: Final = 600.0


def _ignore(_: Watcher) -> None: ...


class Watcher:
    """Waits for message batches of one connection, for any number of tasks on one event loop.

    :param conn_id: the connection's id, for messages.
    :param connect: reads the connection and builds a client from it.
    :param clock: the wall clock.
    :param jitter: returns a number from 0 to 1, by which an interval is shortened.
    :param observer: counts failed polls.
    :param on_start: called when the watcher begins to poll.
    :param on_stop: called when nobody has waited for :data:`IDLE_TIMEOUT_SECONDS` and the client is closed.

    Example::

        watcher = Watcher("claude_default", connect)
        result = await watcher.wait(["msgbatch_01AbCd"], poll_interval=60, until=deadline)
    """

    def __init__(
        self,
        conn_id: str,
        connect: Connect,
        *,
        clock: Callable[[], datetime] = utc_now,
        jitter: Callable[[], float] = random,
        observer: Observer | None = None,
        on_start: Callable[[Watcher], None] = _ignore,
        on_stop: Callable[[Watcher], None] = _ignore,
    ) -> None:
        self.conn_id = conn_id
        self.loop = asyncio.get_running_loop()
        self._client = SharedClient(conn_id, connect)
        self._poller = Poller(self._client, observer)
        self._clock = clock
        self._jitter = jitter
        self._on_start = on_start
        self._on_stop = on_stop
        self._waiters_changed = asyncio.Event()
        self._waiters = Waiters()
        self._watch_list = WatchList()
        self._sleeping_until = 0.0
        self._connect_failures = 0
        self._connect_failing_since = 0.0
        self._connect_error: Exception | None = None
        self._task: asyncio.Task[None] | None = None

    async def wait(
        self,
        batch_ids: Collection[str],
        *,
        wait_for: WaitFor = "all",
        poll_interval: float = 60.0,
        until: datetime | None = None,
        created_at: datetime | None = None,
        unconfirmed: Collection[str] = (),
        known: Known | None = None,
        write_log: WriteLog = log.log,
    ) -> WaitResult:
        """Wait until all (or any) of the batches have ended, or until ``until``.

        :param batch_ids: the batches. Without any, it is a timer.
        :param poll_interval: the longest interval between two polls, in seconds. Young batches are polled more often.
        :param until: the deadline; None for none.
        :param created_at: when the oldest batch was created, if the caller knows. It saves calls at the beginning.
        :param unconfirmed: those that an earlier wait reported as ended although they were not. They are not polled at
            once, and only a call for such a batch alone is believed.
        :param known: what the task knows of its other batches, for the log.
        :param write_log: takes a level, a text and its arguments. It is called in the caller's context.
        :raises InputError: when an element of ``batch_ids`` is not a batch id.
        """
        waiter = Waiter(
            self.loop.create_future(),
            tuple(dict.fromkeys(map(check_batch_id, batch_ids))),
            wait_for,
            until,
            write_log,
            contextvars.copy_context(),
            known or Known(),
        )
        self._add(waiter, poll_interval, created_at, unconfirmed)
        try:
            return await waiter.future
        finally:
            self._remove(waiter)

    async def prepare(self) -> None:
        """Connect ahead of the first poll. An error is reported by the poll itself."""
        self._start()
        with suppress(Exception):
            await self._client.connect()

    async def cancel(self, batch_id: str) -> MessageBatch:
        """Cancel a batch with the watcher's client.

        The connection is read again if the API rejects its credential: the next call may be accepted.

        :raises APIError: when the API refuses, or is unavailable.
        """
        self._start()
        try:
            async with self._client.use() as client:
                return await client.cancel_batch(batch_id)
        except (AuthenticationError, PermissionDeniedError):
            await self._client.reconnect()
            raise

    # ------------------------------------------------------------------ waiters

    def _add(
        self, waiter: Waiter, poll_interval: float, created_at: datetime | None, unconfirmed: Collection[str]
    ) -> None:
        self._waiters.add(waiter)
        now = self.loop.time()
        for batch_id in waiter.batch_ids:
            self._watch_list.add(
                batch_id,
                poll_interval=poll_interval,
                created_at=created_at,
                now=now,
                is_unconfirmed=batch_id in unconfirmed,
            )
        if waiter.until is None and not waiter.batch_ids:
            waiter.finish(WaitResult("due"))
        self._set_timer(waiter)
        if waiter.batch_ids:
            self._log_hourly(waiter, first=True)
        if self._watch_list.outage:
            waiter.log(log_messages.outage_began(self._watch_list.outage, self.conn_id))
        elif self._connect_error:
            waiter.log(log_messages.credential_rejected(self._connect_error, self.conn_id))
        self._start()
        if self._sleeping_until > max(now, self._watch_list.not_before):
            self._waiters_changed.set()

    def _remove(self, waiter: Waiter) -> None:
        for batch_id in self._waiters.remove(waiter):
            self._watch_list.remove(batch_id)
        if not self._waiters:
            self._waiters_changed.set()

    def _set_timer(self, waiter: Waiter) -> None:
        if waiter.until is None:
            return
        remaining = (waiter.until - self._clock()).total_seconds()
        if remaining <= 0:
            waiter.finish(WaitResult("due", self._states(waiter)))
        else:
            waiter.timer = self.loop.call_later(
                min(remaining, MAX_TIMER_SECONDS), self._set_timer, waiter, context=waiter.context
            )

    def _log_hourly(self, waiter: Waiter, *, first: bool = False) -> None:
        """Say that the waiter's batches still run, except in an outage, whose own line has said so."""
        if not (first or self._watch_list.outage):
            open_, oldest = self._watch_list.states(waiter.open_ids), self._watch_list.oldest(waiter.open_ids)
            text = progress(waiter.known, waiter.ended.values(), open_, oldest, self._clock())
            waiter.log((logging.INFO, "%s", (text,)))
        # In the watcher's context: entering the waiter's, to write the line, must be possible.
        waiter.hourly = self.loop.call_later(
            schedule.LOG_INTERVAL_SECONDS, self._log_hourly, waiter, context=contextvars.Context()
        )

    # ------------------------------------------------------------------ the polling loop

    def _start(self) -> None:
        if self._task is None:
            self._on_start(self)
            # An empty context: the task serves all waiters, so its own log lines belong to no trigger's log.
            self._task = self.loop.create_task(
                self._run(), name=f"claude-batch-watcher-{self.conn_id}", context=contextvars.Context()
            )
            self._task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if any(not waiter.future.done() for waiter in self._waiters):
            self._start()
        else:
            self._on_stop(self)

    async def _run(self) -> None:
        try:
            while self._waiters or await self._new_waiter_before_idle_timeout():
                await self._sleep_or_poll()
        except Exception as error:
            log.exception("The watcher of connection %r failed.", self.conn_id)
            await self._fail_all(log_messages.watcher_failed(error), error)
        finally:
            await self._client.close()

    async def _sleep_or_poll(self) -> None:
        next_poll_at = self._watch_list.next_poll_at()
        now = self.loop.time()
        if next_poll_at is None or next_poll_at > now:
            await self._sleep(None if next_poll_at is None else next_poll_at - now)
        elif await self._connect():
            await self._poll()

    async def _connect(self) -> bool:
        """Connect if necessary; return False if that failed. It is tried again, for a while, at growing intervals."""
        try:
            await self._client.connect()
        except Exception as error:  # a custom secrets backend may raise anything
            log.warning("Could not read connection %r.", self.conn_id, exc_info=True)
            await self._record_failed_connect(error)
            return False
        self._connect_failures, self._connect_error = 0, None
        return True

    async def _record_failed_connect(self, error: Exception) -> None:
        now = self.loop.time()
        self._connect_failures += 1
        if self._connect_failures == 1:
            self._connect_failing_since = now
        elif self._connect_error is None:
            self._connect_error = error
            await self._waiters.log(log_messages.credential_rejected(error, self.conn_id))
        if schedule.is_refusal_confirmed(self._connect_failures, now - self._connect_failing_since):
            self._connect_failures, self._connect_error = 0, None
            await self._fail_all(log_messages.unreadable(error, self.conn_id), error)
        else:
            pause = schedule.backoff(
                self._connect_failures, retry_after=None, poll_interval=schedule.LONGEST_REFUSAL_PAUSE_SECONDS
            )
            self._watch_list.not_before = now + pause

    async def _sleep(self, seconds: float | None) -> None:
        """Sleep until the time is up, or a waiter comes that cannot wait so long, or the last one leaves."""
        self._waiters_changed.clear()
        self._sleeping_until = self.loop.time() + (MAX_TIMER_SECONDS if seconds is None else seconds)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._waiters_changed.wait()
        self._sleeping_until = 0.0

    async def _new_waiter_before_idle_timeout(self) -> bool:
        await self._sleep(IDLE_TIMEOUT_SECONDS)
        return bool(self._waiters)

    async def _poll(self) -> None:
        result = await self._poller.poll(self._watch_list, now=self.loop.time())
        changes = self._watch_list.finish_round(
            result, now=self.loop.time(), calls_per_minute=self._client.calls_per_minute
        )
        for line in log_messages.outage_lines(changes, self.conn_id):
            await self._waiters.log(line)
        await self._record(result)
        await self._notify_of_errors(changes)
        is_wanted = changes.reconnect or (changes.reconnect_if_stale and self._client.is_stale)
        if is_wanted and await self._client.reconnect():
            self._watch_list.list_again()

    async def _record(self, result: PollResult) -> None:
        """Record the batches of a round and notify those who wait for them."""
        batches, jitter = iter(result.batches.values()), self._jitter()
        while chunk := list(islice(batches, BATCHES_PER_TURN)):
            changed = self._watch_list.update_batches(chunk, now=self.loop.time(), wall=self._clock(), jitter=jitter)
            for number, batch in enumerate(changed):
                self._notify_of_status(batch)
                await yield_to_event_loop(number)
            await asyncio.sleep(0)

    # ------------------------------------------------------------------ notifications

    def _notify_of_status(self, batch: MessageBatch) -> None:
        line, state = log_messages.status_changed(batch), BatchState.of(batch)
        for waiter in self._waiters.of_batch(batch.id):
            waiter.log(line)
            if not batch.ended:
                continue
            waiter.ended[batch.id] = state
            waiter.open_ids.discard(batch.id)
            if self._waiters.detach(waiter, batch.id):
                self._watch_list.remove(batch.id)
            if waiter.is_satisfied:
                waiter.finish(WaitResult("ended", self._states(waiter)))

    async def _notify_of_errors(self, changes: WatchListChanges) -> None:
        for waiter in {waiter for batch_id in changes.denials for waiter in self._waiters.of_batch(batch_id)}:
            new = {batch_id: denial for batch_id, denial in changes.denials.items() if batch_id in waiter.open_ids}
            waiter.log(log_messages.not_found(new, self.conn_id))
        denials = changes.confirmed_denials
        for waiter in {waiter for batch_id in denials for waiter in self._waiters.of_batch(batch_id)}:
            own = {batch_id: error for batch_id, error in denials.items() if batch_id in waiter.open_ids}
            waiter.finish(WaitResult.denied(log_messages.denied(own, self.conn_id), own, self._states(waiter)))
        if changes.unauthorized:
            await self._fail_all(log_messages.unauthorized(changes.unauthorized, self.conn_id), changes.unauthorized)

    async def _fail_all(self, text: str, error: Exception) -> None:
        for number, waiter in enumerate(self._waiters):
            waiter.finish(WaitResult.failed(text, error, self._states(waiter)))
            await yield_to_event_loop(number)
        await asyncio.sleep(0)  # let them leave before the loop counts waiters again

    def _states(self, waiter: Waiter) -> dict[str, BatchState]:
        """Return the last known state of each of the waiter's batches."""
        seen = self._watch_list.states(waiter.open_ids)
        return waiter.ended | {batch_id: state for batch_id, state in seen.items() if state}
