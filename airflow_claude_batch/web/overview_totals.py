"""Totals of the overview: figures, and what each day and each model cost. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from decimal import Decimal
from typing import Final

from airflow_claude_batch._airflow.states import State
from airflow_claude_batch.batch.money.amounts import NOTHING, Amount
from airflow_claude_batch.web.overview_lines import Line

#: How many days the chart shows at most, and how many models the table.
MAX_SHOWN_DAYS: Final = 60
MAX_SHOWN_MODELS: Final = 8


@dataclass(slots=True)
class Sum:
    """What submissions come to: of one model, or of one day."""

    submissions: int = 0
    requests: int = 0
    cost: Amount = NOTHING

    def add(self, requests: int, cost: Amount | None) -> None:
        self.submissions += 1
        self.requests += requests
        self.cost += cost or NOTHING

    def plus(self, other: Sum) -> Sum:
        return Sum(self.submissions + other.submissions, self.requests + other.requests, self.cost + other.cost)


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures above the list.

    :param open_batches: message batches that may still run.
    :param expected: what the submissions that have not ended are estimated to cost.
    :param failed: rows without a valid answer.
    """

    all: Sum
    states: dict[State, int]
    open_batches: int
    expected: Amount
    failed: int
    by_model: Sequence[tuple[str, Sum]]
    by_day: dict[date, Sum] = field(default_factory=dict)


def totals_of(lines: Iterable[Line]) -> Totals:
    """Sum up submissions."""
    total, models, days = Sum(), dict[str, Sum](), dict[date, Sum]()
    states = dict.fromkeys(State, 0)
    expected, open_batches, failed = NOTHING, 0, 0
    for line in lines:
        values, cost = line.values, line.values.cost
        states[line.state] += 1
        open_batches += line.standing.open_batches if line.standing.is_live or line.state is State.STOPPED else 0
        failed += values.failed
        if line.standing.is_live and cost is None:
            estimate = values.estimate
            expected += Amount(estimate.expected, True) if estimate else Amount(Decimal(0), False)
        total.add(values.request_count, cost)
        days.setdefault(day_of(line), Sum()).add(values.request_count, cost)
        for model in values.models:
            models.setdefault(model.name, Sum()).add(model.requests, model.cost)
    by_model = sorted(models.items(), key=lambda item: (-item[1].cost.usd, -item[1].requests, item[0]))
    return Totals(total, states, open_batches, expected, failed, by_model, _last(days))


def day_of(line: Line) -> date:
    """Return the day on which a submission has changed last, by Airflow's clock (UTC). The cost is known then."""
    return line.changed_at.astimezone(UTC).date()


def _last(days: dict[date, Sum]) -> dict[date, Sum]:
    """Return the last days up to the newest one."""
    first = max(days, default=date.max) - timedelta(days=MAX_SHOWN_DAYS - 1)
    return {day: each for day, each in days.items() if day >= first}
