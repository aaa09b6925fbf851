"""What a submission does after a failure that may pass: land what came before it, and wait, or give up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from airflow_claude_batch.batch.failures import timeout_error
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import OUTAGE_RETRY_DELAY, WaitStep, is_outage, is_refusal
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import APIError, ResultsError

log = logging.getLogger(__name__)

#: Names the refusals of the credential among the ledger's answers that are believed only if they last.
_CREDENTIAL: Final = "credential"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageHandler:
    """Decides whether a submission waits after a failure of the API, the network or the storage.

    Example::

        try:
            ...  # ask the API
        except (APIError, ResultsError) as error:
            return outages.wait_after(error)  # raises the error if it does not pass

    :param publish: writes the rows that came before the failure.
    :param cancel: cancels what runs, once the timeout has passed.
    """

    record: LedgerRecord
    policy: Policy
    waits: WaitPlanner
    clock: Callable[[], datetime]
    publish: Callable[[], None]
    cancel: Callable[[], None]

    def wait_after(self, error: APIError | ResultsError) -> WaitStep:
        """Wait after a failure that may pass. A landed part that is damaged is downloaded again.

        :raises Exception: the error itself, if it does not pass.
        """
        if isinstance(error, DamagedPartError):
            error.part.drop()
        if is_refusal(error):
            return self._wait_after_refusal(error)
        if is_outage(error):
            return self._wait_after_outage(error)
        raise error

    def forget_refusals(self) -> None:
        """Note that the API accepts the credential."""
        if self.record.ledger.repeated_answer(_CREDENTIAL) is not None:
            self.record.save(self.record.ledger.without_repeated(_CREDENTIAL))

    def _wait_after_outage(self, error: Exception) -> WaitStep:
        """Land what came before an outage, then wait and try again: it proves nothing.

        Without batches of ours, the task's own retries decide.

        :raises BatchTimeoutError: the final deadline has passed.
        """
        if not (self._has_sent or isinstance(error, ResultsError)):
            raise error
        try:
            self.publish()
        except ResultsError as storage_error:
            error = storage_error
        if self.waits.is_timed_out and self.policy.on_timeout == "cancel" and self.waits.unended_batch_ids:
            self.cancel()
        if self.waits.is_past_final_deadline:
            raise timeout_error(self.record.ledger, self.policy, outage=error) from error
        log.warning("An outage stops the submission for now; it continues in %s. %s", OUTAGE_RETRY_DELAY, error)
        return self.waits.for_outage()

    def _wait_after_refusal(self, error: Exception) -> WaitStep:
        """Wait for a credential that the API accepts, as long as a 404 would be waited out.

        :raises Exception: the error itself, if nothing was sent yet, or if the refusal has lasted.
        """
        if not self._has_sent:
            raise error
        now = self.clock()
        self.record.save(self.record.ledger.with_repeated(_CREDENTIAL, now))
        refusals = self.record.ledger.repeated_answer(_CREDENTIAL)
        if refusals is not None and refusals.has_lasted(now):
            raise error
        self._wait_after_outage(error)
        return self.waits.for_refusal()

    @property
    def _has_sent(self) -> bool:
        return bool(self.record.ledger.parts or self.record.ledger.unread)
