"""Decide how long a submission waits, and for which message batches. No I/O but reading the clock."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from airflow_claude_batch.batch.land.unread import is_gone, next_read_at
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.recover.resolve import OpenCreate
from airflow_claude_batch.batch.steps import OUTAGE_RETRY_DELAY, SHORTEST_PAUSE, WaitStep


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitPlanner:
    """Deadlines of an attempt, and the wait steps that respect them.

    An attempt has two deadlines. At ``timeout_at`` the author's timeout expires: open batches are canceled or left, as
    ``on_timeout`` says. At ``final_deadline`` the grace period of canceled batches has passed too, and the task fails.
    With ``on_timeout="ask_directly"`` there is one before them, ``reserve_at``: then the batches are canceled.
    """

    record: LedgerRecord
    policy: Policy
    clock: Callable[[], datetime]

    @property
    def timeout_at(self) -> datetime:
        """The end of the author's timeout. The time in which a person is asked does not count."""
        approval = self._ledger.approval
        asked = approval.waited(self._ledger.attempt, self.clock()) if approval else timedelta()
        return self._ledger.attempt_began_at + self.policy.timeout + asked

    @property
    def reserve_at(self) -> datetime | None:
        """When to begin asking directly. None if the author does not want that."""
        return self.timeout_at - self.policy.direct_reserve if self.policy.asks_directly else None

    @property
    def is_in_reserve(self) -> bool:
        """Return whether requests without an answer are asked directly from now on. Once begun, it stays so."""
        reserve_at = self.reserve_at
        return self._ledger.asks_directly or (reserve_at is not None and self.clock() >= reserve_at)

    @property
    def final_deadline(self) -> datetime:
        if self._ledger.asks_directly:  # the batches were canceled long before the timeout
            return max(self.timeout_at, (self._ledger.canceled_at or self.timeout_at) + self.policy.cancel_grace)
        return (self._ledger.canceled_at or self.timeout_at) + self.policy.cancel_grace

    @property
    def next_deadline(self) -> datetime:
        if self.is_timed_out:
            return self.final_deadline
        return self.timeout_at if self.is_in_reserve else self.reserve_at or self.timeout_at

    @property
    def is_timed_out(self) -> bool:
        return self.clock() >= self.timeout_at

    @property
    def is_past_final_deadline(self) -> bool:
        return self.clock() >= self.final_deadline

    @property
    def unended_batch_ids(self) -> tuple[str, ...]:
        """Open batches that may be running: all but those that have ended and could not be read whole."""
        ended = {batch.batch_id for batch in self._ledger.unread if batch.trouble != Trouble.NO_BATCH}
        return tuple(batch_id for batch_id in self._ledger.open_batch_ids if batch_id not in ended)

    def for_open_batches(self, wait_for: Literal["all", "any"], reason: str) -> WaitStep:
        """Wait for all (or any) of the open batches, but until the next reading for those that could not be read."""
        ledger = self._ledger
        timed = {batch.batch_id for batch in ledger.unread if _is_timed(batch)}
        running = tuple(batch_id for batch_id in ledger.open_batch_ids if batch_id not in timed)
        return WaitStep(running, wait_for, self._next_reading(timed), reason)

    def for_completion(self) -> WaitStep:
        """Wait for all open batches to end, and for their results to be complete."""
        running = len(self.unended_batch_ids)
        incomplete = len(self._ledger.open_batch_ids) - running
        reasons = []
        if running:
            reasons.append(f"{quantity(running, 'message batch')} {'is' if running == 1 else 'are'} in progress")
        if incomplete:
            reasons.append(f"the results of {quantity(incomplete, 'message batch')} are incomplete")
        return self.for_open_batches("all", ", and ".join(reasons))

    def for_landed_rows(self, unread: Sequence[UnreadBatch]) -> WaitStep:
        """Wait until landed batches whose rows are missing from the folder can be read again."""
        ids = [batch.batch_id for batch in unread]
        reason = f"the rows of {', '.join(ids)} are missing and could not be read again yet"
        return WaitStep((), "any", self._next_reading(ids), reason)

    def _next_reading(self, batch_ids: Collection[str]) -> datetime:
        times = (next_read_at(batch) for batch in self._ledger.unread if batch.batch_id in batch_ids)
        return min(self.next_deadline, max(min(times, default=self.next_deadline), self.clock() + SHORTEST_PAUSE))

    def for_lost_create(self, create: OpenCreate) -> WaitStep:
        """Wait until a batch that may be ours has ended, or until the next search."""
        return WaitStep(create.batch_ids, "any", create.until, "searching for the batch of a create call without reply")

    def for_queue_space(self, retry_after: float | None) -> WaitStep:
        """Wait until the API's queue may accept more requests.

        One of our batches has to end first. Without any, other users fill the queue, and only time helps.

        :param retry_after: seconds that the API asked to wait, None if it did not say.
        """
        reason = "the API's queue is full"
        if (step := self.for_open_batches("any", reason)).batch_ids:
            return step
        pause = max(timedelta(seconds=retry_after or 0), OUTAGE_RETRY_DELAY)
        return WaitStep((), "any", self.clock() + pause, reason)

    def for_outage(self) -> WaitStep:
        """Wait a minute for the API, the network or the storage to come back."""
        return WaitStep((), "any", self.clock() + OUTAGE_RETRY_DELAY, "the API or the storage cannot be reached")

    def for_refusal(self) -> WaitStep:
        """Wait a minute for a credential that the API accepts."""
        until = self.clock() + OUTAGE_RETRY_DELAY
        return WaitStep((), "any", until, "the API rejects the connection's credential", read_connection=True)

    def within_deadline(self, step: WaitStep) -> WaitStep:
        """Bound a wait by the next deadline, and add what the caller must know about the open batches."""
        created = [part.created_at for part in self._ledger.open_parts if part.created_at]
        return dataclasses.replace(
            step,
            until=min(step.until, self.next_deadline),
            open_batch_ids=self._ledger.open_batch_ids,
            submitted_at=min(created, default=None),
            ended_batches=len(landed := self._ledger.landed_batch_ids),
            ended_requests=sum(self._ledger.request_count(batch_id) or 0 for batch_id in landed),
        )

    @property
    def _ledger(self) -> Ledger:
        return self.record.ledger


def _is_timed(unread: UnreadBatch) -> bool:
    """Return whether a timer decides when the batch is looked at again. Not after the first 404; see ``is_due``."""
    return (unread.trouble != Trouble.NO_BATCH or unread.polls > 1) and not is_gone(unread)
