"""Read the listing of a connection once an interval, for all who watch its workspace."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from random import random
from typing import Final
from weakref import WeakKeyDictionary

from airflow_claude_batch.batch.events.listing_round import Reading, listing_round
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.batch.wait.poller import Poller
from airflow_claude_batch.batch.wait.progress import in_words
from airflow_claude_batch.batch.wait.schedule import PollError, PollErrorKind
from airflow_claude_batch.batch.wait.shared_client import Connect, SharedClient
from airflow_claude_batch.exceptions import APIStatusError, ConfigurationError

log = logging.getLogger(__name__)

#: After this many failed rounds in a row, the log says so. A single failure is not worth a line.
LOGGED_FAILURES: Final = 2
#: A line that says so again, for who looks only at the newest lines.
LOG_AGAIN_SECONDS: Final = 3600.0


class SharedListing:
    """The newest batches of a connection's workspace, read again and again while somebody subscribes.

    It never gives up. An outage or a refused key is logged, and tried again at growing intervals: the event of a batch
    that ended meanwhile is late, not lost.

    :param conn_id: the connection's id, for messages.
    :param connect: reads the connection and builds a client from it.
    :param interval: the seconds between two readings.
    :param clock: the wall clock, where the API does not tell its own.
    :param jitter: returns a number from 0 to 1, by which an interval is shortened.

    Example::

        async with listing.subscribe() as subscription:
            reading = await subscription.next(back_to=an_hour_ago)
    """

    def __init__(
        self,
        conn_id: str,
        connect: Connect,
        *,
        interval: float = 60.0,
        clock: Callable[[], datetime] = schedule.utc_now,
        jitter: Callable[[], float] = random,
        observer: Observer | None = None,
    ) -> None:
        self.conn_id = conn_id
        self.now = clock
        self._interval = max(interval, schedule.MIN_INTERVAL_SECONDS)
        self._client = SharedClient(conn_id, connect)
        self._poller = Poller(self._client, observer)
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._subscriptions: list[Subscription] = []
        self._reading: Reading | None = None
        self._number = 0
        self._last_seen: dict[str, int] = {}
        self._not_before = self._next_at = 0.0
        self._failures = _Failures(conn_id)

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Take part in the readings of this block. The last one to leave closes the client."""
        subscription = Subscription(self)
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            if not self._subscriptions:
                await self._client.close()

    @property
    def has_subscribers(self) -> bool:
        return bool(self._subscriptions)

    async def read_for(self, subscription: Subscription) -> Reading:
        """Return the next reading that the subscription has not had. See :meth:`Subscription.next`."""
        while True:
            if (reading := self._unread(subscription)) is not None:
                return reading
            async with self._lock:
                pause = self._seconds_until_due(subscription)
                if pause <= 0 and self._unread(subscription) is None:
                    await self._read()
            if pause > 0:
                await asyncio.sleep(pause)

    def _unread(self, subscription: Subscription) -> Reading | None:
        if self._reading is None or self._number <= subscription.number:
            return None
        if not self._reading.covers(subscription.back_to, subscription.wanted):
            return None
        subscription.number = self._number
        return self._reading

    def _seconds_until_due(self, subscription: Subscription) -> float:
        """Return how long to wait. Who has had no reading yet waits only for the end of a failure's pause."""
        due_at = self._not_before if subscription.number < 0 else max(self._not_before, self._next_at)
        return due_at - self._loop.time()

    async def _read(self) -> None:
        reading = await self._poller.run(
            listing_round(
                self._back_to(), self._wanted(), now=self.now(), number=self._number, is_probe=self._failures.count > 0
            )
        )
        now = self._loop.time()
        if reading.error is not None:
            await self._record_failure(reading.error, now)
            return
        self._failures.end(now)
        self._number += 1
        self._reading = reading
        self._last_seen |= dict.fromkeys(reading.batches, self._number)
        by_rate_limit = schedule.rate_limit_interval(reading.calls, calls_per_minute=self._client.calls_per_minute)
        self._not_before = now + by_rate_limit
        self._next_at = now + schedule.with_jitter(self._interval, jitter=self._jitter())

    async def _record_failure(self, error: PollError, now: float) -> None:
        self._failures.add(error, now)
        if schedule.classify_error(error) is PollErrorKind.UNAUTHORIZED:
            self._not_before = now + schedule.refusal_pause(self._failures.count)
            if not isinstance(error, ConfigurationError):  # then there is no client, and the next call connects
                await self._client.reconnect()
            return
        retry_after = error.retry_after if isinstance(error, APIStatusError) else None
        self._not_before = now + schedule.backoff(
            self._failures.count, retry_after=retry_after, poll_interval=self._interval
        )
        if self._client.is_stale:
            await self._client.reconnect()

    def _back_to(self) -> datetime | None:
        """Return the earliest time that a subscriber needs. None, to the oldest, is earlier than any."""
        times = [subscription.back_to for subscription in self._subscriptions if subscription.has_begun]
        return None if None in times else min(filter(None, times))

    def _wanted(self) -> list[str]:
        """Return the batches that a subscriber wants, those first that were not seen for longest."""
        wanted = {batch_id for subscription in self._subscriptions for batch_id in subscription.wanted}
        self._last_seen = {batch_id: seen for batch_id, seen in self._last_seen.items() if batch_id in wanted}
        return sorted(wanted, key=lambda batch_id: (self._last_seen.get(batch_id, 0), batch_id))


