"""Sum up submissions for the report: values only, no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from airflow_claude_batch.batch.money.amounts import Amount
from airflow_claude_batch.web.failed_rows import FailedRow
from airflow_claude_batch.web.gather import Spending, SubmissionSummary


@dataclass(frozen=True, slots=True)
class Failures:
    """The rows without an answer.

    :param all: how many there are.
    :param listed: how many of them the submissions list.
    :param reasons: status, reason and number of the listed rows, the most frequent first.
    """

    all: int
    listed: int
    reasons: Sequence[tuple[str, str, int]]


def tokens(submissions: Iterable[SubmissionSummary]) -> Spending:
    """Sum the tokens of all models."""
    total = Spending()
    for submission in submissions:
        for part in submission.manifest.by_model.values():
            total.add(part)
    return total


def billed(submissions: Sequence[SubmissionSummary]) -> Amount:
    """Sum what the submissions cost."""
    usd = sum((submission.usd for submission in submissions), Decimal(0))
    return Amount(usd, all(submission.is_cost_known for submission in submissions))


def cost_field(submissions: Sequence[SubmissionSummary], name: str) -> Amount:
    """Sum one field of the manifests' ``cost``, such as ``estimated_usd``."""
    amounts = [(submission.manifest.cost or {}).get(name) for submission in submissions]
    usd = sum((Decimal(amount) for amount in amounts if amount is not None), Decimal(0))
    return Amount(usd, None not in amounts)


def first_cost_of_reused(submissions: Iterable[SubmissionSummary]) -> Amount:
    """Sum what the reused answers cost when they were asked for."""
    amounts = [each.manifest.reused.get("first_usd") for each in submissions if each.manifest.reused]
    return Amount(sum((Decimal(usd) for usd in amounts if usd is not None), Decimal(0)), None not in amounts)


def asked_directly(submissions: Iterable[SubmissionSummary]) -> tuple[int, Amount]:
    """Count the answers of the Messages API, and sum what they cost."""
    found = [each.manifest.direct for each in submissions if each.manifest.direct]
    amounts = [direct.get("usd") for direct in found]
    usd = sum((Decimal(usd) for usd in amounts if usd is not None), Decimal(0))
    return sum(direct["answers"] for direct in found), Amount(usd, None not in amounts)


def unpriced_models(submissions: Iterable[SubmissionSummary]) -> list[str]:
    """Return the models whose price is unknown, sorted."""
    return sorted({model for submission in submissions for model in submission.unpriced_models})


def unknown_answers(submissions: Iterable[SubmissionSummary]) -> int:
    """Count the answers whose cost is unknown because of their usage."""
    return sum(submission.unknown_answers for submission in submissions)


def outcomes(submissions: Iterable[SubmissionSummary]) -> Counter[str]:
    """Count rows by outcome. Requests in progress are not counted as missing."""
    counts: Counter[str] = Counter()
    for submission in submissions:
        counts.update(submission.manifest.counts)
        counts["missing"] -= submission.in_progress
    return counts


def by_model(submissions: Iterable[SubmissionSummary]) -> list[tuple[str, Spending]]:
    """Sum tokens and cost by model, the most expensive first."""
    models: dict[str, Spending] = {}
    for submission in submissions:
        for model, part in submission.manifest.by_model.items():
            models.setdefault(model, Spending()).add(part)
    return sorted(models.items(), key=lambda item: (-(item[1].usd or 0), item[0]))


def usd_by_day(submissions: Iterable[SubmissionSummary]) -> dict[str, Decimal]:
    """Sum the cost by day of submission, in order. A submission that has sent nothing has no day."""
    days: dict[str, Decimal] = {}
    for submission in submissions:
        if submission.reused and not submission.manifest.batch_ids:
            continue
        days[submission.day] = days.get(submission.day, Decimal(0)) + submission.usd
    return dict(sorted(days.items()))


def slowest(submissions: Iterable[SubmissionSummary], count: int) -> dict[str, timedelta]:
    """Return the longest turnarounds by submission name, the longest first."""
    timed = {each.name: each.turnaround for each in submissions if each.turnaround is not None}
    return dict(sorted(timed.items(), key=lambda item: item[1], reverse=True)[:count])


def failures(submissions: Sequence[SubmissionSummary]) -> Failures:
    """Count the rows without an answer, and the reasons of those that are listed."""
    rows: list[FailedRow] = [row for submission in submissions for row in submission.failures]
    reasons = Counter((row.status, row.reason) for row in rows)
    total = sum(submission.failed for submission in submissions)
    return Failures(total, len(rows), [(status, reason, n) for (status, reason), n in reasons.most_common()])
