"""Announce each message batch that ends in one event, whatever crashes in between.

Batches that are found to have ended at the same time share an event: Airflow up to 3.3 may give the run of a DAG only
the first of several events that come within seconds (apache/airflow#54659).

Airflow takes an event from a process and stores it within seconds, and does not tell the process when it has. So the
record says *firing* before an event is handed over, and *done* only after Airflow has had the time to store it. A
process that dies between the two leaves the event to its successor, which fires it, again if it was stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from airflow_claude_batch.api.evidence import has_lasted
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.events.ended_batches import EndedBatches
from airflow_claude_batch.batch.events.record import RecordStore
from airflow_claude_batch.batch.events.shared_listing import Subscription
from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.exceptions import APIError, ClaudeBatchError, ConfigurationError

log = logging.getLogger(__name__)

#: The version of the payload.
PAYLOAD_VERSION: Final = 1
#: How long Airflow has to store an event. Its triggerer takes events over about once a second.
SETTLE_SECONDS: Final = 10.0
#: If Airflow answers more slowly than this, its triggerer is stuck, and the time for storing begins again.
PROMPT_SECONDS: Final = 2.0
#: So many batches an event has at most: about 30 kB.
MAX_AT_ONCE: Final = 100
#: How many batches are asked at the same time who has made them.
CONCURRENT_CHECKS: Final = 4
LONGEST_STORE_PAUSE_SECONDS: Final = 60.0

T = TypeVar("T")

#: Tells whether this package has sent an ended batch. Raises an APIError if that cannot be told now.
IsOwn = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Announcement:
    """One batch that has ended.

    :param may_be_repeated: an earlier process may have announced it, too.
    """

    batch: MessageBatch
    may_be_repeated: bool = False

    def to_payload(self) -> dict[str, Any]:
        """Return what the event says of the batch: JSON, small, without secrets, prompts or answers."""
        batch, counts = self.batch, self.batch.request_counts
        return {
            "batch_id": batch.id,
            "request_counts": {name: getattr(counts, name) for name in counts.__struct_fields__},
            "created_at": _text(batch.created_at),
            "ended_at": _text(batch.ended_at),
            "cancel_initiated_at": _text(batch.cancel_initiated_at),
            "may_be_repeated": self.may_be_repeated,
        }


def payload_of(announcements: Sequence[Announcement], conn_id: str) -> dict[str, Any]:
    """Return the payload of the event that announces these batches."""
    batches = [announcement.to_payload() for announcement in announcements]
    return {"version": PAYLOAD_VERSION, "claude_conn_id": conn_id, "batches": batches}


class Announcer:
    """Finds the batches that have ended, and keeps the record of their events.

    :param listing: reads the workspace's batches.
    :param store: keeps the record.
    :param since: only batches created at or after this time. None: those that end from now on.
    :param is_own: tells whether a batch is one of this package's, which is then left out. None: none is left out.
    :param sleep: sleeps between tries, and while Airflow stores events.
    :param monotonic: seconds of a clock that is never set.

    Example::

        while True:
            if announcements := await announcer.next():
                yield payload_of(announcements, "claude_default")
            await announcer.confirm()
    """

    def __init__(
        self,
        listing: Subscription,
        store: RecordStore,
        *,
        since: datetime | None = None,
        is_own: IsOwn | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listing = listing
        self._store = store
        self._since = since
        self._is_own = is_own
        self._sleep = sleep
        self._monotonic = monotonic
        self._conn_id = listing.listing.conn_id
        self._batches: EndedBatches | None = None
        self._ended: list[MessageBatch] = []
        self._fired: list[MessageBatch] = []
        self._denied, self._unread = _Refusals(monotonic), _Refusals(monotonic)

    async def next(self) -> list[Announcement]:
        """Return the batches to announce in an event now, some of them if there are many. Often there are none.

        They are in the record as firing. Call :meth:`confirm` once the event is handed over.
        """
        batches = self._batches or await self._begin()
        if not self._ended:
            await self._read(batches)
        chunk, self._ended = self._ended[:MAX_AT_ONCE], self._ended[MAX_AT_ONCE:]
        foreign, own = await self._sorted_by_maker(chunk)
        for batch in own:
            batches.finish(batch)
        if foreign:
            foreign = await self._take_over_done(batches, foreign)
            batches.begin_firing(batch.id for batch in foreign)
        if foreign or own:
            await self._save(batches)
        for batch in foreign:
            log.info("Message batch %s of connection %r has ended: an event says so.", batch.id, self._conn_id)
        self._fired = foreign
        return [Announcement(batch, batches.may_be_repeated(batch.id)) for batch in foreign]

    async def confirm(self) -> None:
        """Record that the event is fired, once Airflow has had the time to store it."""
        if self._batches is None or not self._fired:
            return
        await self._settle()
        for batch in self._fired:
            self._batches.finish(batch)
        self._fired = []
        await self._save(self._batches)

    async def _begin(self) -> EndedBatches:
        record = await self._until_it_works(self._store.load)
        batches = EndedBatches(record, since=self._since)
        if record is None:
            await self._read(batches)
            await self._save(batches)
        begins = "from where an earlier process left off" if record else f"created since {self._since}"
        begins = begins if record or self._since else "from now on"
        log.info("Watching connection %r for message batches that end, %s.", self._conn_id, begins)
        self._batches = batches
        return batches

    async def _read(self, batches: EndedBatches) -> None:
        reading = await self._listing.next(batches.back_to(self._listing.listing.now()), batches.open_ids)
        self._ended = batches.take(reading)
        self._denied.keep(reading.denied)
        for batch_id in set(reading.denied).intersection(batches.open_ids):
            if not self._denied.is_believed(batch_id):
                continue
            batches.forget(batch_id)
            log.warning(
                "Message batch %s of connection %r ended without an event: it was deleted, or the connection now "
                "belongs to another workspace.",
                batch_id,
                self._conn_id,
            )

    async def _sorted_by_maker(self, ended: Sequence[MessageBatch]) -> tuple[list[MessageBatch], list[MessageBatch]]:
        """Return the batches made elsewhere, and those of this package. A batch whose results cannot be read now is in
        neither list: it is checked again at the next reading.
        """
        slots = asyncio.Semaphore(CONCURRENT_CHECKS)

        async def check(batch: MessageBatch) -> bool | None:
            async with slots:
                return await self._is_own_or_unknown(batch)

        answers = await asyncio.gather(*map(check, ended))
        answered = list(zip(ended, answers, strict=True))
        return [batch for batch, own in answered if own is False], [batch for batch, own in answered if own is True]

    async def _is_own_or_unknown(self, batch: MessageBatch) -> bool | None:
        if self._is_own is None:
            return False
        try:
            answer = await self._is_own(batch.id)
        except (APIError, ConfigurationError) as error:
            if not self._unread.is_believed(batch.id):
                return None
            answer = False
            log.warning(
                "Message batch %s has ended, but its results cannot be read, so that who has made it is not known. Its "
                "event is fired. %s",
                batch.id,
                error,
            )
        self._unread.forget(batch.id)
        return answer

    async def _take_over_done(self, batches: EndedBatches, foreign: list[MessageBatch]) -> list[MessageBatch]:
        """Leave out what another triggerer has fired while this one stood still."""
        if (stored := await self._until_it_works(self._store.load)) is not None:
            batches.add_finished(stored)
        return [batch for batch in foreign if not batches.is_finished(batch)]

    async def _settle(self) -> None:
        while True:
            await self._sleep(SETTLE_SECONDS)
            asked_at = self._monotonic()
            await self._until_it_works(self._store.load)
            if self._monotonic() - asked_at <= PROMPT_SECONDS:
                return

    async def _save(self, batches: EndedBatches) -> None:
        record = batches.record()
        await self._until_it_works(lambda: self._store.save(record))

    async def _until_it_works(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call the store until it answers. Meanwhile no event is fired, and none is lost."""
        failures = 0
        while True:
            try:
                return await call()
            except Exception as error:  # what Airflow's supervisor raises differs from version to version
                failures += 1
                if failures in (1, 10) or failures % 60 == 0:
                    log.warning(
                        "The record of fired events cannot be read or written now (connection %r), so no event is "
                        "fired until it can be. %s",
                        self._conn_id,
                        error if isinstance(error, ClaudeBatchError) else type(error).__name__,
                        exc_info=not isinstance(error, ClaudeBatchError),
                    )
            await self._sleep(schedule.backoff(failures, retry_after=None, poll_interval=LONGEST_STORE_PAUSE_SECONDS))


class _Refusals:
    """Tells when a failure of the same batch has lasted long enough to be believed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._first: dict[str, tuple[int, float]] = {}

    def is_believed(self, batch_id: str) -> bool:
        """Count a failure. Tell whether it is the last of enough, over a long enough time."""
        count, since = self._first.get(batch_id, (0, self._monotonic()))
        self._first[batch_id] = count + 1, since
        return has_lasted(count + 1, timedelta(seconds=self._monotonic() - since))

    def forget(self, batch_id: str) -> None:
        """Forget the failures of one batch."""
        self._first.pop(batch_id, None)

    def keep(self, batch_ids: Mapping[str, object]) -> None:
        """Forget the failures of other batches: they were seen since."""
        self._first = {batch_id: first for batch_id, first in self._first.items() if batch_id in batch_ids}


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None
