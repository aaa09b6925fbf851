"""The page itself: one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from typing import Final

from airflow_claude_batch.batch.estimate import dollars
from airflow_claude_batch.report.gather import Spending, Submission
from airflow_claude_batch.report.plots import bars, shares

#: Outcomes in the order of the bar, with their colors.
COLORS: Final = {
    "succeeded": "#4a7c59",
    "invalid_output": "#d9a441",
    "errored": "#b3412e",
    "expired": "#8a6d9b",
    "canceled": "#8c8c8c",
    "missing": "#1f1f1f",
}
SLOWEST: Final = 10
STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% } th { font-weight: 600 }
th, td { border-top: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td { overflow-wrap: anywhere } svg { font-size: 12px; max-width: 100% } .key { margin-right: 1rem }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
"""


def render(submissions: Sequence[Submission], *, root: str, now: datetime) -> str:
    """The page over some submissions. Everything that came from outside is escaped."""
    sections = [
        _head(submissions, root, now),
        _outcomes(submissions),
        _by_model(submissions),
        _by_day(submissions),
        _slowest(submissions),
        _failures(submissions),
        _all(submissions),
    ]
    title = "Message batches"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style>{''.join(sections)}</html>\n"
    )


def _head(submissions: Sequence[Submission], root: str, now: datetime) -> str:
    requests = sum(submission.manifest.request_count for submission in submissions)
    usd = sum((submission.usd for submission in submissions), Decimal(0))
    return (
        f"<h1>Message batches</h1><p>{len(submissions):,} submissions with {requests:,} requests under "
        f"<code>{escape(root)}</code>, ${dollars(usd)} in all. As of {now:%Y-%m-%d %H:%M} UTC.</p>"
    )


def _outcomes(submissions: Sequence[Submission]) -> str:
    counts: Counter[str] = Counter()
    for submission in submissions:
        counts.update(submission.manifest.counts)
    present = [(name, counts[name], color) for name, color in COLORS.items() if counts[name]]
    keys = "".join(
        f'<span class="key"><i style="background:{color}"></i>{name} {count:,}</span>' for name, count, color in present
    )
    return f"<h2>Outcomes</h2>{shares(present)}<p>{keys}</p>"


def _by_model(submissions: Sequence[Submission]) -> str:
    models: dict[str, Spending] = {}
    for submission in submissions:
        for model, spending in submission.models.items():
            total = models.setdefault(model, Spending())
            total.answers += spending.answers
            total.input_tokens += spending.input_tokens
            total.output_tokens += spending.output_tokens
            total.cached_tokens += spending.cached_tokens
            total.usd += spending.usd
    rows = (
        (
            model,
            *(f"{n:,}" for n in (s.answers, s.input_tokens, s.cached_tokens, s.output_tokens)),
            f"${dollars(s.usd)}",
        )
        for model, s in sorted(models.items(), key=lambda item: -item[1].usd)
    )
    return "<h2>By model</h2>" + _table(("model", "answers", "input", "from cache", "output", "cost"), rows)


def _by_day(submissions: Sequence[Submission]) -> str:
    days: dict[str, Decimal] = {}
    for submission in submissions:
        days[submission.day] = days.get(submission.day, Decimal(0)) + submission.usd
    values = {day: float(usd) for day, usd in sorted(days.items())}
    return "<h2>Cost by day</h2>" + bars(values, {day: f"${dollars(usd)}" for day, usd in days.items()})


def _slowest(submissions: Sequence[Submission]) -> str:
    timed = [(submission, submission.turnaround) for submission in submissions]
    slow = sorted(((s.name, t) for s, t in timed if t is not None), key=lambda item: item[1], reverse=True)[:SLOWEST]
    values = {name: time.total_seconds() for name, time in slow}
    return "<h2>Slowest, from submit to end</h2>" + bars(
        values, {name: _duration(time) for name, time in slow}, color="#5b7fa6"
    )


def _failures(submissions: Sequence[Submission]) -> str:
    rows = [
        (submission.name, failure.key, failure.status, failure.reason)
        for submission in submissions
        for failure in submission.failures
    ]
    if not rows:
        return "<h2>Rows without an answer</h2><p>None.</p>"
    return "<h2>Rows without an answer</h2>" + _table(("submission", "key", "status", "reason"), rows, numbers_from=9)


def _all(submissions: Sequence[Submission]) -> str:
    rows = (
        (
            submission.name,
            submission.manifest.status,
            f"{submission.manifest.request_count:,}",
            f"{submission.manifest.counts.get('succeeded', 0):,}",
            _duration(submission.turnaround),
            _estimated(submission),
            f"${dollars(submission.usd)}",
        )
        for submission in submissions
    )
    names = ("submission", "status", "requests", "succeeded", "took", "estimated", "cost")
    return "<h2>Submissions</h2>" + _table(names, rows, numbers_from=2)


def _estimated(submission: Submission) -> str:
    usd = (submission.manifest.cost or {}).get("estimated_usd")
    return "unknown" if usd is None else f"${dollars(Decimal(usd))}"


def _duration(time: timedelta | None) -> str:
    return "not ended" if time is None else str(timedelta(seconds=round(time.total_seconds())))


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    def line(tag: str, cells: Sequence[str]) -> Iterator[str]:
        yield "<tr>"
        for number, cell in enumerate(cells):
            kind = ' class="n"' if number >= numbers_from else ""
            yield f"<{tag}{kind}>{escape(cell)}</{tag}>"
        yield "</tr>"

    return "".join(["<table>", *line("th", names), *(part for row in rows for part in line("td", row)), "</table>"])
