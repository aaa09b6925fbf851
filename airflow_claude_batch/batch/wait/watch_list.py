"""Who is waited for: what is known of every watched message batch, and when each is to be looked at again.

State without I/O: findings and the time go in, what has changed comes out. Times named ``now`` and ``..._at`` are
seconds of a clock that never jumps; only ages are taken from the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.batch.wait.poll_round import PollResult
from airflow_claude_batch.batch.wait.schedule import PollError, PollErrorKind
from airflow_claude_batch.exceptions import APIStatusError

#: A batch that is due within this share of its interval is looked at along with the one that is due now.
LOOK_ALONG: Final = 0.5


@dataclass(slots=True, eq=False)
class Watched:
    """One message batch.

    :param created_at: as the API says it, before that a guess of ours, or None.
    :param last: as last seen.
    """

    batch_id: str
    poll_interval: float
    created_at: datetime | None
    due_at: float
    interval: float = 0.0
    last: MessageBatch | None = None
    doubted_since: float | None = None
    doubts: int = 0


@dataclass(slots=True)
class WatchListChanges:
    """What a survey says beside what it saw.

    :param gone: those that the API has denied for so long that we believe it, and its words.
    :param outage_began: what failed, when it failed twice in a row; once is not worth a line in every log.
    :param outage_ended: how long the outage was, in seconds, if it is over.
    :param refused: the API refused the credential twice, with a new look at the connection in between.
    :param reconnect: read the connection again before the next look.
    :param reconnect_if_old: do so if that was not done lately: what is wrong may have been mended there.
    """

    gone: dict[str, PollError] = field(default_factory=dict)
    outage_began: PollError | None = None
    outage_ended: float | None = None
    refused: PollError | None = None
    reconnect: bool = False
    reconnect_if_old: bool = False


class WatchList:
    """The watched batches of one connection."""

    def __init__(self) -> None:
        self._watched: dict[str, Watched] = {}
        self.not_before = 0.0
        self._failures = 0
        self._failing_since = 0.0
        self._refused = False
        self.outage: PollError | None = None
        self.may_list = True

    @property
    def batch_ids(self) -> KeysView[str]:
        return self._watched.keys()

    def add(self, batch_id: str, *, poll_interval: float, created_at: datetime | None, now: float) -> None:
        """Watch a batch, or watch it more closely if it is watched already."""
        known = self._watched.get(batch_id)
        if known is None:
            self._watched[batch_id] = Watched(batch_id, poll_interval, created_at, due_at=now)
        else:
            known.poll_interval = min(known.poll_interval, poll_interval)
            known.due_at = min(known.due_at, now + poll_interval)

    def remove(self, batch_id: str) -> None:
        self._watched.pop(batch_id, None)
        if not self._watched:
            self._refused = False

    def last_seen(self, batch_id: str) -> MessageBatch | None:
        watched = self._watched.get(batch_id)
        return watched.last if watched else None

    def next_look_at(self) -> float | None:
        """Return when the next survey should begin; None if nothing is watched."""
        if not self._watched:
            return None
        return max(self.not_before, min(watched.due_at for watched in self._watched.values()))

    def due(self, now: float) -> dict[str, datetime | None]:
        """Return what the next survey should ask after: what is due, and what will be soon."""
        soon = [w for w in self._watched.values() if w.due_at - now <= w.interval * LOOK_ALONG]
        return {w.batch_id: w.created_at for w in sorted(soon, key=lambda w: w.due_at)}

    def see(
        self, batches: Iterable[MessageBatch], *, now: float, wall: datetime, spread: float = 0.0
    ) -> list[MessageBatch]:
        """Take in what was seen; return the watched ones that are ended or canceling and were not when last seen."""
        changed = []
        for batch in batches:
            watched = self._watched.get(batch.id)
            if watched is None:
                continue
            if batch.processing_status != (watched.last.processing_status if watched.last else "in_progress"):
                changed.append(batch)
            watched.last, watched.created_at = batch, batch.created_at
            watched.doubted_since, watched.doubts = None, 0
            age = schedule.age(batch.created_at, wall).total_seconds()
            watched.interval = schedule.interval(age, poll_interval=watched.poll_interval)
            watched.due_at = now + schedule.early(watched.interval, spread=spread)
        return changed

    def note(self, findings: PollResult, *, now: float, calls_per_minute: int | None = None) -> WatchListChanges:
        """Take in what a survey found beside the batches, which are for ``see``."""
        report = WatchListChanges()
        for batch_id, error in findings.doubts.items():
            self._note_doubt(batch_id, error, report, now)
        self.may_list = findings.listed
        shortest = min((w.poll_interval for w in self._watched.values()), default=schedule.QUICKEST_SECONDS)
        rest = schedule.interval(0.0, poll_interval=shortest) * (1.0 - LOOK_ALONG)
        self.not_before = now + max(rest, schedule.pace(findings.calls, calls_per_minute=calls_per_minute))
        if findings.trouble is None:
            self._note_answer(report, now)
        elif schedule.classify_error(findings.trouble) is PollErrorKind.UNAUTHORIZED:
            self._note_refusal(findings.trouble, report, now)
        else:
            self._note_outage(findings.trouble, report, now, shortest)
        return report

    def _note_doubt(self, batch_id: str, error: PollError, report: WatchListChanges, now: float) -> None:
        watched = self._watched.get(batch_id)
        if watched is None:
            return
        watched.doubts += 1
        if watched.doubted_since is None:
            watched.doubted_since = now
        watched.interval = watched.poll_interval
        watched.due_at = now + watched.interval
        if schedule.doubt_is_over(watched.doubts, now - watched.doubted_since):
            report.gone[batch_id] = error
        report.reconnect_if_old = True

    def _note_answer(self, report: WatchListChanges, now: float) -> None:
        if self.outage is not None:
            report.outage_ended = now - self._failing_since
        self.outage, self._failures, self._refused = None, 0, False

    def _note_refusal(self, error: PollError, report: WatchListChanges, now: float) -> None:
        """The credential may have been rotated or have expired while we waited: one more look with a fresh one."""
        if self._refused:
            report.refused = error
        self._refused = report.reconnect = True
        self.not_before = now

    def _note_outage(self, error: PollError, report: WatchListChanges, now: float, poll_interval: float) -> None:
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        elif self.outage is None:
            self.outage = report.outage_began = error
        retry_after = error.retry_after if isinstance(error, APIStatusError) else None
        wait = schedule.backoff(self._failures, retry_after=retry_after, poll_interval=poll_interval)
        self.not_before = max(self.not_before, now + wait)
        report.reconnect_if_old = True
