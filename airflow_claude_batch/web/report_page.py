"""Render the report as one self-contained HTML page from ``templates/``: what failed first, and long tables folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch.web import totals
from airflow_claude_batch.web.gather import SubmissionSummary
from airflow_claude_batch.web.groups import by_dag, by_task
from airflow_claude_batch.web.manifests import Problem
from airflow_claude_batch.web.plots import Segment, spending_columns, stacked_bar
from airflow_claude_batch.web.templating import environment, span_in_words, usd_in_words

#: The outcomes of rows, in the order of the stacked bar.
OUTCOMES: Final = ("succeeded", "invalid_output", "errored", "expired", "canceled", "missing")
#: How many submissions the table of the slowest shows.
MAX_SLOWEST: Final = 10
#: How many submissions are listed one by one: a page of two megabytes.
MAX_LISTED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Slow:
    """A submission that took long.

    :param share: its time as a percentage of the longest.
    """

    name: str
    time: timedelta
    share: float


@dataclass(frozen=True, slots=True)
class Line:
    """A submission in the table of all, in words."""

    name: str
    status: str
    day: str
    requests: str
    failed: str
    took: str
    estimated: str
    cost: str

    @classmethod
    def of(cls, submission: SubmissionSummary) -> Line:
        return cls(
            name=submission.name,
            status=submission.manifest.status.replace("_", " "),
            day=submission.day,
            requests=f"{submission.manifest.request_count:,}",
            failed=f"{submission.failed:,}" if submission.failed else "",
            took=span_in_words(submission.turnaround) or "not ended",
            estimated=usd_in_words(submission.estimated_usd),
            cost=usd_in_words(submission.usd if submission.is_cost_known else None),
        )


def render(
    submissions: Sequence[SubmissionSummary], *, root: str, now: datetime, problems: Sequence[Problem] = ()
) -> str:
    """Return the report over submissions as HTML. Every value is escaped by the templates' autoescape.

    :param submissions: the oldest first.
    :param root: the folder of the report, as it is shown.
    :param now: the time of the report, UTC.
    :param problems: what the report leaves out.
    """
    newest_first = submissions[::-1]
    tokens = totals.tokens(submissions)
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            root=root,
            now=now,
            submission_count=len(submissions),
            requests=sum(submission.manifest.request_count for submission in submissions),
            in_progress=sum(submission.in_progress for submission in submissions),
            tokens=tokens,
            input_tokens=tokens.input_tokens + tokens.cache_write_tokens + tokens.cache_read_tokens,
            billed=totals.billed(submissions),
            estimated=totals.cost_field(submissions, "estimated_usd"),
            without_batch=totals.cost_field(submissions, "without_batch_usd"),
            without_cache=totals.cost_field(submissions, "without_cache_usd"),
            reused=sum(submission.reused for submission in submissions),
            first_cost_of_reused=totals.first_cost_of_reused(submissions),
            direct=totals.asked_directly(submissions),
            unpriced_models=totals.unpriced_models(submissions),
            unknown_answers=totals.unknown_answers(submissions),
            failures=totals.failures(submissions),
            failing=[submission for submission in newest_first if submission.failures],
            problems=problems,
            outcomes=_outcomes_bar(submissions),
            by_model=totals.by_model(submissions),
            by_dag=by_dag(submissions),
            by_task=by_task(submissions),
            cost_over_time=spending_columns(totals.usd_by_day(submissions)),
            slowest=list(_slowest(submissions)),
            submissions=[Line.of(submission) for submission in newest_first[:MAX_LISTED]],
            unlisted=max(len(submissions) - MAX_LISTED, 0),
        )
    )


def _outcomes_bar(submissions: Sequence[SubmissionSummary]) -> list[Segment]:
    counts = totals.outcomes(submissions)
    return stacked_bar((name, counts[name]) for name in OUTCOMES if counts[name])


def _slowest(submissions: Sequence[SubmissionSummary]) -> Iterator[Slow]:
    times = totals.slowest(submissions, MAX_SLOWEST)
    longest = max(times.values(), default=timedelta()) or timedelta(seconds=1)
    for name, time in times.items():
        yield Slow(name, time, round(100 * (time / longest), 1))
