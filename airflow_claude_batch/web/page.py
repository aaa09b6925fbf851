"""The page itself: one self-contained HTML file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from typing import Final

from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.web.gather import Spending, SubmissionSummary
from airflow_claude_batch.web.plots import bars, shares

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
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #222 }
h1 { font-size: 1.5rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .5rem } p { margin: .3rem 0 }
table { border-collapse: collapse; width: 100% } th { font-weight: 600 }
th, td { border-top: 1px solid #ddd; padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td, summary { overflow-wrap: anywhere } td.word { white-space: nowrap } td:first-child { min-width: 10rem }
svg { display: block; font-size: 12px; width: 100%; height: auto } summary { cursor: pointer; margin-top: .4rem }
.key { margin-right: 1rem } .key i { display: inline-block; width: .8em; height: .8em; margin-right: .3em }
.facts { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1rem 0 }
.facts b { display: block; font-size: 1.3rem }
.soft { color: #666 }
"""


def render(submissions: Sequence[SubmissionSummary], *, root: str, now: datetime) -> str:
    """The page over some submissions. Everything that came from outside is escaped."""
    sections = [
        _head(submissions, root, now),
        _outcomes(submissions),
        _by_model(submissions),
        _by_day(submissions),
        _slowest(submissions),
        _all(submissions),
        _failures(submissions),
    ]
    title = "Message batches"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{STYLE}</style>{''.join(sections)}</html>\n"
    )


def _head(submissions: Sequence[SubmissionSummary], root: str, now: datetime) -> str:
    requests = sum(submission.manifest.request_count for submission in submissions)
    tokens = Spending()
    for submission in submissions:
        for part in submission.manifest.by_model.values():
            tokens.add(part)
    read = tokens.input_tokens + tokens.cache_write_tokens + tokens.cache_read_tokens
    facts = [
        (f"{len(submissions):,}", "submissions" if len(submissions) != 1 else "submission"),
        (f"{requests:,}", "requests" if requests != 1 else "request"),
        (_known_usd(submissions), "billed"),
        (_sum_of(submissions, "estimated_usd"), "expected before"),
        (_sum_of(submissions, "without_batch_usd"), "without the batch discount"),
        (_sum_of(submissions, "without_cache_usd"), "without the prompt cache"),
        (f"{read:,}", "input tokens"),
        (f"{tokens.output_tokens:,}", "output tokens"),
    ]
    cells = "".join(f"<span><b>{value}</b>{escape(name)}</span>" for value, name in facts)
    return (
        f'<h1>Message batches</h1><p class="soft">Under <code>{escape(root)}</code>, as of {now:%Y-%m-%d %H:%M} UTC.'
        f'</p><div class="facts">{cells}</div>{_unpriced(submissions)}'
    )


def _known_usd(submissions: Sequence[SubmissionSummary]) -> str:
    at_least = "≥ " if any(submission.unpriced for submission in submissions) else ""
    return f"{at_least}${rounded_usd(sum((submission.usd for submission in submissions), Decimal(0)))}"


def _sum_of(submissions: Sequence[SubmissionSummary], name: str) -> str:
    """An amount of all manifests; where one does not know it, at least so much."""
    amounts = [(submission.manifest.cost or {}).get(name) for submission in submissions]
    known = sum((Decimal(amount) for amount in amounts if amount is not None), Decimal(0))
    return ("≥ " if None in amounts else "") + f"${rounded_usd(known)}"


def _unpriced(submissions: Sequence[SubmissionSummary]) -> str:
    models = sorted({model for submission in submissions for model in submission.unpriced})
    if not models:
        return ""
    return f"<p>No price is known for {escape(', '.join(models))}: that cost is in no sum on this page.</p>"


def _outcomes(submissions: Sequence[SubmissionSummary]) -> str:
    counts: Counter[str] = Counter()
    for submission in submissions:
        counts.update(submission.manifest.counts)
        if submission.manifest.status != "ended":
            counts["missing"] -= submission.manifest.counts.get("missing", 0)
    present = [(name, counts[name], color) for name, color in COLORS.items() if counts[name]]
    keys = "".join(
        f'<span class="key"><i style="background:{color}"></i>{name} {count:,}</span>' for name, count, color in present
    )
    waiting = sum(s.manifest.counts.get("missing", 0) for s in submissions if s.manifest.status != "ended")
    more = f'<span class="soft">{waiting:,} on their way</span>' if waiting else ""
    return f"<h2>Outcomes</h2>{shares(present)}<p>{keys}{more}</p>"


