"""Send what the current round still has to send, one create call after another."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import ASKED, count_where
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.recover.resolve import LIST, unproven_create_error
from airflow_claude_batch.batch.send.approval import Verdict
from airflow_claude_batch.batch.send.create import next_slice, send_slice
from airflow_claude_batch.batch.send.longer_answers import raise_token_limits
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.send.splitting import Slice
from airflow_claude_batch.batch.steps import AskStep, WaitStep
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    OverloadedError,
    RateLimitError,
    RequestTooLargeError,
    ServerError,
    SubmissionError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: How often something on the way may refuse create calls, with a search after each, until a person must look.
_REFUSALS = 2
_CREATE = "create a message batch"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSender:
    """Sends the requests of the current round until none is left or the API's queue is full.

    :param rows: path or URI of the file with the rows of the answers.
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
    rows: str
    is_stopped: Callable[[], bool]
    resolve_open_creates: Callable[[], WaitStep | None]

    @property
    def has_unsent_requests(self) -> bool:
        """Return whether the current round has requests that are in no batch."""
        return self._next_slice(self.policy) is not None

    def send_round(self) -> WaitStep | AskStep | None:
        """Send what is left of the round. Return None when nothing is left, or the round is skipped.

        If a person must approve the requests, nothing is sent before but a sample.

        :raises ApprovalRejectedError: the estimate has grown since it was approved. Nothing was sent.
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
            verdict = self.rounds.check(self.landing)
            if verdict is Verdict.REFUSED:
                return None
            if verdict is Verdict.COUNT_LATER:
                log.warning("Tokens cannot be counted just now, so the cost cannot be compared with what was approved.")
                return self.waits.for_outage()
            if verdict is not Verdict.SEND:
                return self._sample_or_ask(verdict)
            if (wait := self._send(request_slice)) is not None:
                return wait
            if one_first:
                return self._wait_for_first_request()
        return None

    def _sample_or_ask(self, verdict: Verdict) -> WaitStep | AskStep | None:
        """Send the sample, or ask for the rest. What is answered by then is in the question."""
        if self.record.ledger.open_parts:
            return self.waits.for_open_batches("all", "their answers come before the question about the others")
        if verdict is Verdict.ASK:
            return self.rounds.ask(self.landing, self.rows)
        if (sample := self.rounds.sample(self.landing)) is None:
            return None
        return self._send(sample) or self.wait_for_sample()

    def wait_for_sample(self) -> WaitStep:
        return self.waits.for_open_batches("all", "a sample was sent; a person is asked about the others then")

    def _send(self, request_slice: Slice) -> WaitStep | None:
        if self.is_stopped():
            raise SubmissionError(
                "The task was killed, so it sends no more requests.",
                "Batches that it sent before are in its ledger.",
                "Clear the task to continue from here.",
            )
        grace = self.policy.lost_create_grace
        try:
            send_slice(request_slice, self.record, self.requests, self.client, clock=self.clock, grace=grace)
        except APIError as error:
            if error.may_have_been_accepted:
                return self._search_after(error, len(request_slice.indices))
            if isinstance(error, RateLimitError | OverloadedError):
                log.info("The API accepts no more requests now; the rest is sent later. %s", error)
                return self._look_after_refusal() or self.waits.for_queue_space(error.retry_after)
            return self._wait_for_listing(error)
        self._forget_unproven_refusals()
        self.observer.batch_created(self.rounds.models.count(request_slice.indices, self.requests.model))
        return None

    def _look_after_refusal(self) -> WaitStep | None:
        """Look at once for the batch of a refused create call. It is looked for again before the call is repeated."""
        intents = self.record.ledger.intents
        wait = self.resolve_open_creates()
        known = {part.token for part in self.record.ledger.parts}
        for part in intents:
            if part.token not in known:
                self.record.save(self.record.ledger.with_part(part))
        return wait

    def _search_after(self, error: APIError, request_count: int) -> WaitStep | None:
        """Search for the batch of a create call whose response proves nothing.

        :raises SubmissionUnknownError: no batch is listed, and another create call would get the same response.
        """
        log.warning(
            "A create call of %s got no response that proves anything. Its batch is searched for before anything is "
            "sent again. %s",
            quantity(request_count, "request"),
            error,
        )
        wait = self.resolve_open_creates()
        if wait is not None and not wait.batch_ids and self._is_repeated_refusal(error):
            raise unproven_create_error(request_count, error) from error
        return wait

    def _is_repeated_refusal(self, error: APIError) -> bool:
        """Return whether something on the way refuses create calls, so that only a person can help.

        A wait does not make a body smaller. Any other refusal may have been of the moment when it comes first.
        """
        if isinstance(error, RequestTooLargeError):
            return True
        if isinstance(error, APIConnectionError | ServerError | RateLimitError | OverloadedError):
            return False
        self.record.save(self.record.ledger.with_repeated(_CREATE, self.clock()))
        answer = self.record.ledger.repeated_answer(_CREATE)
        return answer is not None and answer.count >= _REFUSALS

    def _forget_unproven_refusals(self) -> None:
        if self.record.ledger.repeated_answer(_CREATE) is not None:
            self.record.save(self.record.ledger.without_repeated(_CREATE))

    def _wait_for_listing(self, error: APIError) -> WaitStep:
        """Wait after an error of the listing before a create call, unless it is sure to last. Nothing was sent.

        :raises APIError: it is, or no batch of this submission exists, so that a retry of the task is as good.
        """
        match proof_of(error):
            case Proof.DOES_NOT_EXIST if not self.record.ledger.intents:
                now = self.clock()
                self.record.save(self.record.ledger.with_repeated(LIST, now))
                answer = self.record.ledger.repeated_answer(LIST)
                if answer is not None and answer.has_lasted(now):
                    raise error
            case Proof.NOTHING if self.record.ledger.parts:
                pass
            case _:
                raise error
        log.warning("The message batches could not be listed just now, so nothing is sent yet. %s", error)
        return self.waits.for_outage()

    def _sends_one_first(self) -> bool:
        """Return whether one request goes alone, or is on its way: as a canary or to write the prompt cache.

        One goes first, once for each input. Whatever became of it, the others follow: a request that was not answered
        says nothing about them, and a refused canary has ended the task before.
        """
        if not (self.policy.canary or self.policy.warm_cache):
            return False
        if count_where(self.landing.statuses, ASKED):
            return False
        ledger = self.record.ledger
        return ledger.created_at is None or [(part.count, part.is_open) for part in ledger.parts] == [(1, True)]

    def _wait_for_first_request(self) -> WaitStep:
        return self.waits.for_open_batches("all", "the first request was sent alone; the others follow its answer")

    def _next_slice(self, policy: Policy) -> Slice | None:
        return next_slice(self.record.ledger, self.requests, self.landing.statuses, policy)
