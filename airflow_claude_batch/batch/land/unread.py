"""Decide when the results of a message batch are read again, and when the API is believed that they are gone.

A single 404 proves nothing, and neither does a short result stream. The first is believed once it has lasted. Of the
second, the API's counts tell that the rest exists. So the batch is read again with growing pauses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.evidence import LASTING, LASTING_POLLS, Proof, has_lasted, proof_of
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.publish import writing_to
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Pauses before the results are read again. Each is as long as the trouble has lasted so far, within these limits.
FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=1)
#: The most that the time between two polls counts. A longer gap may be a wrong clock of one of two workers.
MAX_COUNTED_GAP: Final = timedelta(minutes=5)
#: File of a sensor, which has no ledger.
UNREAD_FILE: Final = "unread.json"


def count_poll(
    known: UnreadBatch | None,
    batch_id: str,
    trouble: Trouble,
    now: datetime,
    *,
    reason: str = "",
    rows: int = 0,
    expected: int = 0,
) -> UnreadBatch:
    """Count a poll that met this trouble. Another trouble than before begins anew.

    :param known: what was known of the batch, None if nothing.
    """
    waited_out = known is not None and known.waited_out
    if known is None or known.trouble != trouble or not known.polls:
        return UnreadBatch(
            batch_id=batch_id,
            trouble=trouble,
            since=now,
            last_at=now,
            reason=reason,
            rows=rows,
            expected=expected,
            waited_out=waited_out,
        )
    counted = min(max(now - known.last_at, timedelta()), MAX_COUNTED_GAP)
    return msgspec.structs.replace(
        known,
        last_at=now,
        polls=known.polls + 1,
        seconds=known.seconds + counted.total_seconds(),
        reason=reason,
        rows=rows,
        expected=expected,
    )


def next_read_at(unread: UnreadBatch) -> datetime:
    """Return when the batch is polled, or its results are read, again."""
    if not unread.polls:
        return unread.last_at
    pause = min(max(unread.last_at - unread.since, FIRST_PAUSE), LONGEST_PAUSE)
    if unread.trouble != Trouble.FEWER_ROWS:
        left = LASTING - timedelta(seconds=unread.seconds)
        pause = min(pause, max(left, FIRST_PAUSE), MAX_COUNTED_GAP)
    return unread.last_at + pause


def believed_at(unread: UnreadBatch) -> datetime:
    """Return from when on the API is believed that there is no batch, or no results, if it keeps saying so."""
    return unread.last_at + max(LASTING - timedelta(seconds=unread.seconds), timedelta())


def is_due(unread: UnreadBatch, now: datetime) -> bool:
    """Tell whether to read now. If the clock went back since the last time, it cannot be trusted, so yes.

    After the first 404 of a batch its wait decides, which polls the batch itself. If it finds what the reader does not,
    the second 404 sets a timer, so that the two do not call each other without a pause.
    """
    if unread.trouble == Trouble.NO_BATCH and unread.polls == 1:
        return True
    return now < unread.last_at or now >= next_read_at(unread)


def is_gone(unread: UnreadBatch) -> bool:
    """Tell whether the API has said for so long that there is no batch, or no results, that it is believed."""
    return unread.trouble != Trouble.FEWER_ROWS and has_lasted(unread.polls, timedelta(seconds=unread.seconds))


class UnreadBatches:
    """The message batches of a task whose results could not be read whole so far, by batch id.

    :param batches: what was known of them before.
    :param deadline: when the task stops waiting. Then each batch is read once more.
    :param began_at: when the attempt began. It reads each batch at once. None if that is not known.
    """

    def __init__(
        self,
        batches: Iterable[UnreadBatch],
        *,
        clock: Callable[[], datetime],
        deadline: datetime,
        began_at: datetime | None = None,
    ) -> None:
        self._by_id = {batch.batch_id: batch for batch in batches}
        self._clock = clock
        self._deadline = deadline
        self._began_at = began_at

    def __iter__(self) -> Iterator[UnreadBatch]:
        return iter(tuple(self._by_id.values()))

    def __contains__(self, batch_id: object) -> bool:
        return batch_id in self._by_id

    def get(self, batch_id: str) -> UnreadBatch | None:
        return self._by_id.get(batch_id)

    def forget(self, batch_id: str) -> None:
        """Forget a batch: it runs, or it was read whole."""
        self._by_id.pop(batch_id, None)

    def clear(self) -> None:
        """Forget all."""
        self._by_id.clear()

    def note(self, batch_id: str) -> None:
        """Note that a batch is to be read at once, whatever interrupts this."""
        now = self._clock()
        self._by_id[batch_id] = UnreadBatch(
            batch_id=batch_id, trouble=Trouble.FEWER_ROWS, since=now, last_at=now, polls=0
        )

    def is_due(self, batch_id: str) -> bool:
        """Return whether to look now: not while a pause lasts, but at the beginning and once more at the deadline."""
        known, now = self._by_id.get(batch_id), self._clock()
        if known is None or is_due(known, now) or known.last_at < self._deadline <= now:
            return True
        return self._began_at is not None and known.last_at < self._began_at

    def retrieve(self, client: ClaudeClient, batch_id: str) -> MessageBatch | None:
        """Retrieve a batch. None if the API does not find it just now, which proves nothing yet.

        :raises APIError: another failure.
        """
        try:
            batch = client.retrieve_batch(batch_id)
        except NotFoundError as error:
            if proof_of(error) is not Proof.DOES_NOT_EXIST:
                raise
            unread = self._count(batch_id, Trouble.NO_BATCH, reason=error.summary)
            _warn_of_denial(unread, error)
            return None
        known = self._by_id.get(batch_id)
        if not batch.ended:
            self.forget(batch_id)
        elif known is not None and known.trouble == Trouble.NO_BATCH:
            self.note(batch_id)  # it may be the only trace that rows of a landed batch are missing
        return batch

    def stays_short(self, batch_id: str) -> bool:
        """Tell whether rows of a batch have been missing in several downloads over a long time."""
        known = self._by_id.get(batch_id)
        if known is None or known.trouble != Trouble.FEWER_ROWS:
            return False
        return has_lasted(known.polls, timedelta(seconds=known.seconds))

    def count_missing_results(self, batch: MessageBatch, reason: str) -> None:
        """Count a 404 of the results of an ended batch. If it is archived, the API itself says that it lasts."""
        unread = self._count(batch.id, Trouble.NO_RESULTS, reason=reason)
        if batch.archived_at is not None:
            self._by_id[batch.id] = msgspec.structs.replace(
                unread, polls=max(unread.polls, LASTING_POLLS), seconds=max(unread.seconds, LASTING.total_seconds())
            )

    def count_missing_rows(self, batch_id: str, rows: int, expected: int) -> None:
        """Count a result stream without all rows."""
        unread = self._count(batch_id, Trouble.FEWER_ROWS, rows=rows, expected=expected)
        log.warning(
            "%d of %s of %s %s come. The others may be answered and paid for, so they are not sent again. The "
            "results are read again at %s.",
            rows,
            quantity(expected, "row"),
            batch_id,
            "has" if expected == 1 else "have",
            f"{next_read_at(unread):%Y-%m-%d %H:%M:%S %Z}",
        )

    def _count(
        self, batch_id: str, trouble: Trouble, *, reason: str = "", rows: int = 0, expected: int = 0
    ) -> UnreadBatch:
        unread = count_poll(
            self._by_id.get(batch_id), batch_id, trouble, self._clock(), reason=reason, rows=rows, expected=expected
        )
        self._by_id[batch_id] = unread
        return unread


def load_unread(folder: storage.Folder) -> tuple[UnreadBatch, ...]:
    """Read what a sensor has noted of batches that it could not read; empty if there is nothing, or it is damaged.

    A damaged file only lengthens the search: the grace begins anew.
    """
    data = storage.read(folder, UNREAD_FILE)
    try:
        return msgspec.json.decode(data, type=tuple[UnreadBatch, ...]) if data else ()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ()


def save_unread(folder: storage.Folder, unread: Iterable[UnreadBatch]) -> None:
    """Write what a sensor has to remember until its next poke or resumption, maybe in another process.

    Nothing to remember is no file: when everything has landed, none is left.

    :raises ResultsError: the storage refused.
    """
    noted = tuple(unread)
    with writing_to(folder, UNREAD_FILE):
        if noted:
            storage.write(folder, UNREAD_FILE, msgspec.json.encode(noted))
        else:
            folder.remove(UNREAD_FILE)


def _warn_of_denial(unread: UnreadBatch, error: NotFoundError) -> None:
    """Warn at the first poll, the second, the fourth, the eighth …: a sensor may poll every second."""
    if unread.polls.bit_count() != 1:
        return
    log.warning(
        "The API does not find message batch %s now, which proves nothing yet: it is polled again.\n"
        "Only if the API says so in %s or more, until %s at least, there is none.\n"
        "If the id or the connection is wrong, correct it and clear the task.\n%s",
        unread.batch_id,
        quantity(LASTING_POLLS, "poll"),
        f"{believed_at(unread):%Y-%m-%d %H:%M:%S %Z}",
        error,
    )
