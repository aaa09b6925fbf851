"""The rounds of an attempt: whether one may be sent, at what price, and whether another is worth it.

The first one sends what has no answer; a repair round what ended without one, or with one that is not valid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import FINAL
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.budget import EstimateClient, check_budget, estimate_requests
from airflow_claude_batch.batch.send.create import is_in_current_round, repairable_statuses
from airflow_claude_batch.exceptions import InputError

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Rounds:
    """Decides on the rounds of one attempt; which one is under way is in the ledger.

    ``left_out``: why a repair round was not sent that there should have been; None if there was none.
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
        """Once a round, before its first create: whether the models run, and what it may cost.

        A repair round that may not be sent is left out: what was answered is worth its ending.

        :raises InputError: nothing is sent: a model is retired, or it may cost too much.
        """
        try:
            self._check(landing)
        except InputError as error:
            if not self.record.ledger.round:
                raise
            log.warning("Repair round %d is left out. %s", self.record.ledger.round, error)
            self.skipped_because = str(error)
            return False
        return True

    def begin_repair_round(self, statuses: Sequence[int]) -> bool:
        """Begin a repair round if one is left and there is something to mend."""
        ledger, eligible = self.record.ledger, repairable_statuses(self.policy)
        again = sum(status in eligible for status in statuses)
        if self.skipped_because or ledger.round >= self.policy.repair_rounds or not again:
            return False
        self.record.save(msgspec.structs.replace(ledger.archive_landed(), round=ledger.round + 1))
        log.info("Repair round %d: %d requests are sent again", ledger.round + 1, again)
        return True

    def _check(self, landing: Landing) -> None:
        ledger = self.record.ledger
        if any(is_in_current_round(part, ledger) for part in ledger.parts):
            return
        counter = self.estimate_client if ledger.estimate is None else None
        open_ends = self._open_ends(landing.statuses)
        estimate = estimate_requests(self.requests, open_ends, self.prices, counter)

        def first_of(model: str) -> int:
            return next(index for index in self._open_ends(landing.statuses) if self.requests.model(index) == model)

        self.models.check(estimate.models, self.clock(), first_of)
        check_budget(estimate, self.policy.max_cost, name=self.policy.max_cost_name, bill=landing.bill)
        if ledger.estimate is None:
            self.record.save(msgspec.structs.replace(ledger, estimate=estimate.to_manifest()))

    def _open_ends(self, statuses: Sequence[int]) -> Iterator[int]:
        """The requests that are to be sent, now or later."""
        again = repairable_statuses(self.policy) if self.record.ledger.round else frozenset()
        for index, status in enumerate(statuses):
            if (status not in FINAL or status in again) and index not in self.requests.duplicates:
                yield index