def _by_model(submissions: Sequence[SubmissionSummary]) -> str:
    models: dict[str, Spending] = {}
    for submission in submissions:
        for model, part in submission.manifest.by_model.items():
            models.setdefault(model, Spending()).add(part)
    ordered = sorted(models.items(), key=lambda item: (-(item[1].usd or 0), item[0]))
    names = ("model", "rows", "input", "cache written", "cache read", "output", "cost")
    rows = (
        (
            model,
            *(f"{n:,}" for n in (s.rows, s.input_tokens, s.cache_write_tokens, s.cache_read_tokens, s.output_tokens)),
            _usd(s.usd),
        )
        for model, s in ordered
    )
    return "<h2>Tokens and cost by model</h2>" + _table(names, rows)


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"${rounded_usd(amount)}"


def _by_day(submissions: Sequence[SubmissionSummary]) -> str:
    days: dict[str, Decimal] = {}
    for submission in submissions:
        days[submission.day] = days.get(submission.day, Decimal(0)) + submission.usd
    values = {day: float(usd) for day, usd in sorted(days.items())}
    texts = {day: f"${rounded_usd(usd)}" for day, usd in days.items()}
    return "<h2>Cost by day of submission, UTC</h2>" + bars(values, texts, label=110)


def _slowest(submissions: Sequence[SubmissionSummary]) -> str:
    timed = [(submission, submission.turnaround) for submission in submissions]
    slow = sorted(((s.name, t) for s, t in timed if t is not None), key=lambda item: item[1], reverse=True)[:SLOWEST]
    values = {name: time.total_seconds() for name, time in slow}
    texts = {name: _duration(time) for name, time in slow}
    return "<h2>Slowest, from submit to end</h2>" + bars(values, texts, label=520, color="#5b7fa6")


def _all(submissions: Sequence[SubmissionSummary]) -> str:
    rows = (
        (
            submission.name,
            submission.manifest.status,
            f"{submission.manifest.request_count:,}",
            f"{submission.manifest.counts.get('succeeded', 0):,}",
            _duration(submission.turnaround),
            _estimated(submission),
            _usd(None if submission.unpriced else submission.usd),
        )
        for submission in submissions
    )
    names = ("submission", "status", "requests", "succeeded", "took", "estimated", "cost")
    return "<h2>Submissions</h2>" + _table(names, rows, numbers_from=2)


def _failures(submissions: Sequence[SubmissionSummary]) -> str:
    """Reasons by how often they are seen among the listed rows, then the rows of each submission, folded."""
    failing = [submission for submission in submissions if submission.failures]
    if not failing:
        return "<h2>Rows without an answer</h2><p>None.</p>"
    reasons = Counter((row.status, row.reason) for submission in failing for row in submission.failures)
    listed = _table(
        ("status", "reason", "rows"),
        ((status, reason, f"{count:,}") for (status, reason), count in reasons.most_common()),
        numbers_from=2,
    )
    total, shown = sum(submission.failed for submission in failing), sum(len(s.failures) for s in failing)
    some = f" Of {total:,}, the first of each submission are listed: {shown:,}." if shown < total else ""
    return f"<h2>Rows without an answer</h2><p>{some}</p>{listed}" + "".join(map(_failed_rows, failing))


def _failed_rows(submission: SubmissionSummary) -> str:
    rows = ((row.key, row.status, row.reason) for row in submission.failures)
    of = f"{len(submission.failures):,} of " if len(submission.failures) < submission.failed else ""
    return (
        f"<details><summary>{escape(submission.name)}: {of}{submission.failed:,}</summary>"
        f"{_table(('key', 'status', 'reason'), rows, numbers_from=9)}</details>"
    )


def _estimated(submission: SubmissionSummary) -> str:
    usd = (submission.manifest.cost or {}).get("estimated_usd")
    return _usd(None if usd is None else Decimal(usd))


def _duration(time: timedelta | None) -> str:
    return "not ended" if time is None else str(timedelta(seconds=round(time.total_seconds())))


def _table(names: Sequence[str], rows: Iterable[Sequence[str]], *, numbers_from: int = 1) -> str:
    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{_kind(names[number], number >= numbers_from)}>{escape(cell)}</{tag}>"
            for number, cell in enumerate(cells)
        )

    lines = [line("th", names), *(line("td", row) for row in rows)]
    return "<table>" + "".join(f"<tr>{cells}</tr>" for cells in lines) + "</table>"


def _kind(name: str, is_number: bool) -> str:
    if is_number:
        return ' class="n"'
    return ' class="word"' if name == "status" else ""
