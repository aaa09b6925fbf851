"""Budget of a day over all submissions of a deployment: reserve before sending, settle when everything has ended.

A submission writes its reservation first, and lists the reservations of all others after that. So of two that come at
the same time, at least one sees the other, and both never pass together. That holds where a listing has everything that
was written before: on a local disk, S3, Google Cloud Storage and Azure, not on a network disk that caches directories.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Final

from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.day_limit import (
    DayLimit,
    DaySpending,
    Entry,
    Excess,
    current_entries,
    day_limit_error,
    find_excess,
    known_bill,
    upper_bound,
)
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.send.day_entries import DayEntries, time_of_day
from airflow_claude_batch.exceptions import ConfigurationError, DailyCostLimitError

log = logging.getLogger(__name__)

#: Pauses in seconds before today's entries are listed again, while later reservations are in the way. Their owners see
#: this one, and take theirs back.
PAUSES: Final = (0.5, 1.0, 2.0)
_RESERVATION: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})/([0-9]{1,9})")


@dataclass(frozen=True, slots=True, kw_only=True)
class DayBudget:
    """Budget of the day, as one submission uses it.

    Example::

        budget.reserve(estimate, bill, covers="…", has_open_batches=False)  # raises if the day has no room
        ...  # send, wait, land
        budget.settle(bill, covers="…")

    :param limits: what a day may cost. Not empty.
    :param entries: what the submissions have written.
    :param dag: short hash of the DAG's id.
    :param clock: current time, aware.
    :param sleep: pause, in seconds.
    :param lineage: changes when a clear starts anew, so that the bill begins at zero again.
    :param check_ownership: raises if another attempt owns the submission.
    """

    limits: Sequence[DayLimit]
    entries: DayEntries
    dag: str
    submission_id: str
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    lineage: str = ""
    check_ownership: Callable[[], None] = lambda: None

    def guarded(self, check_ownership: Callable[[], None]) -> DayBudget:
        """Return the budget with a check before each write."""
        return replace(self, check_ownership=check_ownership)

    def check_limits(self, estimate: Estimate) -> None:
        """Check whether the requests fit into an empty day.

        :raises CostLimitError: they never fit, or a model has no price.
        """
        upper_bound(estimate, self.limits)

    def check(self, estimate: Estimate) -> None:
        """Check whether the requests would fit now. Reserve nothing.

        :raises CostLimitError: they never fit, or a model has no price.
        :raises DailyCostLimitError: they do not fit now, or today's entries cannot be read.
        """
        now = self.clock()
        most = upper_bound(estimate, self.limits)
        with self._storage_errors():
            known = list(current_entries(self.entries.read(_day(now))).values())
        if excess := find_excess(self.limits, known, Decimal(0), most):
            raise day_limit_error(excess, estimate, now, sent_before=False)

    def reserve(self, estimate: Estimate, bill: Bill, *, covers: str, has_open_batches: bool) -> None:
        """Reserve the upper bound of what is to be sent, in place of an earlier reservation of this submission.

        :param estimate: of everything that is unanswered.
        :param bill: what the submission has cost so far.
        :param covers: identifies the requests and the answers that the bill is about.
        :param has_open_batches: batches that were sent earlier have not been landed yet.
        :raises CostLimitError: the requests never fit, or a model has no price.
        :raises DailyCostLimitError: they do not fit now, or today's entries cannot be read or written.
        """
        now, most = self.clock(), upper_bound(estimate, self.limits)
        day, billed = _day(now), known_bill(bill)
        with self._storage_errors():
            others, own = self._read(day)
            before = self._load(day, own)
            wanted = before.reserve(most, billed, self._covers(covers))
            excess = self._excess(others, wanted)
            if excess is None:
                excess = self._try(day, own, wanted)
            if excess is None:
                self.entries.remove_old(day)
                return
            if before.reserved_usd and not has_open_batches:  # it was never sent, or is in the bill
                self._write(day, own, wanted.released(), is_open=False)
        raise day_limit_error(excess, estimate, now, sent_before=bool(billed) or has_open_batches)

    def settle(self, bill: Bill, *, covers: str) -> None:
        """Replace the reservation by what was billed, now that everything has ended.

        What cannot be traced stays at its upper bound. A failure stops nothing.
        """
        today = _day(self.clock())
        with _storage_warnings():
            for day in (today, today - timedelta(days=1)):
                _, own = self._read(day)
                if own is not None:
                    self._settle(day, own, bill, self._covers(covers))
                    return

    def hand_over(self, *, covers: str) -> str | None:
        """Name the reservation for the task that lands the rows, None if the bill would not show what became of it."""
        today = _day(self.clock())
        with _storage_warnings():
            for day in (today, today - timedelta(days=1)):
                _, own = self._read(day)
                if own is not None:
                    is_same = self._load(day, own).covers == self._covers(covers)
                    return f"{day}/{own.number}" if own.is_open and is_same else None
        return None

    def settle_handed_over(self, reservation: str, bill: Bill) -> None:
        """Do the same as ``settle`` for the reservation that was handed over, if it is the last of its submission."""
        match = _RESERVATION.fullmatch(reservation)
        if match is None:
            return
        with contextlib.suppress(ValueError):
            day = date.fromisoformat(match[1])
            with _storage_warnings():
                _, own = self._read(day)
                if own is not None and own.number == int(match[2]):
                    self._settle(day, own, bill, self._load(day, own).covers)

    def _settle(self, day: date, own: Entry, bill: Bill, covers: str) -> None:
        before, billed = self._load(day, own), known_bill(bill)
        if own.is_open and before.is_traceable(billed, covers):
            self._write(day, own, before.reserve(Decimal(0), billed, covers), is_open=False)

    def _try(self, day: date, own: Entry | None, wanted: DaySpending) -> Excess | None:
        """Write a reservation, and take it back if it does not fit beside those of others.

        Of several that come at the same time, the earlier ones wait a moment until the later ones are taken back.
        """
        mine = self._write(day, own, wanted, is_open=True)
        for pause in PAUSES:
            others, _ = self._read(day)
            excess = self._excess(others, wanted)
            if excess is None:
                return None
            earlier = [entry for entry in others if not entry.is_open or _order(entry) < _order(mine)]
            if self._excess(earlier, wanted):
                break
            self.sleep(pause)
        else:
            others, _ = self._read(day)
            excess = self._excess(others, wanted)
        if excess is not None:
            self.entries.take_back(day, mine)
        return excess

    def _excess(self, others: Sequence[Entry], wanted: DaySpending) -> Excess | None:
        return find_excess(self.limits, others, wanted.spent_usd, wanted.reserved_usd)

    def _read(self, day: date) -> tuple[list[Entry], Entry | None]:
        """Return the entries that count: those of the other submissions, and this one's."""
        current = current_entries(self.entries.read(day))
        own = current.pop(self.submission_id, None)
        return list(current.values()), own

    def _load(self, day: date, own: Entry | None) -> DaySpending:
        return DaySpending() if own is None else self.entries.load(day, own)

    def _write(self, day: date, own: Entry | None, spending: DaySpending, *, is_open: bool) -> Entry:
        number, dag = (0, self.dag) if own is None else (own.number, own.dag)
        at = time_of_day(self.clock())
        entry = Entry(dag, self.submission_id, number + 1, is_open, spending.micro_usd, at)
        self.check_ownership()
        self.entries.write(day, entry, spending)
        return entry

    def _covers(self, covers: str) -> str:
        return f"{covers} {self.lineage}".rstrip()

    @contextlib.contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ConfigurationError) as error:
            raise DailyCostLimitError(
                f"{self.limits[0].name} cannot be checked: what was spent today cannot be read or written.",
                f"Nothing was sent now. {type(error).__name__}: {error}.",
                "Make sure that every worker can read and write that folder. A retry of the task checks again.",
            ) from error


@contextlib.contextmanager
def _storage_warnings() -> Iterator[None]:
    try:
        yield
    except (OSError, ConfigurationError) as error:
        log.warning(
            "What this submission cost could not be noted, so it counts with its upper bound today. %s: %s",
            type(error).__name__,
            error,
        )


def _day(now: datetime) -> date:
    return now.astimezone(UTC).date()


def _order(entry: Entry) -> tuple[str, str]:
    return entry.written_at, entry.submission_id
