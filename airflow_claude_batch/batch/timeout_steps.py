"""Steps of a submission when its timeout has passed, or is so near that requests are asked directly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.direct_asker import DirectAsker
from airflow_claude_batch.batch.failures import timeout_error
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL, count_where
from airflow_claude_batch.batch.ledger.ledger import DirectRecord, Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.result_collector import ResultCollector
from airflow_claude_batch.batch.send.round_sender import RoundSender
from airflow_claude_batch.batch.steps import DirectStep, DoneStep, WaitStep
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import BatchError, BatchTimeoutError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutSteps:
    """Ends a submission at its timeout, during one ``advance()``.

    :param asker: asks requests directly.
    :param is_rejected: a person has rejected the cost of what was not sent yet.
    :param lost_create: returns the wait for the batch of a create call without a response. None if there is none.
    :param find_answers: looks for answers in the answer store and in second batches of create calls. It returns whether
        there is such a batch to collect.
    :param finish: publishes the rows, and ends the attempt with this error.
    """

    client: ClaudeClient
    record: LedgerRecord
    landing: Landing
    policy: Policy
    waits: WaitPlanner
    collector: ResultCollector
    sender: RoundSender
    asker: DirectAsker
    is_rejected: Callable[[], bool]
    lost_create: Callable[[], WaitStep | None]
    find_answers: Callable[[], bool]
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    finish: Callable[[BatchError | None], DoneStep]

    def next_step(self) -> WaitStep | DirectStep | DoneStep | None:
        """Return what the timeout makes to be done now. None if it does not matter yet."""
        if self.waits.is_in_reserve and not self.is_rejected():
            return self._ask_directly()
        if not self.waits.is_timed_out or not self._has_work:
            return None
        if self.policy.on_timeout == "cancel" and self.waits.unended_batch_ids:
            self.cancel()
            if not self.waits.is_past_final_deadline:
                return self.waits.for_open_batches("all", "batches that were canceled after the timeout are ending")
        return self.finish(None if self._is_answered else self._timeout_error())

    def cancel(self) -> None:
        """Cancel what runs. A batch that is still not canceling at the end was not reached before: try once more."""
        was_asked = self._ledger.timed_out
        if not was_asked:
            log.warning("The timeout of %s has expired; the open message batches are canceled.", self.policy.timeout)
            self.record.save(msgspec.structs.replace(self._ledger, timed_out=True, canceled_at=self.clock()))
        elif not self.waits.is_past_final_deadline:
            return
        self._cancel_batches(was_asked=was_asked)

    def _cancel_batches(self, *, was_asked: bool) -> None:
        for batch_id in self.waits.unended_batch_ids if not was_asked else self.collector.running:
            cancel_batch(self.client, batch_id, sleep=self.sleep)

    # ------------------------------------------------------------------ on_timeout="ask_directly"

    def _ask_directly(self) -> WaitStep | DirectStep | DoneStep | None:
        """Cancel what runs, ask what has no answer for good, and wait for the rest. Until the timeout."""
        if not self._ledger.asks_directly:
            if not (self._has_work or self.asker.has_requests):
                return None
            self._begin()
            return DirectStep(0)  # calls have another deadline from now on
        if self.collector.running:
            self._cancel_batches(was_asked=True)  # not reached before, or found since
        if not self.waits.is_timed_out and self.asker.has_requests:
            if self.find_answers():
                return DirectStep(0)  # what they answered need not be asked
            if (step := self.asker.ask_some()) is not None:
                return step
        if self._is_answered or self.waits.is_past_final_deadline:
            return self._end()
        if self._ledger.open_parts:
            return self.waits.for_open_batches("any", "canceled batches are ending; what they leave is asked directly")
        if unread := self.collector.unread_landed:
            return self.waits.for_landed_rows(unread)
        return self.lost_create() or self._end()

    def _begin(self) -> None:
        """Note that the reserve has begun, before anything is canceled. A failure of this process changes nothing."""
        ledger, now = self._ledger, self.clock()
        known = ledger.direct or DirectRecord()
        attempts = tuple(dict.fromkeys((*known.attempts, ledger.attempt)))
        direct = msgspec.structs.replace(known, began_at=now, attempts=attempts)
        self.record.save(msgspec.structs.replace(ledger, direct=direct, canceled_at=now))
        self._log_begin(self.waits.timeout_at - now)
        self._cancel_batches(was_asked=False)

    def _log_begin(self, left: timedelta) -> None:
        running, most = len(self.waits.unended_batch_ids), self.policy.direct_concurrency
        if left <= timedelta():
            log.warning("The timeout has passed before a request could be asked directly: this task resumed too late.")
            return
        log.warning(
            "The timeout is %s away (direct_reserve). %sRequests without an answer are asked directly from now on, "
            "through the Messages API at full price, up to %d at the same time. The Messages API cannot tell a request "
            "that comes twice: if this process is killed meanwhile, %s asked again, and paid for twice. What is "
            "answered is written down at once, and is never asked again.",
            timedelta(seconds=round(left.total_seconds())),
            f"{quantity(running, 'message batch')} {'is' if running == 1 else 'are'} canceled. " if running else "",
            most,
            "the request in flight may be" if most == 1 else f"at most the {most} requests in flight are",
        )

    def _end(self) -> DoneStep:
        """End the attempt. It failed because of its timeout only if time was what lacked."""
        self.asker.explain_rest()
        direct = self._ledger.direct
        if direct:
            ended = msgspec.structs.replace(direct, began_at=None)
            self.record.save(msgspec.structs.replace(self._ledger, direct=ended))
        is_late = self.waits.is_timed_out and not self._is_answered and self.asker.left_because is None
        return self.finish(self._timeout_error() if is_late else None)

    # ------------------------------------------------------------------

    @property
    def _ledger(self) -> Ledger:
        return self.record.ledger

    @property
    def _has_work(self) -> bool:
        return self._ledger.timed_out or bool(self._ledger.open_parts) or self.sender.has_unsent_requests

    @property
    def _is_answered(self) -> bool:
        return count_where(self.landing.statuses, FINAL) == len(self.landing.statuses)

    def _timeout_error(self) -> BatchTimeoutError:
        """Build the error of the timeout, and note what an attempt has waited for in vain."""
        unread = (msgspec.structs.replace(batch, waited_out=True) for batch in self._ledger.unread)
        self.record.save(self._ledger.with_unread(unread))
        return timeout_error(self._ledger, self.policy)
