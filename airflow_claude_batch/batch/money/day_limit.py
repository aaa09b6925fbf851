"""Limits on what the submissions of one day may cost together, and what one of them spends on a day. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from typing import Final, NamedTuple

import msgspec

from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost import Cost
from airflow_claude_batch.batch.money.cost_limit import check_max_cost, unpriced_error, what_fits
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import DailyCostLimitError

_MICRO: Final = Decimal("0.000001")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLimit:
    """Limit on the cost of one day, in UTC.

    :param usd: what all submissions of the day may cost together, in USD.
    :param name: the setting that has the limit, for messages.
    :param dag: counts only submissions of the DAG with this name in file names. None counts those of all DAGs.
    """

    usd: Decimal
    name: str
    dag: str | None = None


class Entry(NamedTuple):
    """State of one submission on one day, as the name of its file has it.

    :param dag: short hash of the DAG's id.
    :param number: grows with each change. The highest number of a submission counts.
    :param is_open: the submission may still be billed for more or for less.
    :param micro_usd: the most that it costs on this day, in millionths of a dollar.
    :param written_at: time of day, as digits that sort by time.
    """

    dag: str
    submission_id: str
    number: int
    is_open: bool
    micro_usd: int
    written_at: str

    @property
    def usd(self) -> Decimal:
        return self.micro_usd * _MICRO


class DaySpending(msgspec.Struct, frozen=True, kw_only=True):
    """What one submission costs on one day, in USD.

    From the moment in which this is stored, it costs at most ``spent_usd + reserved_usd``, until more is reserved.

    :ivar spent_usd: what was billed on this day before the reservation.
    :ivar reserved_usd: upper bound of what was reserved and is not settled.
    :ivar billed_before_usd: bill of the submission at the reservation, of earlier days too. None if it was not known.
    :ivar covers: identifies the requests and the answers that the bill is about.
    """

    spent_usd: Decimal = Decimal(0)
    reserved_usd: Decimal = Decimal(0)
    billed_before_usd: Decimal | None = None
    covers: str = ""

    @property
    def usd(self) -> Decimal:
        return self.spent_usd + self.reserved_usd

    @property
    def micro_usd(self) -> int:
        """The sum in millionths of a dollar, rounded up."""
        return micro_usd(self.usd)

    def is_traceable(self, billed: Decimal | None, covers: str) -> bool:
        """Return whether the bill shows what became of the reservation.

        It does not if the input has changed, batches were dropped, or the cost of an answer is not known.
        """
        before = self.billed_before_usd
        return billed is not None and before is not None and billed >= before and covers == self.covers

    def spent(self, billed: Decimal | None, covers: str) -> Decimal:
        """Return what was spent on this day. What cannot be traced in the bill counts with its upper bound.

        :param billed: bill of the submission now. None if it is not known.
        """
        if self.reserved_usd and self.is_traceable(billed, covers) and billed is not None:
            return self.spent_usd + billed - (self.billed_before_usd or 0)
        return self.usd

    def reserve(self, most: Decimal, billed: Decimal | None, covers: str) -> DaySpending:
        """Return the state with a reservation for everything that is unanswered, in place of an earlier one.

        :param most: upper bound of its cost.
        """
        spent = self.spent(billed, covers)
        return DaySpending(spent_usd=spent, reserved_usd=most, billed_before_usd=billed, covers=covers)

    def released(self) -> DaySpending:
        """Return the state without the reservation: nothing of it was sent, or it is in ``spent_usd``."""
        return msgspec.structs.replace(self, reserved_usd=Decimal(0))

    @property
    def is_valid(self) -> bool:
        """Return whether all amounts can be right."""
        amounts = (self.spent_usd, self.reserved_usd, self.billed_before_usd or Decimal(0))
        return all(amount.is_finite() and amount >= 0 for amount in amounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """A limit without room for a submission.

    :param left: USD of the limit that are left for it.
    :param billed: USD that ended submissions cost. ``spent_by`` is their number.
    :param open_: USD that open submissions cost at most. ``open_submissions`` is their number.
    """

    limit: DayLimit
    left: Decimal
    billed: Decimal
    spent_by: int
    open_: Decimal
    open_submissions: int


def micro_usd(amount: Decimal) -> int:
    """Return an amount of USD in millionths, rounded up."""
    return int((amount / _MICRO).to_integral_value(ROUND_CEILING))


def known_bill(bill: Bill) -> Decimal | None:
    """Return the sum of a bill in USD, None if the cost of an answer is not known."""
    cost = bill.cost
    return None if cost is None or bill.unreadable_answers else cost.usd


def current_entries(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Return the entry that counts of each submission: the one with the highest number.

    Two processes of one submission may use the same number. Then the higher amount counts.
    """
    current: dict[str, Entry] = {}
    for entry in entries:
        known = current.get(entry.submission_id)
        if known is None or (known.number, known.micro_usd) < (entry.number, entry.micro_usd):
            current[entry.submission_id] = entry
    return current


