"""Decide which message batches have ended and still need an event. State without I/O.

All times are the API's: what matters is the order in which batches were created, and this machine's clock may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch.api.limits import BATCH_LIFETIME
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.events.listing_round import Reading
from airflow_claude_batch.batch.events.record import EventRecord

#: How late a batch may appear in the listing, and how far the clocks of the API's nodes may differ.
WINDOW: Final = timedelta(minutes=15)
#: How far back the first reading looks for running batches: twice their lifetime, as this clock may be wrong.
FIRST_READING: Final = 2 * BATCH_LIFETIME


class EndedBatches:
    """The batches of one workspace, from the time when their ends began to matter.

    Without a record or a start, the first reading is the baseline: what has ended before it is of no interest, and what
    runs is watched. With a start, each batch created at or after it counts.

    A record without a watermark, such as ``{}`` by hand, is no baseline: else all that ever ended would have an event.

    :param record: what an earlier process has stored.
    :param since: only batches created at or after this time count.

    Example::

        batches = EndedBatches(record)
        for batch in batches.take(reading):
            batches.finish(batch.id)
    """

    def __init__(self, record: EventRecord | None = None, *, since: datetime | None = None) -> None:
        self._since = since
        record = record or EventRecord()
        self._has_baseline = record.watermark is not None or since is not None
        self._watermark = record.watermark
        self._open = dict(record.open)
        self._done = dict(record.done)
        self._firing = set(record.firing)
        self._fired_before = frozenset(record.firing)

    @property
    def open_ids(self) -> tuple[str, ...]:
        """The batches to look for, wherever they are in the listing."""
        return tuple(self._open)

    def record(self) -> EventRecord:
        """Return what to store."""
        self._forget_old()
        return EventRecord(
            watermark=self._watermark,
            open=dict(self._open),
            done=dict(self._done),
            firing=tuple(sorted(self._firing)),
        )

    def back_to(self, now: datetime) -> datetime | None:
        """Return how far back the next reading must go: to batches created at this time. None: to the oldest."""
        return self._oldest_new if self._has_baseline else now - FIRST_READING

    def take(self, reading: Reading) -> list[MessageBatch]:
        """Record a reading. Return the batches that have ended and are not finished, in the order of their ends.

        The reading must go back to :meth:`back_to`.
        """
        wanted = [batch for batch in reading.batches.values() if not self.is_finished(batch)]
        if not self._has_baseline:
            before = {batch.id: batch for batch in wanted if batch.ended and batch.id not in self._open}
            self._done |= {batch_id: batch.created_at for batch_id, batch in before.items()}
            wanted = [batch for batch in wanted if batch.id not in before]
            self._has_baseline = True
        self._open |= {batch.id: batch.created_at for batch in wanted}
        self._raise_watermark(reading)
        ended = [batch for batch in wanted if batch.ended]
        return sorted(ended, key=lambda batch: (batch.ended_at or batch.created_at, batch.id))

    def is_finished(self, batch: MessageBatch) -> bool:
        """Tell whether a batch needs nothing more: it had its event, or is older than what counts."""
        return self._is_finished(batch.id, batch.created_at)

    def _is_finished(self, batch_id: str, created_at: datetime) -> bool:
        if batch_id in self._open:
            return False
        oldest = self._oldest_new
        return batch_id in self._done or (oldest is not None and created_at < oldest)

    def begin_firing(self, batch_ids: Iterable[str]) -> None:
        """Record that the events of these batches are about to be fired."""
        self._firing.update(batch_ids)

    def may_be_repeated(self, batch_id: str) -> bool:
        """Tell whether an earlier process may have fired the event of this batch."""
        return batch_id in self._fired_before

    def finish(self, batch: MessageBatch) -> None:
        """Record that a batch needs nothing more."""
        self.forget(batch.id)
        self._done[batch.id] = batch.created_at

    def forget(self, batch_id: str) -> None:
        """Stop looking for a batch: it is finished, or does not exist any more."""
        self._open.pop(batch_id, None)
        self._firing.discard(batch_id)

    def add_finished(self, stored: EventRecord) -> None:
        """Take over what another process has stored: it may have fired events while this one stood still."""
        other = EndedBatches(stored, since=self._since)
        self._done |= stored.done
        self._forget_old()
        for batch_id, created_at in list(self._open.items()):
            if other._is_finished(batch_id, created_at):
                self.forget(batch_id)
                self._done[batch_id] = created_at

    @property
    def _oldest_new(self) -> datetime | None:
        """The time from which on an unknown batch is a new one."""
        times = [self._since, self._watermark - WINDOW if self._watermark else None]
        return max(filter(None, times), default=None)

    def _raise_watermark(self, reading: Reading) -> None:
        """Move the watermark to the newest batch, but not beyond the present: a node's clock may be wrong by years.

        In a workspace without batches it is a day ago: an answer without batches may be a mistake.
        """
        newest = max((batch.created_at for batch in reading.batches.values()), default=None)
        if newest is None and self._since is not None:
            return
        seen = min(newest, reading.now) if newest else reading.now - BATCH_LIFETIME
        self._watermark = max(filter(None, (self._watermark, seen)))
        self._forget_old()

    def _forget_old(self) -> None:
        """Forget the finished batches that are too old to be taken for new ones."""
        oldest = self._oldest_new
        self._done = {batch_id: at for batch_id, at in self._done.items() if oldest is None or at >= oldest}
