"""Decide whether a person must approve the requests before they are sent (``approve_above``), and keep the answer.

Invariant: an approval holds for the requests it was asked for, up to the amount it was asked for. Other requests, or a
higher estimate, are asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Final

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import PAID, Status, count_where, indices_where
from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.money.question import AnsweredBefore, Question
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.steps import AskStep
from airflow_claude_batch.exceptions import ApprovalRejectedError, CostLimitError

log = logging.getLogger(__name__)

#: Two counts of the same tokens "might differ by a small amount" (token-counting). Nobody is asked again for that.
TOLERANCE: Final = Decimal("0.02")
#: More answers than these are not read for the share of max_tokens that they use.
_MOST_MEASURED: Final = 10_000


class Verdict(Enum):
    """What may be done with the requests of a round."""

    SEND = "they may be sent"
    SAMPLE = "a sample of them is sent first"
    ASK = "a person must approve them first"
    REFUSED = "a person rejected them, or nobody answered in time"
    TOO_MUCH = "they may cost more than was approved"
    COUNT_LATER = "whether they may cost more than was approved is not known until their tokens can be counted"


def decide(ledger: Ledger, policy: Policy, most: Decimal | None, unsent: int) -> Verdict:
    """Decide what may be done with the requests of a round. Pure function.

    :param most: upper bound of the submission in USD: what is spent, and what these requests may cost. None if that is
        not known.
    :param unsent: number of these requests. In a repair round, number of all requests.
    """
    approval = ledger.approval or None
    if policy.approve_above is None:
        return Verdict.SEND
    if approval is not None and approval.is_refused:
        return Verdict.REFUSED
    if most is not None and most <= policy.approve_above:
        return Verdict.SEND
    if approval is None and policy.sample:
        if unsent <= policy.sample:
            return Verdict.SEND  # the sample is all of them
        if not ledger.round:
            return Verdict.SAMPLE
    tolerance = Decimal(0) if ledger.round else TOLERANCE
    if approval is not None and approval.permits(ledger.input_digest, most, tolerance=tolerance):
        return Verdict.SEND
    return Verdict.TOO_MUCH if ledger.round else Verdict.ASK


def would_ask(estimate: Estimate, approve_above: Decimal, sample: int) -> str:
    """Say in a sentence whether a person would be asked before these requests are sent."""
    above = f"approve_above, ${rounded_usd(approve_above)}"
    if estimate.usd is not None and estimate.usd.upper <= approve_above:
        return f"A run would ask nobody: the upper bound, ${rounded_usd(estimate.usd.upper)}, is not above {above}."
    if sample and estimate.requests <= sample:
        return f"A run would ask nobody: the sample is all of {quantity(estimate.requests, 'request')}."
    bound = "is not known" if estimate.usd is None else f"may be ${rounded_usd(estimate.usd.upper)}"
    first = f" It would first send a sample of {quantity(sample, 'request')}." if sample else ""
    return f"A run would ask a person to approve the cost, which {bound}: see {above}.{first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGate:
    """Asks for the approval of one submission, and keeps question and answer in its ledger."""

    record: LedgerRecord
    requests: RequestFile
    policy: Policy
    clock: Callable[[], datetime]

    def verdict(self, estimate: Estimate, landing: Landing) -> Verdict:
        """Decide what may be done with the estimated requests.

        :raises CostLimitError: a repair round may cost more than was approved. Nothing more was sent.
        """
        most = _in_all(landing, estimate.costs and estimate.costs.upper.usd)
        ledger = self.record.ledger
        # In a repair round the sample was all of them only if it was all of the input.
        count = len(self.requests) - len(self.requests.duplicates) if ledger.round else estimate.requests
        verdict = decide(ledger, self.policy, most, count)
        if verdict in (Verdict.ASK, Verdict.TOO_MUCH) and _is_counted_worse(ledger, estimate):
            return Verdict.COUNT_LATER
        if verdict is Verdict.TOO_MUCH:
            raise _more_than_approved(ledger.approval or None, self.policy, most)
        return verdict

    def output_share(self, landing: Landing) -> float | None:
        """Return the share of ``max_tokens`` that the answers to the sample use. None if there are none."""
        approval = self.record.ledger.approval
        if not approval or not approval.sampled or count_where(landing.statuses, PAID) > _MOST_MEASURED:
            return None
        answered = [i for i in indices_where(landing.statuses, PAID) if i not in self.requests.duplicates]
        allowed = sum(map(self.requests.max_tokens, answered))
        return min(landing.bill.tokens.output / allowed, 1.0) if allowed else None

    def ask(self, estimate: Estimate, landing: Landing, rows: str) -> AskStep:
        """Write the question to the ledger, and return it. A question that this attempt asks already stays as it is.

        :param rows: where the rows of earlier answers are.
        :raises ApprovalRejectedError: the estimate has grown since this attempt got its approval.
        """
        assert self.policy.approve_above is not None, "nobody has to be asked"  # noqa: S101
        ledger, now = self.record.ledger, self.clock()
        known = ledger.approval or None
        usd = estimate.usd
        question = Question(
            requests={model: each.requests for model, each in estimate.models.items()},
            expected=usd and usd.expected,
            most=usd and usd.upper,
            approve_above=self.policy.approve_above,
            unpriced_models=estimate.unpriced_models,
            remarks=tuple(estimate.remarks()),
            answered=_answered(landing, known.sampled if known else 0, rows),
        )
        most = _in_all(landing, question.most)
        if known is not None and known.attempt == ledger.attempt:
            if known.state is ApprovalState.APPROVED:
                raise _grown(known, most)
            if known.until is not None:
                asked = None if known.usd is None else Decimal(known.usd)
                return AskStep(question=question, until=known.until, most=asked)
        expected = _in_all(landing, question.expected)
        approval = Approval(
            input=ledger.input_digest,
            state=ApprovalState.ASKED,
            attempt=ledger.attempt,
            asked_at=now,
            until=now + self.policy.approval_timeout,
            usd=None if most is None else exact_usd(most),
            expected_usd=None if expected is None else exact_usd(expected),
            sampled=known.sampled if known else 0,
            counted=estimate.measured,
        )
        self.record.save(msgspec.structs.replace(ledger, approval=approval))
        return AskStep(question=question, until=now + self.policy.approval_timeout, most=most)

    def answer(self, *, approved: bool, by: str | None, at: datetime, timed_out: bool = False) -> None:
        """Keep the answer to the question. It is ignored if these requests were not asked for.

        :param by: who answered.
        :param timed_out: nobody did, in time.
        """
        ledger = self.record.ledger
        known = ledger.approval or None
        if known is None or known.state is not ApprovalState.ASKED or known.input != ledger.input_digest:
            log.warning("An answer came to a question that is not asked any more. It is ignored.")
            return
        no = ApprovalState.TIMED_OUT if timed_out else ApprovalState.REJECTED
        state = ApprovalState.APPROVED if approved else no
        answered = msgspec.structs.replace(known, state=state, by=by, answered_at=at)
        self.record.save(msgspec.structs.replace(ledger, approval=answered))
        if approved:
            log.info("Approved by %s: the submission may cost up to %s.", by or "somebody", _up_to(known.usd))
        elif not timed_out:
            log.info("Rejected by %s.", by or "somebody")

    def expire(self) -> None:
        """Count a question of this attempt as rejected if its time has passed without an answer."""
        ledger, now = self.record.ledger, self.clock()
        known = ledger.approval or None
        is_open = known is not None and known.state is ApprovalState.ASKED and known.attempt == ledger.attempt
        if known is not None and is_open and known.until is not None and now >= known.until:
            self.answer(approved=False, by=None, at=known.until, timed_out=True)

    def rejection(self) -> ApprovalRejectedError | None:
        """Return the error if the requests were rejected. None if they were not."""
        ledger = self.record.ledger
        known = ledger.approval or None
        if self.policy.approve_above is None or known is None or not known.is_refused:
            return None
        if known.state is ApprovalState.TIMED_OUT:
            window = known.until - known.asked_at if known.until and known.asked_at else timedelta()
            first = f"Nobody approved the submission within {window}. It may cost up to {_up_to(known.usd)}."
        else:
            by = f"{known.by or 'Somebody':.40}"
            first = f"{by} rejected the submission, which may cost up to {_up_to(known.usd)}."
        sent = (
            f"Only the sample of {quantity(known.sampled, 'request')} was sent. Its answers are billed and kept."
            if known.sampled
            else "Nothing was sent for it."
        )
        return ApprovalRejectedError(first, sent, "Clear the task to ask again. A retry does not ask again.")


def _is_counted_worse(ledger: Ledger, estimate: Estimate) -> bool:
    """Tell whether these requests were approved, and the API counts fewer of them now because counting fails.

    Lengths give a much higher bound than counted tokens, which is no reason to ask again.
    """
    approval = ledger.approval or None
    if approval is None or approval.state is not ApprovalState.APPROVED or approval.input != ledger.input_digest:
        return False
    return estimate.failure is not None and estimate.measured < approval.counted


def _in_all(landing: Landing, more: Decimal | None) -> Decimal | None:
    """Add what is spent. None if one of both is not known."""
    bill = landing.bill
    spent = bill.cost
    if more is None or spent is None or bill.unreadable_answers:
        return None
    return spent.usd + more


def _answered(landing: Landing, sampled: int, rows: str) -> AnsweredBefore | None:
    """Return what the submission has paid for before the question, None if nothing has ended."""
    counts: dict[str, int] = {}
    for status in Status:
        if status not in (Status.NONE, Status.REUSED) and (count := landing.statuses.count(status)):
            counts[status.word] = counts.get(status.word, 0) + count
    if not counts:
        return None
    return AnsweredBefore(sampled=sampled, counts=counts, usd=_in_all(landing, Decimal(0)), rows=rows)


def _more_than_approved(approval: Approval | None, policy: Policy, most: Decimal | None) -> CostLimitError:
    amount = "an unknown amount" if most is None else f"up to ${rounded_usd(most)}"
    if approval is not None and approval.usd is not None:
        limit = f"what was approved, ${rounded_usd(Decimal(approval.usd))}"
    else:
        limit = f"approve_above, ${rounded_usd(policy.approve_above or Decimal(0))}"
    return CostLimitError(
        f"With the requests to repair, the submission may cost {amount}, above {limit}.",
        "Nothing more was sent.",
        "Retry or clear the task: then a person is asked for the higher amount.",
    )


def _grown(approval: Approval, most: Decimal | None) -> ApprovalRejectedError:
    now = "is not known now" if most is None else f"may be ${rounded_usd(most)} now"
    return ApprovalRejectedError(
        f"The cost {now}, but {_up_to(approval.usd)} was approved.",
        "Nothing was sent for it.",
        "The prices, or the counted tokens, have changed since. Retry or clear the task: it asks again.",
    )


def _up_to(usd: str | None) -> str:
    return "an amount that is not known" if usd is None else f"${rounded_usd(Decimal(usd))}"
