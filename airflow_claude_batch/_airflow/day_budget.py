"""The budget of the day as a task uses it: limits from the settings, files in the deployment's results folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import executors, timezone
from airflow_claude_batch._airflow.results_folder import is_default_root, results_root, spending_folder
from airflow_claude_batch._airflow.shared_results import other_machines
from airflow_claude_batch.batch.money.day_limit import DayLimit
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.send.day_entries import DayEntries
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.batch.attempt import Attempt
    from airflow_claude_batch.batch.money.bill import Bill

#: Hexadecimal digits that stand for a DAG in the names of files.
_DAG_DIGITS: Final = 12


def day_budget(run: TaskRun, *, sleep: Callable[[float], None]) -> DayBudget | None:
    """Return the budget for a task's submission, None if the deployment has no limit of a day.

    :raises ConfigurationError: a limit is not an amount, or workers may not share the folder that it is kept in.
    """
    limits = _limits(run.ti.dag_id)
    if not limits:
        return None
    _check_shared(limits[0].name)
    return _budget(limits, run.submission_id, run.ti, sleep)


def begun_anew(budget: DayBudget | None, attempt: Attempt, *, reuse_answers: bool) -> DayBudget | None:
    """Return the budget for an attempt. Without earlier answers, a clear begins with a bill of zero."""
    if budget is None or reuse_answers:
        return budget
    return replace(budget, lineage=f"{attempt.generation} {attempt.clear_mark or ''}".rstrip())


def settles(reservation: str | None, submission_id: str, ti: TaskInstanceKey) -> Callable[[Bill], None] | None:
    """Return what notes the bill of a submission that another task has sent. None if nothing was reserved for it.

    :param reservation: what the operator's manifest hands over.
    """
    if reservation is None:
        return None
    return partial(_settle, reservation, submission_id, ti)


def _settle(reservation: str, submission_id: str, ti: TaskInstanceKey, bill: Bill) -> None:
    _budget((), submission_id, ti, _no_sleep).settle_handed_over(reservation, bill)


def _budget(
    limits: tuple[DayLimit, ...], submission_id: str, ti: TaskInstanceKey, sleep: Callable[[float], None]
) -> DayBudget:
    return DayBudget(
        limits=limits,
        entries=DayEntries(spending_folder, _about(ti)),
        dag=_dag(ti.dag_id),
        submission_id=submission_id,
        clock=timezone.utcnow,
        sleep=sleep,
    )


def _limits(dag_id: str) -> tuple[DayLimit, ...]:
    of_all, of_dag = settings.max_cost_per_day(), settings.max_cost_per_dag_per_day()
    limits = []
    if of_all is not None:
        limits.append(DayLimit(usd=of_all, name=settings.MAX_COST_PER_DAY))
    if of_dag is not None:
        limits.append(DayLimit(usd=of_dag, name=settings.MAX_COST_PER_DAG_PER_DAY, dag=_dag(dag_id)))
    return tuple(limits)


def _dag(dag_id: str) -> str:
    return hashlib.sha256(dag_id.encode()).hexdigest()[:_DAG_DIGITS]


def _about(ti: TaskInstanceKey) -> dict[str, Any]:
    return {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id, "map_index": ti.map_index}


def _check_shared(name: str) -> None:
    """Refuse a budget that each machine would keep for itself.

    :raises ConfigurationError: the executor may run tasks on several machines, and results_path is not set.
    """
    names = other_machines(executors())
    if names and is_default_root(None):
        raise ConfigurationError(
            f"{name} needs a [claude_batch] results_path that all workers share.",
            f"Nothing was sent. Workers of {', '.join(names)} may not share {results_root(None)}.",
            "Set [claude_batch] results_path to a shared disk or an object store.",
        )


def _no_sleep(seconds: float) -> None:
    """Nothing is waited for when a reservation is settled."""
