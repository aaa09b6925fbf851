"""Render the report as one self-contained HTML page from ``templates/``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.web import totals
from airflow_claude_batch.web.gather import SubmissionSummary
from airflow_claude_batch.web.manifests import Problem
from airflow_claude_batch.web.plots import CHART_WIDTH, BarChart, Segment, bar_chart, stacked_bar
from airflow_claude_batch.web.totals import Amount

#: The colors of outcomes, in the order of the stacked bar.
OUTCOME_COLORS: Final = {
    "succeeded": "#4a7c59",
    "invalid_output": "#d9a441",
    "errored": "#b3412e",
    "expired": "#8a6d9b",
    "canceled": "#8c8c8c",
    "missing": "#1f1f1f",
}
#: How many submissions the chart of the slowest shows.
MAX_SLOWEST: Final = 10


def render(
    submissions: Sequence[SubmissionSummary], *, root: str, now: datetime, problems: Sequence[Problem] = ()
) -> str:
    """Return the report over submissions as HTML. Every value is escaped by the templates' autoescape.

    :param root: the folder of the report, as it is shown.
    :param now: the time of the report, UTC.
    :param problems: what the report leaves out.
    """
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            root=root,
            now=now,
            submissions=submissions,
            tokens=totals.tokens(submissions),
            billed=totals.billed(submissions),
            estimated=totals.cost_field(submissions, "estimated_usd"),
            without_batch=totals.cost_field(submissions, "without_batch_usd"),
            without_cache=totals.cost_field(submissions, "without_cache_usd"),
            unpriced_models=totals.unpriced_models(submissions),
            unknown_answers=totals.unknown_answers(submissions),
            outcomes=_outcomes_bar(submissions),
            by_model=totals.by_model(submissions),
            cost_by_day=_cost_by_day_chart(submissions),
            slowest=_slowest_chart(submissions),
            failures=totals.failures(submissions),
            problems=problems,
        )
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("airflow_claude_batch.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["chart_width"] = CHART_WIDTH
    environment.filters.update(number=_number, usd=_usd, amount=_amount, duration=_duration)
    return environment


def _number(value: int) -> str:
    return f"{value:,}"


def _usd(value: Decimal | None) -> str:
    return "unknown" if value is None else f"${rounded_usd(value)}"


def _amount(value: Amount) -> str:
    return ("" if value.is_complete else "≥ ") + _usd(value.usd)


def _duration(value: timedelta | None) -> str:
    return "not ended" if value is None else str(timedelta(seconds=round(value.total_seconds())))


def _outcomes_bar(submissions: Sequence[SubmissionSummary]) -> list[Segment]:
    counts = totals.outcomes(submissions)
    return stacked_bar((name, counts[name], color) for name, color in OUTCOME_COLORS.items() if counts[name])


def _cost_by_day_chart(submissions: Sequence[SubmissionSummary]) -> BarChart:
    days = totals.usd_by_day(submissions)
    values = {day: float(usd) for day, usd in days.items()}
    return bar_chart(values, {day: _usd(usd) for day, usd in days.items()}, label_width=110)


def _slowest_chart(submissions: Sequence[SubmissionSummary]) -> BarChart:
    times = totals.slowest(submissions, MAX_SLOWEST)
    values = {name: time.total_seconds() for name, time in times.items()}
    return bar_chart(values, {name: _duration(t) for name, t in times.items()}, label_width=520, color="#5b7fa6")
