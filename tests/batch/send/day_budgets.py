"""Budgets of a day over a folder in memory, and what goes into them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import IO, Any

from batch.money.estimates import Counter, estimated, params
from batch.money.usages import TABLE, usage

from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost import Cost
from airflow_claude_batch.batch.money.day_limit import DayLimit, current_entries
from airflow_claude_batch.batch.money.estimate import Estimate, ThreePointEstimate
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.send.day_entries import DayEntries

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
PER_DAY, PER_DAG = "[claude_batch] max_cost_per_day", "[claude_batch] max_cost_per_dag_per_day"
_BASE = estimated([params()], Counter())


def estimate_of(usd: str | Decimal, *, requests: int = 10) -> Estimate:
    """Return an estimate with this upper bound."""
    most = Cost(output=Decimal(usd))
    return dataclasses.replace(_BASE, requests=requests, costs=ThreePointEstimate(Cost(), Cost(), most))


def bill_of(usd: str | Decimal) -> Bill:
    """Return a bill of this amount: claude-haiku-4-5 costs half a dollar for a million input tokens."""
    bill = Bill(TABLE)
    if tokens := int(Decimal(usd) * 2_000_000):
        bill.add_usage(usage(tokens), "claude-haiku-4-5")
    return bill


@dataclass
class MemoryFolder:
    """Folder in memory. ``before`` runs before each look and each change, and in the middle of a listing."""

    files: dict[str, bytes] = field(default_factory=dict)
    before: Callable[[str], None] = lambda call: None

    def uri(self, name: str) -> str:
        return f"memory://spending/{name}"

    def names(self) -> list[str]:
        """List one half, and the other half later: a listing of many files is no single moment."""
        self.before("list")
        half = sorted(self.files)[: len(self.files) // 2]
        last = half[-1] if half else ""
        self.before("list the rest")
        return half + [name for name in sorted(self.files) if name > last]

    def open(self, name: str) -> IO[bytes] | None:
        self.before("open")
        return io.BytesIO(self.files[name]) if name in self.files else None

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        file = io.BytesIO()
        yield file
        self.before("write")
        self.files[name] = file.getvalue()
        self.before("wrote")

    def remove(self, name: str) -> None:
        self.before("remove")
        self.files.pop(name, None)


@dataclass
class Store:
    """The folders of all days."""

    now: datetime = NOON
    days: dict[str, MemoryFolder] = field(default_factory=dict)
    before: Callable[[str], None] = lambda call: None
    pauses: list[float] = field(default_factory=list)

    def folder(self, day: str) -> Any:
        if not day:
            return MemoryFolder(dict.fromkeys([*self.days, "other"], b""))
        return self.days.setdefault(day, MemoryFolder(before=lambda call: self.before(call)))

    def budget(self, submission_id: str, limit: str = "10", *, dag: str = "aaaaaaaaaaaa", **more: Any) -> DayBudget:
        limits = [DayLimit(usd=Decimal(limit), name=PER_DAY)]
        if (of_dag := more.pop("of_dag", None)) is not None:
            limits.append(DayLimit(usd=Decimal(of_dag), name=PER_DAG, dag=dag))
        return DayBudget(
            limits=limits,
            entries=DayEntries(self.folder, {"dag_id": "a"}),
            dag=dag,
            submission_id=submission_id,
            clock=lambda: self.now,
            sleep=self.pauses.append,
            **more,
        )

    def sums(self, day: str = "2026-11-22") -> dict[str, tuple[bool, Decimal]]:
        """Return for each submission of a day whether it is open, and what it costs."""
        budget = self.budget("0")
        entries = budget.entries.read(datetime.fromisoformat(day).date())
        return {id_: (entry.is_open, entry.usd) for id_, entry in current_entries(entries).items()}

    def advance(self, hours: float) -> None:
        self.now += timedelta(hours=hours)


def reserve(budget: DayBudget, most: str, billed: str = "0", *, covers: str = "input 0", is_open: bool = False) -> None:
    budget.reserve(estimate_of(most), bill_of(billed), covers=covers, has_open_batches=is_open)


def settle(budget: DayBudget, billed: str, *, covers: str = "input 0") -> None:
    budget.settle(bill_of(billed), covers=covers)
