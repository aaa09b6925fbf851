"""The charts of the overview: what each day and each model cost. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from airflow_claude_batch.web.overview_totals import MAX_SHOWN_MODELS, Sum, Totals
from airflow_claude_batch.web.plots import MIN_COLUMNS, ColumnChart, spending_columns


@dataclass(frozen=True, slots=True)
class ModelBar:
    """What a model cost, and the length of its bar in percent."""

    name: str
    sum: Sum
    length: float


def day_chart(totals: Totals) -> ColumnChart:
    """Lay out the chart of days, of which there are enough to fill its width."""
    days = {day.isoformat(): each.cost.usd for day, each in totals.by_day.items()}
    newest = max(totals.by_day, default=None)
    if newest is not None:
        days.setdefault((newest - timedelta(days=MIN_COLUMNS - 1)).isoformat(), Decimal(0))
    return spending_columns(days)


def model_bars(totals: Totals) -> list[ModelBar]:
    """Return the models that cost most, and the others together."""
    shown, others = totals.by_model[:MAX_SHOWN_MODELS], totals.by_model[MAX_SHOWN_MODELS:]
    rest = Sum()
    for _, each in others:
        rest = rest.plus(each)
    rows = [*shown, *([(f"{len(others)} more", rest)] if others else [])]
    most = max((each.cost.usd for _, each in rows), default=None) or 1
    return [ModelBar(name, each, round(float(100 * each.cost.usd / most), 1)) for name, each in rows]
