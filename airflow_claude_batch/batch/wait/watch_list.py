"""Track the state of every watched message batch, and when to poll it next.

State without I/O: poll results and the time go in, changes come out. Times named ``now`` and ``…_at`` are seconds of a
monotonic clock. Only the ages of batches are taken from the wall clock.
"""

from __future__ import annotations

from collections.abc import Iterable, KeysView
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.batch.wait.poll_round import PollResult, PollRound, poll_round
from airflow_claude_batch.batch.wait.schedule import PollError, PollErrorKind
from airflow_claude_batch.batch.wait.wait_result import BatchState
from airflow_claude_batch.exceptions import APIStatusError

#: A batch that is due within this share of its interval is polled together with the one that is due now.
COALESCE_SHARE_OF_INTERVAL: Final = 0.5
#: After this many polls that did not find a batch, the log says so.
NOT_FOUND_LOGGED_POLLS: Final = 2


@dataclass(slots=True, eq=False)
class WatchedBatch:
    """The state of one watched message batch.

    :param created_at: as the API reports it. Before the first poll an estimate of ours, or None.
    :param last_seen: the batch as the last successful poll showed it.
    :param retrieved_at: when it was last retrieved by itself, or added.
    :param is_unconfirmed: an earlier wait reported its end too early, so a listing is not enough to believe it.
    :param not_found_since: when the first of the polls failed that have not found the batch since.
    """

    batch_id: str
    poll_interval: float
    created_at: datetime | None
    due_at: float
    interval: float = 0.0
    retrieved_at: float = 0.0
    last_seen: MessageBatch | None = None
    is_unconfirmed: bool = False
    not_found_since: float | None = None
    not_found_polls: int = 0


@dataclass(slots=True)
class WatchListChanges:
    """The changes that a poll round made, besides those of the batches that it saw.

    :param confirmed_denials: batches that the API has denied for so long that it is believed, with its last response.
    :param denials: batches that a second poll in a row has not found: the last response, and the seconds until the API
        is believed. A single such answer is not worth a log line.
    :param outage_began: the error, when a second round in a row failed. A single failure is not worth a log line.
    :param outage_ended: how long the outage lasted, in seconds, in the first round after it.
    :param unauthorized: the error, when the API has rejected the credential for so long that it is believed.
    :param reconnect: read the connection again before the next poll.
    :param reconnect_if_stale: read it again unless that was done recently: somebody may have fixed it meanwhile.
    """

    confirmed_denials: dict[str, PollError] = field(default_factory=dict)
    denials: dict[str, tuple[PollError, float]] = field(default_factory=dict)
    outage_began: PollError | None = None
    outage_ended: float | None = None
    unauthorized: PollError | None = None
    reconnect: bool = False
    reconnect_if_stale: bool = False