@dataclass(slots=True, eq=False)
class Subscription:
    """One who reads the listing.

    :param number: the number of the last reading that it got, -1 before the first.
    """

    listing: SharedListing
    number: int = -1
    has_begun: bool = False
    back_to: datetime | None = None
    wanted: tuple[str, ...] = ()

    async def next(self, back_to: datetime | None, wanted: tuple[str, ...] = ()) -> Reading:
        """Wait for the next reading. Outages are waited out.

        :param back_to: it has every batch created at or after this time. None: every batch.
        :param wanted: ids of batches that it looks for too, however old they are. In a round of very many batches, some
            are looked for in the next one only.
        """
        self.back_to, self.wanted, self.has_begun = back_to, wanted, True
        return await self.listing.read_for(self)


class _Failures:
    """Counts failed rounds in a row, and logs when they begin and end."""

    def __init__(self, conn_id: str) -> None:
        self._conn_id = conn_id
        self.count = 0
        self._since = 0.0
        self._logged_at: float | None = None

    def add(self, error: PollError, now: float) -> None:
        self.count += 1
        if self.count == 1:
            self._since = now
        is_old = self._logged_at is not None and now - self._logged_at >= LOG_AGAIN_SECONDS
        if is_old or (self._logged_at is None and self.count >= LOGGED_FAILURES):
            self._logged_at = now
            log.warning(
                "The message batches of connection %r cannot be listed now. Events of batches that end are late until "
                "that works again, not lost. It is tried again at growing intervals. %s",
                self._conn_id,
                error,
            )

    def end(self, now: float) -> None:
        if self._logged_at is not None:
            log.info(
                "The message batches of connection %r can be listed again, after %s.",
                self._conn_id,
                in_words(now - self._since),
            )
        self.count, self._logged_at = 0, None


class ListingRegistry:
    """The listings in use in this process, by event loop and connection."""

    def __init__(self) -> None:
        self._listings: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, SharedListing]] = WeakKeyDictionary()

    @asynccontextmanager
    async def subscribe(self, conn_id: str, make: Callable[[], SharedListing]) -> AsyncIterator[Subscription]:
        """Subscribe to the listing of a connection on the running event loop.

        :param make: makes it, if nobody else has subscribed.
        """
        listings = self._listings.setdefault(asyncio.get_running_loop(), {})
        listing = listings.setdefault(conn_id, make()) if conn_id not in listings else listings[conn_id]
        try:
            async with listing.subscribe() as subscription:
                yield subscription
        finally:
            if not listing.has_subscribers and listings.get(conn_id) is listing:
                del listings[conn_id]


#: The registry of this process.
LISTINGS: Final = ListingRegistry()