def find_excess(limits: Iterable[DayLimit], others: Sequence[Entry], spent: Decimal, most: Decimal) -> Excess | None:
    """Return the limit with the least room for a submission, None if it fits into all of them.

    :param others: the entries of the other submissions of the day.
    :param spent: what the submission itself has spent on the day.
    :param most: upper bound of what it would cost in addition.
    """
    found = (_excess(limit, others, spent, most) for limit in limits)
    return min((each for each in found if each is not None), key=lambda each: each.left, default=None)


def _excess(limit: DayLimit, others: Sequence[Entry], spent: Decimal, most: Decimal) -> Excess | None:
    counted = [entry for entry in others if limit.dag is None or entry.dag == limit.dag]
    open_ = [entry.usd for entry in counted if entry.is_open]
    ended = [entry.usd for entry in counted if not entry.is_open] + ([spent] if spent else [])
    left = limit.usd - sum(open_) - sum(ended)
    if most <= left:
        return None
    return Excess(
        limit=limit,
        left=max(left, Decimal(0)),
        billed=sum(ended, Decimal(0)),
        spent_by=len(ended),
        open_=sum(open_, Decimal(0)),
        open_submissions=len(open_),
    )


def upper_bound(estimate: Estimate, limits: Iterable[DayLimit]) -> Decimal:
    """Return the most that the requests may cost, in USD.

    :raises CostLimitError: a model has no price, or a limit is too low on any day. A retry would not help.
    """
    for limit in limits:
        if estimate.costs is None:
            raise unpriced_error(estimate.unpriced_models, limit.name)
        check_max_cost(estimate, limit.usd, name=limit.name)
    return estimate.costs.upper.usd if estimate.costs else Decimal(0)


def day_limit_error(excess: Excess, estimate: Estimate, now: datetime, *, sent_before: bool) -> DailyCostLimitError:
    """Build the error about a limit of the day that has no room. A later retry may fit."""
    limit, most = excess.limit, estimate.costs.upper if estimate.costs is not None else Cost()
    fits = "".join(f", or {what}" for what in what_fits(estimate, most, excess.left))
    is_close = rounded_usd(most.usd) == rounded_usd(excess.left)
    upper, left = ((exact_usd if is_close else rounded_usd)(usd) for usd in (most.usd, excess.left))
    return DailyCostLimitError(
        f"{quantity(estimate.requests, 'request')} may cost up to ${upper}, but {limit.name} has ${left} left today.",
        "Nothing more was sent." if sent_before else "Nothing was sent.",
        f"{now.astimezone(UTC):%Y-%m-%d} (UTC){'' if limit.dag is None else ', this DAG'}: {_sums(excess)}, of "
        f"${rounded_usd(limit.usd)}.",
        f"It frees up at 00:00 UTC, in {_until_midnight(now)}.{_earlier(excess)}",
        f"A retry of the task checks again (retries, retry_delay). What would fit now: a higher limit{fits}.",
    )


def _sums(excess: Excess) -> str:
    """Say what was spent. A limit without room has something that was."""
    sums = []
    if excess.spent_by:
        sums.append(f"${rounded_usd(excess.billed)} billed for {quantity(excess.spent_by, 'submission')}")
    if excess.open_submissions:
        submissions = quantity(excess.open_submissions, "submission")
        are = "is" if excess.open_submissions == 1 else "are"
        sums.append(f"up to ${rounded_usd(excess.open_)} for {submissions} that {are} open")
    return ", ".join(sums)


def _earlier(excess: Excess) -> str:
    if not excess.open_submissions:
        return ""
    is_one = excess.open_submissions == 1
    return (
        f" What the open {'submission costs' if is_one else 'submissions cost'} less than "
        f"{'its' if is_one else 'their'} upper bound frees up when {'it ends' if is_one else 'they end'}. "
        "A failed one ends when its task is cleared."
    )


def _until_midnight(now: datetime) -> str:
    time = now.astimezone(UTC)
    hours, minutes = divmod(24 * 60 - time.hour * 60 - time.minute, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