class WatchList:
    """The watched batches of one connection.

    Add batches, poll those that are :meth:`due`, and pass the result to :meth:`update_batches` and
    :meth:`finish_round`. Then wait until :meth:`next_poll_at`.
    """

    def __init__(self) -> None:
        self._watched: dict[str, WatchedBatch] = {}
        self.not_before = 0.0
        self._failures = 0
        self._failing_since = 0.0
        self._refusals = 0
        self._refused_since = 0.0
        self._list_failures = 0
        self._list_again_at = 0.0
        self._may_blame_listing = False
        self.outage: PollError | None = None

    @property
    def batch_ids(self) -> KeysView[str]:
        return self._watched.keys()

    @property
    def is_failing(self) -> bool:
        """True if the last round failed: a single call shows whether the API is available again."""
        return self._failures > 0 or self._refusals > 0

    @property
    def unconfirmed_ids(self) -> set[str]:
        """The batches whose end is believed only from a call for them alone."""
        return {watched.batch_id for watched in self._watched.values() if watched.is_unconfirmed}

    def may_list(self, now: float) -> bool:
        """Return False while the listing pauses, because it failed where single calls did not."""
        return not self._may_blame_listing and now >= self._list_again_at

    def list_again(self) -> None:
        """End the pause of the listing: the connection was read again."""
        self._list_failures, self._list_again_at = 0, 0.0

    def add(
        self,
        batch_id: str,
        *,
        poll_interval: float,
        created_at: datetime | None,
        now: float,
        is_unconfirmed: bool = False,
    ) -> None:
        """Watch a batch. If it is watched already, the shorter poll interval wins.

        :param is_unconfirmed: an earlier wait reported its end, but the API did not confirm it. So it is not polled at
            once, and no longer believed to have ended because a listing says so.
        """
        pause = schedule.interval(0.0, poll_interval=poll_interval) if is_unconfirmed else 0.0
        watched = self._watched.get(batch_id)
        if watched is None:
            watched = WatchedBatch(batch_id, poll_interval, created_at, due_at=now + pause, retrieved_at=now)
            self._watched[batch_id] = watched
        else:
            watched.poll_interval = min(watched.poll_interval, poll_interval)
            watched.due_at = min(watched.due_at, now + poll_interval)
        watched.is_unconfirmed |= is_unconfirmed

    def remove(self, batch_id: str) -> None:
        self._watched.pop(batch_id, None)
        if not self._watched:
            self._refusals = 0

    def states(self, batch_ids: Iterable[str]) -> dict[str, BatchState | None]:
        """Return batches as they were last seen, None for those that no poll has seen."""
        return {id_: self._state(id_) for id_ in batch_ids}

    def _state(self, batch_id: str) -> BatchState | None:
        watched = self._watched.get(batch_id)
        return BatchState.of(watched.last_seen) if watched and watched.last_seen else None

    def oldest(self, batch_ids: Iterable[str]) -> datetime | None:
        """Return when the oldest of these batches was created, as far as that is known."""
        watched = filter(None, map(self._watched.get, batch_ids))
        return min((each.created_at for each in watched if each.created_at), default=None)

    def next_poll_at(self) -> float | None:
        """Return when the next round should begin, or None if nothing is watched."""
        if not self._watched:
            return None
        return max(self.not_before, min(watched.due_at for watched in self._watched.values()))

    def due(self, now: float) -> dict[str, datetime | None]:
        """Return the batches to poll now, with their creation times: those due, and those due soon.

        Sorted by due time, because a round may be too short for all of them.
        """
        due = [w for w in self._watched.values() if w.due_at - now <= w.interval * COALESCE_SHARE_OF_INTERVAL]
        return {w.batch_id: w.created_at for w in sorted(due, key=lambda w: w.due_at)}

    def begin_round(self, now: float) -> PollRound:
        """Begin a poll round of the batches that are due."""
        due = self.due(now)
        return poll_round(
            due,
            watched=self.batch_ids,
            may_list=self.may_list(now),
            is_probe=self.is_failing,
            unconfirmed=self.unconfirmed_ids,
            check=self._unchecked(due, now),
        )

    def _unchecked(self, due: Iterable[str], now: float) -> str | None:
        """Return the batch that only the listing has shown for longest, if that is long enough to check the listing."""
        oldest = min((self._watched[batch_id] for batch_id in due), key=lambda w: w.retrieved_at, default=None)
        is_old = oldest is not None and now - oldest.retrieved_at >= schedule.LISTING_CHECK_SECONDS
        return oldest.batch_id if oldest is not None and is_old else None

    def update_batches(
        self, batches: Iterable[MessageBatch], *, now: float, wall: datetime, jitter: float = 0.0
    ) -> list[MessageBatch]:
        """Record batches as a poll showed them, and schedule their next polls.

        :param wall: the wall clock's time, from which ages are computed.
        :param jitter: from 0 to 1, see :func:`schedule.with_jitter`.
        :returns: the watched batches whose status is new: ended or canceling.
        """
        changed = []
        for batch in batches:
            watched = self._watched.get(batch.id)
            if watched is None:
                continue
            if batch.processing_status != (watched.last_seen.processing_status if watched.last_seen else "in_progress"):
                changed.append(batch)
            watched.last_seen, watched.created_at = batch, batch.created_at
            watched.not_found_since, watched.not_found_polls = None, 0
            age = schedule.batch_age(batch.created_at, wall).total_seconds()
            watched.interval = schedule.interval(age, poll_interval=watched.poll_interval)
            watched.due_at = now + schedule.with_jitter(watched.interval, jitter=jitter)
        return changed

    def finish_round(self, result: PollResult, *, now: float, calls_per_minute: int | None = None) -> WatchListChanges:
        """Record the errors of a round, and set the earliest time of the next.

        The batches of the result are for :meth:`update_batches`.
        """
        changes = WatchListChanges()
        for batch_id, error in result.denied.items():
            self._record_denial(batch_id, error, changes, now)
        self._record_listing(result, now)
        for batch_id in result.retrieved & self._watched.keys():
            self._watched[batch_id].retrieved_at = now
        shortest = min((w.poll_interval for w in self._watched.values()), default=schedule.BASE_INTERVAL_SECONDS)
        pause = schedule.interval(0.0, poll_interval=shortest) * (1.0 - COALESCE_SHARE_OF_INTERVAL)
        by_rate_limit = schedule.rate_limit_interval(result.calls, calls_per_minute=calls_per_minute)
        self.not_before = now + max(pause, by_rate_limit)
        if result.error is None:
            self._record_success(changes, now)
        elif schedule.classify_error(result.error) is PollErrorKind.UNAUTHORIZED:
            self._record_unauthorized(result.error, changes, now)
        else:
            self._record_outage(result.error, changes, now, shortest)
        return changes

    def _record_denial(self, batch_id: str, error: PollError, changes: WatchListChanges, now: float) -> None:
        watched = self._watched.get(batch_id)
        if watched is None:
            return
        watched.not_found_polls += 1
        if watched.not_found_since is None:
            watched.not_found_since = now
        watched.interval = watched.poll_interval
        watched.due_at = now + watched.interval
        seconds = now - watched.not_found_since
        if schedule.is_not_found_confirmed(watched.not_found_polls, seconds):
            changes.confirmed_denials[batch_id] = error
        elif watched.not_found_polls == NOT_FOUND_LOGGED_POLLS:
            polls, interval = watched.not_found_polls, watched.interval
            changes.denials[batch_id] = error, schedule.seconds_until_confirmed(polls, seconds, interval=interval)
        changes.reconnect_if_stale = True

    def _record_success(self, changes: WatchListChanges, now: float) -> None:
        if self.outage is not None:
            changes.outage_ended = now - self._failing_since
        self.outage, self._failures, self._refusals = None, 0, 0

    def _record_unauthorized(self, error: PollError, changes: WatchListChanges, now: float) -> None:
        """Poll again with a fresh credential, at growing intervals: the old one may have been rotated or expired."""
        self._refusals += 1
        if self._refusals == 1:
            self._refused_since = now
        self._record_failure(error, changes, now)
        if schedule.is_refusal_confirmed(self._refusals, now - self._refused_since):
            changes.unauthorized = error
        self.not_before = now + schedule.refusal_pause(self._refusals)
        changes.reconnect = True

    def _record_failure(self, error: PollError, changes: WatchListChanges, now: float) -> None:
        self._failures += 1
        if self._failures == 1:
            self._failing_since = now
        elif self.outage is None:
            self.outage = changes.outage_began = error

    def _record_listing(self, result: PollResult, now: float) -> None:
        """Pause the listing if it failed where single calls did not, at first for one round only.

        An outage fails the listing too. So after one, the next round tells by a single call which of both it is.
        """
        was_suspect, self._may_blame_listing = self._may_blame_listing, False
        if result.list_error is not None and result.error is not None:
            self._may_blame_listing = True
        elif result.list_error is not None or (was_suspect and result.error is None):
            self._list_failures += 1
            self._list_again_at = now + schedule.listing_pause(self._list_failures)
        elif result.listed:
            self._list_failures = 0

    def _record_outage(self, error: PollError, changes: WatchListChanges, now: float, poll_interval: float) -> None:
        self._record_failure(error, changes, now)
        retry_after = error.retry_after if isinstance(error, APIStatusError) else None
        delay = schedule.backoff(self._failures, retry_after=retry_after, poll_interval=poll_interval)
        self.not_before = max(self.not_before, now + delay)
        changes.reconnect_if_stale = True
