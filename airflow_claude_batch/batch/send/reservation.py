"""What a submission reserves in the budget of the day, from its first create call to its bill."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.send.day_budget import DayBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """Reserves what a submission will send, and settles that by its bill. Without a budget it does nothing.

    :param budget: of the day. None for no limit.
    """

    record: LedgerRecord
    budget: DayBudget | None

    def reserve(self, estimate: Estimate, bill: Bill) -> None:
        """Reserve the upper bound of what is to be sent or asked.

        :param estimate: of everything that is unanswered.
        :param bill: what the submission has cost so far.
        :raises CostLimitError: the requests never fit, or a model has no price.
        :raises DailyCostLimitError: a limit of the day has no room now.
        """
        if self.budget is not None:
            has_open = bool(self.record.ledger.open_parts)
            self.budget.reserve(estimate, bill, covers=self._covers, has_open_batches=has_open)

    def check_limits(self, estimate: Estimate) -> None:
        """Check whether the requests fit into an empty day.

        :raises CostLimitError: they never fit, or a model has no price.
        """
        if self.budget is not None:
            self.budget.check_limits(estimate)

    def pause(self, bill: Bill) -> None:
        """Reserve nothing while a person thinks, unless batches are open."""
        if self.budget is not None and not self.record.ledger.open_parts:
            self.budget.settle(bill, covers=self._covers)

    def settle(self, bill: Bill) -> None:
        """Tell the budget what was billed, unless answers that may be billed were not read."""
        ledger = self.record.ledger
        is_read = not (ledger.unread or any(part.missing for part in ledger.parts))
        if self.budget is not None and is_read:
            self.budget.settle(bill, covers=self._covers)

    def settle_before_error(self, bill: Bill) -> None:
        """Settle before an error ends the attempt, unless something that was sent may still be billed."""
        if not (self.record.ledger.open_parts or self.record.ledger.intents):
            self.settle(bill)

    def hand_over(self) -> str | None:
        """Name the reservation for the task that lands the rows. None if there is none, or it would not be settled."""
        return None if self.budget is None else self.budget.hand_over(covers=self._covers)

    @property
    def _covers(self) -> str:
        """Identifies the requests and the batches that the submission's bill is about. The budget compares this."""
        ledger = self.record.ledger
        return f"{ledger.input_digest} {len(ledger.dropped)}"
