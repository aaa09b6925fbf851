"""Rounds of an attempt: check whether one may be sent, and begin a repair round.

The first round sends what has no answer. A repair round sends again what ended without an answer or, if the author
pays for that, with an answer that is not valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL, Status, count_where, indices_where
from airflow_claude_batch.batch.land.run_record import answered_before
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run
from airflow_claude_batch.batch.money.stratified_choice import choose_indices
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.send.approval import ApprovalGate, Verdict
from airflow_claude_batch.batch.send.budget import EstimateClient, check_budget, estimate_requests
from airflow_claude_batch.batch.send.create import (
    first_slice,
    is_in_current_round,
    repairable_statuses,
    unsent_requests,
)
from airflow_claude_batch.batch.send.reservation import Reservation
from airflow_claude_batch.batch.send.splitting import Slice
from airflow_claude_batch.batch.steps import AskStep
from airflow_claude_batch.exceptions import DailyCostLimitError, InputError

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Rounds of one attempt. The number of the current one is in the ledger.

    ``skipped_because`` says why a repair round was not sent, None if none was skipped. ``earlier_runs`` returns those
    of the same task, the oldest first.
    """

    record: LedgerRecord
    requests: RequestFile
    policy: Policy
    prices: PriceTable
    clock: Callable[[], datetime]
    estimate_client: EstimateClient | None
    reservation: Reservation
    earlier_runs: Callable[[], Sequence[Run]] = tuple
    models: ModelChecker = field(init=False)
    skipped_because: str | None = field(default=None, init=False)
    approval: ApprovalGate = field(init=False)
    #: What the last check estimated, for the question.
    _estimate: Estimate | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.models = ModelChecker(self.prices, self.estimate_client, argument=self.requests.argument)
        self.approval = ApprovalGate(record=self.record, requests=self.requests, policy=self.policy, clock=self.clock)

    def check(self, landing: Landing) -> Verdict:
        """Check models, cost and approval once a round, before its first create call.

        A repair round that may not be sent is skipped, because the answers of the first round are worth landing. A
        first round that may not be sent fails, but not before the batches of an earlier try have ended: their answers
        are paid for.

        :raises InputError: in the first round, the API would refuse a request, or the limit on cost may be exceeded.
            Nothing was sent.
        :raises DailyCostLimitError: in the first round, a limit of the day has no room now. Nothing was sent.
        """
        ledger = self.record.ledger
        try:
            return self._check(landing)
        except (InputError, DailyCostLimitError) as error:
            if ledger.round:
                log.warning("Repair round %d is skipped. %s", ledger.round, error)
                self.skipped_because = str(error)
            elif ledger.open_parts and self.policy.wait_for_completion:
                log.warning("The rest is refused. Batches of an earlier try are waited for first. %s", error.summary)
            else:
                raise
            return Verdict.REFUSED

    def ask(self, landing: Landing, rows: str) -> AskStep:
        """Return the question for a person, after a check that says so.

        :param rows: where the rows of earlier answers are.
        :raises ApprovalRejectedError: the estimate has grown since this attempt got its approval.
        """
        assert self._estimate is not None, "check() comes first"  # noqa: S101
        return self.approval.ask(self._estimate, landing, rows)

    def sample(self, landing: Landing) -> Slice | None:
        """Return the requests of the sample: as many of each stratum as are its share."""
        strata = (
            (index, PlannedRequest.of(self.requests.params(index), load=dict).stratum)
            for index in unsent_requests(self.record.ledger, self.requests, landing.statuses, self.policy)
        )
        chosen = choose_indices(strata, self.policy.sample)
        return first_slice(chosen, self.requests, self.policy, is_sample=True)

    def repairable_count(self, statuses: bytes | bytearray) -> int:
        """Count the requests that another repair round would send again. 0 if no round is left."""
        if self.skipped_because or self.record.ledger.round >= self.policy.repair_rounds:
            return 0
        return count_where(statuses, repairable_statuses(self.policy))

    def begin_repair_round(self, statuses: bytes | bytearray) -> bool:
        """Begin a repair round if one is left and there is something to send again. Return whether it began."""
        ledger, count = self.record.ledger, self.repairable_count(statuses)
        if not count:
            return False
        self.record.save(msgspec.structs.replace(ledger.archive_landed(), round=ledger.round + 1))
        log.info("Repair round %d sends %s again.", ledger.round + 1, quantity(count, "request"))
        return True

    def check_direct(self, landing: Landing) -> None:
        """Estimate what the unanswered requests cost if all are asked directly. Reserve it in the day's budget.

        :raises InputError: the API is certain to refuse one of them. Nothing was asked.
        :raises DailyCostLimitError: a limit of the day has no room now. Nothing was asked.
        """
        estimate = estimate_requests(
            self.requests,
            lambda: self._unanswered(landing.statuses),
            self.prices.full,
            self.estimate_client,
            models=self.models,
            now=self.clock(),
            earlier_runs=self.earlier_runs(),
        )
        log.info(
            "To ask directly, at full price, if no batch answers it:\n%s\n%s",
            estimate.models_in_words(),
            estimate.to_table(),
        )
        self.reservation.reserve(estimate, landing.bill)

    def _check(self, landing: Landing) -> Verdict:
        ledger = self.record.ledger
        if any(is_in_current_round(part, ledger) and not part.sample for part in ledger.parts):
            return Verdict.SEND
        # What was approved is compared with counted tokens: lengths give a much higher bound.
        is_counted = ledger.estimate is None or self.policy.approve_above is not None
        token_counter = self.estimate_client if is_counted else None
        estimate = estimate_requests(
            self.requests,
            lambda: self._unanswered(landing.statuses),
            self.prices,
            token_counter,
            models=self.models,
            now=self.clock(),
            earlier_runs=self.earlier_runs(),
            sampled_share=self.approval.output_share(landing),
        )
        check_budget(estimate, self.policy.max_cost, name=self.policy.max_cost_name, bill=landing.bill)
        verdict = self.approval.verdict(estimate, landing)
        self._reserve(estimate, landing, verdict)
        if ledger.estimate is None and verdict is not Verdict.COUNT_LATER:
            defaults = {"defaults": self.policy.request_defaults}
            before = answered_before(landing)
            noted = {**estimate.to_manifest(), **estimate.models_to_manifest(), **defaults, **before}
            self.record.save(msgspec.structs.replace(ledger, estimate=noted))
        self._estimate = estimate
        return verdict

    def _reserve(self, estimate: Estimate, landing: Landing, verdict: Verdict) -> None:
        """Reserve what will be sent in the budget of the day. Nothing is reserved while a person thinks."""
        if verdict in (Verdict.SEND, Verdict.SAMPLE):
            self.reservation.reserve(estimate, landing.bill)
            return
        if verdict is Verdict.ASK:
            self.reservation.check_limits(estimate)
        self.reservation.pause(landing.bill)

    def _unanswered(self, statuses: bytes | bytearray) -> Iterator[int]:
        """Iterate over the requests that are to be sent, now or later."""
        repairable = repairable_statuses(self.policy) if self.record.ledger.round else frozenset()
        unanswered = indices_where(statuses, frozenset(Status) - FINAL | repairable)
        return (index for index in unanswered if index not in self.requests.duplicates)
