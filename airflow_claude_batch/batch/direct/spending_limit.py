"""Decide how much direct requests may still cost, by the limits that hold for the submission in all."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from airflow_claude_batch.batch.direct.memory import DirectMemory
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.ledger.approval import ApprovalState
from airflow_claude_batch.batch.ledger.ledger import DirectRecord, Ledger
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost_limit import unknown_spending_error, unpriced_error
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendingLimit:
    """Compares what a submission has spent with its limits: ``max_cost``, and what a person has approved.

    :param prices: the full ones, not those of message batches.
    """

    policy: Policy
    ledger: Ledger
    requests: RequestFile
    prices: PriceTable
    memory: DirectMemory

    @property
    def lowest(self) -> tuple[Decimal, str] | None:
        """The lowest of the limits in USD that hold for the submission in all, and its name."""
        limits = []
        if self.policy.max_cost is not None:
            limits.append((self.policy.max_cost, self.policy.max_cost_name))
        approval = self.ledger.approval or None
        if self.policy.approve_above is not None:
            is_approved = approval is not None and approval.state is ApprovalState.APPROVED
            if approval is None or not is_approved:
                limits.append((self.policy.approve_above, "approve_above"))
            elif approval.usd is not None:
                limits.append((Decimal(approval.usd), "the approved cost"))
        return min(limits, default=None)

    def room(self, bill: Bill) -> Decimal | None:
        """Return how much direct requests may cost from now on in USD, None for any amount.

        Requests that were in flight when a process ended, or whose response was lost, count with the most that they
        may have cost.

        :param bill: of all answers so far.
        :raises CostLimitError: what was spent is not known.
        """
        if self.lowest is None:
            return None
        usd, name = self.lowest
        if bill.unpriced_models:
            raise unpriced_error(bill.unpriced_models, name)
        if unknown := bill.unknown_answers + bill.unreadable_answers:
            raise unknown_spending_error(unknown, name)
        spent = bill.cost.usd if bill.cost else Decimal(0)
        unseen = map(self._bound_of_unseen, (self.ledger.direct or DirectRecord()).unseen)
        lost = map(self._bound, (*self.memory.lost, *self.memory.asked_again))
        return usd - spent - sum((*unseen, *lost), Decimal(0))

    def _bound_of_unseen(self, custom_id: str) -> Decimal:
        """Return the most that a request in flight may have cost. Of another input's nothing is known."""
        ours = parse_custom_id(custom_id)
        if ours is None or not self.requests.has_hash(ours.index, ours.hash):
            return Decimal(0)
        return self._bound(ours.index)

    def _bound(self, index: int) -> Decimal:
        return DirectRequest.of(index, bytes(self.requests.params(index)), self.prices).bound or Decimal(0)
