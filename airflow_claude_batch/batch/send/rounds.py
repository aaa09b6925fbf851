"""Rounds of an attempt: check whether one may be sent, and begin a repair round.

The first round sends what has no answer. A repair round sends again what ended without an answer or, if the author
pays for that, with an answer that is not valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL, Status, count_where, indices_where
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.send.budget import EstimateClient, check_budget, estimate_requests
from airflow_claude_batch.batch.send.create import is_in_current_round, repairable_statuses
from airflow_claude_batch.exceptions import InputError

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Rounds of one attempt. The number of the current one is in the ledger.

    ``skipped_because`` says why a repair round was not sent, None if none was skipped.
    """

    record: LedgerRecord
    requests: RequestFile
    policy: Policy
    prices: PriceTable
    clock: Callable[[], datetime]
    estimate_client: EstimateClient | None
    models: ModelChecker = field(init=False)
    skipped_because: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.models = ModelChecker(self.prices, self.estimate_client)

    def may_send(self, landing: Landing) -> bool:
        """Check models and cost once a round, before its first create call.

        A repair round that may not be sent is skipped, because the answers of the first round are worth landing. A
        first round that may not be sent fails, but not before the batches of an earlier try have ended: their answers
        are paid for.

        :raises InputError: in the first round, the API would refuse a request, or the limit on cost may be exceeded.
            Nothing was sent.
        """
        ledger = self.record.ledger
        try:
            self._check(landing)
        except InputError as error:
            if ledger.round:
                log.warning("Repair round %d is skipped. %s", ledger.round, error)
                self.skipped_because = str(error)
            elif ledger.open_parts and self.policy.wait_for_completion:
                log.warning("The rest is refused. Batches of an earlier try are waited for first. %s", error.summary)
            else:
                raise
            return False
        return True

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

    def _check(self, landing: Landing) -> None:
        ledger = self.record.ledger
        if any(is_in_current_round(part, ledger) for part in ledger.parts):
            return
        token_counter = self.estimate_client if ledger.estimate is None else None
        estimate = estimate_requests(
            self.requests,
            lambda: self._unanswered(landing.statuses),
            self.prices,
            token_counter,
            models=self.models,
            now=self.clock(),
        )
        check_budget(estimate, self.policy.max_cost, name=self.policy.max_cost_name, bill=landing.bill)
        if ledger.estimate is None:
            defaults = {"defaults": self.policy.request_defaults}
            noted = {**estimate.to_manifest(), **estimate.models_to_manifest(), **defaults}
            self.record.save(msgspec.structs.replace(ledger, estimate=noted))

    def _unanswered(self, statuses: bytes | bytearray) -> Iterator[int]:
        """Iterate over the requests that are to be sent, now or later."""
        repairable = repairable_statuses(self.policy) if self.record.ledger.round else frozenset()
        unanswered = indices_where(statuses, frozenset(Status) - FINAL | repairable)
        return (index for index in unanswered if index not in self.requests.duplicates)
