"""Sum submissions by DAG and by task: values only, no HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.money.amounts import Amount
from airflow_claude_batch.web.gather import SubmissionSummary
from airflow_claude_batch.web.totals import billed

#: The name of what the folder's names do not tell.
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Group:
    """Submissions of one DAG, or of one task.

    :param names: ids of the DAG, and of the task.
    :param failed: rows without an answer.
    :param usual: the median turnaround of those that have ended, None if there are none.
    """

    names: tuple[str, ...]
    submissions: int
    requests: int
    failed: int
    billed: Amount
    usual: timedelta | None


def by_dag(submissions: Iterable[SubmissionSummary]) -> list[Group]:
    """Sum by DAG: those with the most rows without an answer first, then the most expensive."""
    return _groups(submissions, lambda place: (place.dag_id,), (UNKNOWN,))


def by_task(submissions: Iterable[SubmissionSummary]) -> list[Group]:
    """Sum by task, in the same order."""
    return _groups(submissions, lambda place: (place.dag_id, place.task_id), (UNKNOWN, UNKNOWN))


def _groups(
    submissions: Iterable[SubmissionSummary], names_of: Callable[[Place], tuple[str, ...]], unknown: tuple[str, ...]
) -> list[Group]:
    found: dict[tuple[str, ...], list[SubmissionSummary]] = {}
    for submission in submissions:
        names = unknown if submission.place is None else names_of(submission.place)
        found.setdefault(names, []).append(submission)
    groups = [_group(names, members) for names, members in found.items()]
    return sorted(groups, key=lambda group: (-group.failed, -group.billed.usd, group.names))


def _group(names: tuple[str, ...], members: Sequence[SubmissionSummary]) -> Group:
    seconds = [each.turnaround.total_seconds() for each in members if each.turnaround is not None]
    return Group(
        names=names,
        submissions=len(members),
        requests=sum(submission.manifest.request_count for submission in members),
        failed=sum(submission.failed for submission in members),
        billed=billed(members),
        usual=timedelta(seconds=median(seconds)) if seconds else None,
    )
