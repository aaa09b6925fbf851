"""Send what the current round still has to send, one create call after another."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL
from airflow_claude_batch.batch.ledger.ledger import AnswerUse
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.send.create import next_slice, send_slice
from airflow_claude_batch.batch.send.longer_answers import raise_token_limits
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.send.splitting import Slice
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import APIError, OverloadedError, RateLimitError, SubmissionError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSender:
    """Sends the requests of the current round until none is left or the API's queue is full.

    :param is_stopped: true once the task is being killed.
    :param resolve_open_creates: finds out what happened to create calls without a response.
    """

    client: ClaudeClient
    record: LedgerRecord
    requests: RequestFile
    landing: Landing
    policy: Policy
    prices: PriceTable
    rounds: Rounds
    waits: WaitPlanner
    observer: Observer
    clock: Callable[[], datetime]
    is_stopped: Callable[[], bool]
    resolve_open_creates: Callable[[], WaitStep | None]

    @property
    def has_unsent_requests(self) -> bool:
        """Return whether the current round has requests that are in no batch."""
        return self._next_slice(self.policy) is not None

    def send_round(self) -> WaitStep | None:
        """Send what is left of the round. Return None when nothing is left, or the round is skipped.

        :raises InputError: a model is retired, or the limit on cost is exceeded. Nothing was sent.
        :raises SubmissionError: the task is being killed.
        :raises APIError: the API refuses the requests.
        """
        if any(part.answers == AnswerUse.PREVIOUS_INPUT for part in self.record.ledger.open_parts):
            return self.waits.for_open_batches("all", "batches of the earlier input may answer requests of this one")
        one_first = self._sends_one_first()
        if one_first and self.record.ledger.open_parts:
            return self._wait_for_first_request()
        if self.policy.repair_invalid and self.record.ledger.round:
            raise_token_limits(self.landing, self.requests, self.prices)
        policy = dataclasses.replace(self.policy, max_requests=1) if one_first else self.policy
        while (request_slice := self._next_slice(policy)) is not None:
            if not self.rounds.may_send(self.landing):
                return None
            if (wait := self._send(request_slice)) is not None:
                return wait
            if one_first:
                return self._wait_for_first_request()
        return None

    def _send(self, request_slice: Slice) -> WaitStep | None:
        if self.is_stopped():
            raise SubmissionError(
                "The task was killed, so it sends no more requests.",
                "Batches that it sent before are in its ledger.",
                "Clear the task to continue from here.",
            )
        try:
            send_slice(request_slice, self.record, self.requests, self.client, clock=self.clock)
            self.observer.batch_created(self.rounds.models.count(request_slice.indices, self.requests.model))
        except (RateLimitError, OverloadedError) as error:
            log.info("The API accepts no more requests now; the rest is sent later. %s", error)
            return self.waits.for_queue_space(error.retry_after)
        except APIError as error:
            if not error.may_have_been_accepted:
                raise
            log.warning(
                "A create call of %s got no response. Its batch is searched for before anything is sent again. %s",
                quantity(len(request_slice.indices), "request"),
                error,
            )
            return self.resolve_open_creates()
        return None

    def _sends_one_first(self) -> bool:
        """Return whether one request goes alone, or is on its way: as a canary or to write the prompt cache.

        One goes first, once for each input. Whatever became of it, the others follow: a request that was not answered
        says nothing about them, and a refused canary has ended the task before.
        """
        has_final_rows = any(status in FINAL for status in self.landing.statuses)
        if not (self.policy.canary or self.policy.warm_cache) or has_final_rows:
            return False
        ledger = self.record.ledger
        return ledger.created_at is None or [part.count for part in ledger.open_parts] == [1]

    def _wait_for_first_request(self) -> WaitStep:
        return self.waits.for_open_batches("all", "the first request was sent alone; the others follow its answer")

    def _next_slice(self, policy: Policy) -> Slice | None:
        return next_slice(self.record.ledger, self.requests, self.landing.statuses, policy)
