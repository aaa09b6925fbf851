"""All message batches of the simulated organization: creating, reading, canceling, ending and deleting them.

A batch that is due ends at the next call that reads it, with its due time as ``ended_at``.
"""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from airflow_claude_batch.simulator.batches.batch import LIFETIME, Batch, BatchSettings, NewBatch, OutcomeScript, Page
from airflow_claude_batch.simulator.batches.create_body import BatchRequest
from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswers
from airflow_claude_batch.simulator.messages.outcomes import (
    CANCELED,
    EXPIRED,
    INTERNAL_ERROR,
    SUCCEEDED,
    Outcome,
)
from airflow_claude_batch.simulator.messages.prompts import PromptCache


class MessageBatches:
    """All batches of one simulated organization.

    :param batch_seconds: seconds from creation to end, or a callable that takes the `Batch` and returns them.
    :param outcome: the user's outcome function. None: every valid request succeeds.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        settings: BatchSettings,
        batch_seconds: float | Callable[[Batch], float],
        outcome: OutcomeScript | None,
        canned: CannedAnswers,
        ids: Ids,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._settings = settings
        self._batch_seconds = batch_seconds
        self._outcome = outcome
        self._canned = canned
        self._all: list[Batch] = []
        self._by_id: dict[str, Batch] = {}
        self._open: list[Batch] = []
        self.cache = PromptCache()
        self._attempts: Counter[bytes] = Counter()
        self._lock = threading.RLock()

    @property
    def counts_attempts(self) -> bool:
        """Tell whether a `NewBatch` needs digests of its params."""
        return self._outcome is not None or self._canned.count_attempts

    def all_batches(self) -> list[Batch]:
        """Return all batches ever created, oldest first, including deleted ones."""
        with self._lock:
            self._end_due_batches()
            return list(self._all)

    def create(self, new: NewBatch) -> Batch:
        """Accept a create call. Returns a copy of the batch, still in progress.

        :raises APIError: 429, when the batch would exceed the limit of the processing queue.
        """
        with self._lock:
            self._end_due_batches()
            self._check_queue(len(new.requests))
            now = self._clock.now()
            batch = Batch(
                id=self._ids.new("msgbatch_01"),
                number=len(self._all),
                workspace=new.workspace,
                created_at=now,
                requests=new.requests,
                conditions=new.conditions,
                problems=new.problems,
                cached=new.cached,
                attempts=self._count_attempts(new.digests),
                ends_at=now,
                unlisted_until=now + timedelta(seconds=new.unlisted_seconds),
                unlisted_calls=new.unlisted_calls,
            )
            self._schedule(batch)
            self._all.append(batch)
            self._by_id[batch.id] = batch
            self._open.append(batch)
            return replace(batch)

    def get(self, batch_id: str, *, workspace: str | None) -> Batch:
        """Return the batch with that id.

        :param workspace: None finds the batches of every workspace.
        :raises APIError: 404, also for a batch of another workspace.
        """
        with self._lock:
            self._end_due_batches()
            batch = self._by_id.get(batch_id)
            if batch is None or batch.deleted or workspace not in (None, batch.workspace):
                raise APIError(404, f"Message Batch {batch_id} not found.")
            return batch

    def page(self, workspace: str, *, limit: int, after_id: str | None, before_id: str | None) -> Page:
        """Return a page of the workspace's batches, newest first.

        :param after_id: the page follows that batch, with older ones.
        :param before_id: the page precedes that batch, with the nearest newer ones.
        """
        with self._lock:
            self._end_due_batches()
            newest_first = [b for b in reversed(self._all) if b.workspace == workspace and not b.deleted]
            cursor = self._position(newest_first, after_id or before_id)
            listed = self._visible(newest_first)
        if cursor is None:
            return Page([], has_more=False)
        if before_id is not None:
            newer = [batch for batch in listed if batch.number > cursor]
            return Page(newer[-limit:], has_more=len(newer) > limit)
        older = [batch for batch in listed if batch.number < cursor]
        return Page(older[:limit], has_more=len(older) > limit)

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel. A second call changes nothing.

        :raises APIError: 400, when the batch has ended, unless the settings say otherwise.
        """
        with self._lock:
            self._end_due_batches()
            if batch.ended_at is not None:
                if self._settings.cancel_ended == "error":
                    raise APIError(400, f"Batch {batch.id} has already ended and cannot be canceled.")
                return
            if batch.cancel_initiated_at is None:
                now = self._clock.now()
                batch.cancel_initiated_at = now
                canceled_at = now + timedelta(seconds=self._settings.cancel_seconds)
                if canceled_at <= batch.ends_at:
                    self._plan(batch, canceled_at, self._settings.cancel_succeeded_share, CANCELED)

    def delete(self, batch: Batch) -> None:
        """Delete an ended batch.

        :raises APIError: 400, when the batch has not ended.
        """
        with self._lock:
            if batch.ended_at is None:
                message = "In progress batches cannot be deleted. Consider canceling the batch instead."
                raise APIError(400, message)
            batch.deleted = True

    def set_duration(self, batch_seconds: float | Callable[[Batch], float]) -> None:
        """Change how long batches take, including batches in progress. None of them ends in the past."""
        with self._lock:
            self._end_due_batches()
            self._batch_seconds = batch_seconds
            for batch in self._open:
                if batch.cancel_initiated_at is None:
                    self._schedule(batch)

    def end(self, batch_id: str, *, succeeded_share: float, unfinished: Outcome = INTERNAL_ERROR) -> Batch:
        """End a batch now. The share of requests that does not succeed gets ``unfinished``."""
        with self._lock:
            batch = self.get(batch_id, workspace=None)
            if batch.ended_at is None:
                self._plan(batch, self._clock.now(), succeeded_share, unfinished)
                self._end_due_batches()
            return batch

    def _end_due_batches(self) -> None:
        """End the batches that are due, in the order of their due times."""
        now = self._clock.now()
        due = sorted((batch for batch in self._open if batch.ends_at <= now), key=lambda batch: batch.ends_at)
        for batch in due:
            self._finish(batch)
        if due:
            self._open = [batch for batch in self._open if batch.ended_at is None]

    def _finish(self, batch: Batch) -> None:
        outcomes = dict(batch.problems)
        outcomes.update(self._scripted(batch))
        batch.outcomes = {**outcomes, **dict.fromkeys(self._unfinished_positions(batch), batch.unfinished)}
        batch.counts = Counter(outcome.kind for outcome in batch.outcomes.values())
        batch.counts["succeeded"] += batch.request_count - len(batch.outcomes)
        if batch.cached:
            self._use_cache(batch)
        batch.ended_at = batch.ends_at

    def _scripted(self, batch: Batch) -> Iterable[tuple[int, Outcome]]:
        """Yield the outcomes that canned answers or the outcome function decide, and keep the canned answers."""
        if self._outcome is None and not self._canned.active:
            return
        for position, request in enumerate(batch.requests.items()):
            if position in batch.problems:
                continue
            params = request.read_params()
            attempt = batch.attempts[position] if batch.attempts else 1
            found = self._canned.find(request.custom_id, params, attempt)
            if found is not None:
                batch.canned[position] = found
                outcome = found.outcome
            else:
                text = None if self._outcome is None else self._outcome(request.custom_id, params, attempt)
                outcome = SUCCEEDED if text is None else Outcome.parse(text)
            if outcome != SUCCEEDED:
                yield position, outcome

    def _unfinished_positions(self, batch: Batch) -> list[int]:
        """Choose the positions of the requests that are unfinished when the batch ends."""
        count = batch.request_count
        unfinished = count - math.floor(count * batch.finished_share + 1e-9)
        rng = random.Random(f"{self._settings.seed}:{batch.number}")
        return rng.sample(range(count), unfinished)

    def _use_cache(self, batch: Batch) -> None:
        requests: list[BatchRequest] = batch.requests.items()
        for position in batch.cached:
            if batch.outcome(position).kind != "succeeded":
                continue
            params = requests[position].read_params()
            model = batch.conditions.usable_model(params["model"])
            if model is not None:
                batch.cache_uses[position] = self.cache.use(
                    params, model=model, workspace=batch.workspace, now=batch.ends_at
                )

    def _schedule(self, batch: Batch) -> None:
        seconds = self._batch_seconds(batch) if callable(self._batch_seconds) else self._batch_seconds
        lifetime = LIFETIME.total_seconds()
        ends_at = batch.created_at + timedelta(seconds=min(seconds, lifetime))
        share = 1.0 if seconds <= lifetime else lifetime / seconds
        self._plan(batch, max(ends_at, self._clock.now()), share, EXPIRED)

    @staticmethod
    def _plan(batch: Batch, ends_at: datetime, finished_share: float, unfinished: Outcome) -> None:
        batch.ends_at = ends_at
        batch.finished_share = finished_share
        batch.unfinished = unfinished

    def _check_queue(self, added: int) -> None:
        limit = self._settings.queue_limit
        queued = sum(batch.request_count for batch in self._open)
        if limit is not None and queued + added > limit:
            message = (
                f"This batch of {added} requests would exceed your organization's limit of {limit} requests "
                f"in the Message Batches processing queue ({queued} are in it)."
            )
            raise APIError(429, message)

    def _count_attempts(self, digests: list[bytes] | None) -> list[int]:
        if digests is None:
            return []
        self._attempts.update(set(digests))
        return [self._attempts[digest] for digest in digests]

    def count_attempt(self, digest: bytes) -> int:
        """Count an attempt at params outside of batches. Returns how many there were, batches included."""
        with self._lock:
            self._attempts[digest] += 1
            return self._attempts[digest]

    def _position(self, newest_first: list[Batch], cursor: str | None) -> float | None:
        """Find a cursor's position in the order of creation. None: the cursor is unknown, and the page is empty.

        :raises APIError: 400, when the cursor is unknown, unless the settings say otherwise.
        """
        if cursor is None:
            return math.inf
        batch = next((batch for batch in newest_first if batch.id == cursor), None)
        if batch is not None:
            return batch.number
        if self._settings.unknown_cursor == "empty":
            return None
        raise APIError(400, f"Invalid cursor: Message Batch {cursor} not found.")

    def _visible(self, batches: list[Batch]) -> list[Batch]:
        listed = []
        for batch in batches:
            if batch.unlisted_calls > 0:
                batch.unlisted_calls -= 1
            elif self._clock.now() >= batch.unlisted_until:
                listed.append(batch)
        return listed
