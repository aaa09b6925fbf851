"""States of a task instance and of the tasks upstream of it, as Airflow's supervisor knows them.

A user may clear a task without the tasks after it. Until it has finished, Airflow has none of its output: it renders
None. Of a mapped task Airflow counts the outputs that exist. While some are missing, instance 3 may get the output of
instance 4.

Every function here raises what the supervisor's client raises when the state cannot be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch.exceptions import InputError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import BaseOperator, TaskInstance, TaskInstanceKey

#: A task instance in one of these states is running or will run again.
UNFINISHED_STATES: Final = frozenset(
    {"scheduled", "queued", "running", "deferred", "up_for_retry", "up_for_reschedule", "restarting", None}
)
#: The longest time that the report of a start to Airflow's servers is taken to last.
_LONGEST_REPORT: Final = timedelta(minutes=1)
#: Trigger rules by which a task may begin before all upstream tasks have finished.
EAGER_RULES: Final = frozenset({"always", "one_success", "one_failed", "one_done"})


def state_of(ti: TaskInstanceKey) -> str | None:
    """Return the state of the task instance, ``removed`` if there is none. None is a state: it was just cleared."""
    from airflow_claude_batch._airflow.compat import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    key = f"{ti.task_id}_{ti.map_index}" if _is_mapped(ti) else ti.task_id
    state: str | None = states.get(ti.run_id, {}).get(key, "removed")
    return state


def will_run_again(ti: TaskInstanceKey) -> bool:
    """Return True if the task instance runs or will run again; False if it has finished or was removed."""
    return state_of(ti) in UNFINISHED_STATES


def ended_at(ti: TaskInstance) -> datetime | None:
    """Return when the task instance ended, by the clock of Airflow's servers. None if it is not known (before 3.2)."""
    from airflow_claude_batch._airflow.compat import TASK_BREADCRUMBS_SUPPORTED, RuntimeTaskInstance

    if not TASK_BREADCRUMBS_SUPPORTED:
        return None
    for finished in RuntimeTaskInstance.get_task_breadcrumbs(ti.dag_id, ti.run_id):
        if _is_of(ti, finished):
            seconds = finished["duration"]
            return None if seconds is None else _started_at(ti) + timedelta(seconds=seconds)
    return None


def _is_of(ti: TaskInstance, finished: Mapping[str, Any]) -> bool:
    """Return True if Airflow's entry is the task instance's. From 3.4 on, it names the iteration of a loop."""
    ids = (finished["task_id"], finished["map_index"])
    if ids != (ti.task_id, ti.map_index if _is_mapped(ti) else -1):
        return False
    coordinates = [
        (finished[name], getattr(ti, name, None)) for name in ("region_id", "region_index") if name in finished
    ]
    return all(str(ours) == str(theirs) for theirs, ours in coordinates)


def _started_at(ti: TaskInstance) -> datetime:
    """Return the start that Airflow's servers have noted: before ``ti.start_date``, by the time that noting it took.

    The supervisor makes the task's process right before it reports the start.
    """
    from psutil import Process

    created = datetime.fromtimestamp(Process().create_time(), UTC)
    return min(max(created, ti.start_date - _LONGEST_REPORT), ti.start_date)


def unfinished_upstream(ti: TaskInstance) -> list[str]:
    """Return the upstream task instances, near or far, that have not finished; mapped ones as ``send_3``."""
    from airflow_claude_batch._airflow.compat import RuntimeTaskInstance

    task = ti.task
    group = task.get_closest_mapped_task_group()
    same_group = (
        {each.task_id for each in group.iter_tasks()} if group else set()
    )  # of these, only the tasks of this instance's own group instance
    upstream = task.get_flat_relative_ids(upstream=True)
    found: list[str] = []
    for task_ids, map_index in ((upstream - same_group, None), (upstream & same_group, ti.map_index)):
        if task_ids:
            states = RuntimeTaskInstance.get_task_states(
                dag_id=ti.dag_id, task_ids=sorted(task_ids), run_ids=[ti.run_id], map_index=map_index
            )
            found += [name for name, state in states.get(ti.run_id, {}).items() if state in UNFINISHED_STATES]
    return sorted(found)


def check_upstream_complete(ti: TaskInstance) -> None:
    """Check that the outputs of mapped upstream tasks were complete when they were read.

    Call it after reading them: a task that was cleared before the reading is unfinished now.

    :raises InputError: they may not have been.
    """
    from airflow_claude_batch._airflow.compat import RuntimeTaskInstance

    task = ti.task
    if not _is_mapped(ti) and task.trigger_rule in EAGER_RULES:
        return  # its author wants the outputs there are
    mapped = sorted(each for each in task.upstream_task_ids if _gives_several(task.dag.get_task(each), task))
    states = [state or "null" for state in UNFINISHED_STATES]
    if mapped and RuntimeTaskInstance.get_ti_count(
        dag_id=ti.dag_id, task_ids=mapped, run_ids=[ti.run_id], states=states
    ):
        raise InputError(
            f"Not all instances of these upstream tasks have finished: {', '.join(mapped)}.",
            "Nothing was sent or landed, because Airflow may have returned too few outputs, or another instance's.",
            "Retry the task, or clear it once they have finished.",
        )


def _is_mapped(ti: TaskInstanceKey) -> bool:
    return ti.map_index is not None and ti.map_index >= 0


def _gives_several(upstream: Any, task: BaseOperator) -> bool:
    """Return True if an upstream task is mapped; inside a mapped task group, instances see only their own."""
    return upstream.is_mapped or upstream.get_closest_mapped_task_group() not in (
        None,
        task.get_closest_mapped_task_group(),
    )
