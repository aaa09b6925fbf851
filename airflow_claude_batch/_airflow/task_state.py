"""Whether what a task is made of is being made again.

Somebody cleared a task without those after it. Until it has finished, Airflow has none of its output: it renders None.
Of a mapped task it counts the outputs that are there: all of them are fewer then, and instance 3's may be instance 4's.
"""

from __future__ import annotations

from typing import Any, Final

from airflow_claude_batch.exceptions import InputError

#: A task in one of these states goes on, or will be run again: somebody wants the batches.
UNFINISHED_STATES: Final = frozenset(
    {"scheduled", "queued", "running", "deferred", "up_for_retry", "up_for_reschedule", "restarting", None}
)


def will_run_again(ti: Any) -> bool:
    """Ask Airflow for the state of the task instance; one that is not there any more is not wanted.

    Whatever it raises, it could not be told.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    of_run = states.get(ti.run_id, {})
    return key in of_run and of_run[key] in UNFINISHED_STATES


#: Those by which a task may begin before all that is above it has finished.
EAGER_RULES: Final = frozenset({"always", "one_success", "one_failed", "one_done"})


def unfinished_upstream(task: Any, ti: Any) -> list[str]:
    """The task instances above this one, near or far, that have not finished; mapped ones as ``send_3``.

    Whatever it raises, it could not be told.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    group = task.get_closest_mapped_task_group()
    beside = {each.task_id for each in group.iter_tasks()} if group else set()  # of which only this instance's count
    above = task.get_flat_relative_ids(upstream=True)
    found: list[str] = []
    for task_ids, map_index in ((above - beside, None), (above & beside, ti.map_index)):
        if task_ids:
            states = RuntimeTaskInstance.get_task_states(
                dag_id=ti.dag_id, task_ids=sorted(task_ids), run_ids=[ti.run_id], map_index=map_index
            )
            found += [name for name, state in states.get(ti.run_id, {}).items() if state in UNFINISHED_STATES]
    return sorted(found)


def check_upstream_complete(task: Any, ti: Any) -> None:
    """Make sure that what mapped tasks have given is all of it, and what a mapped task was given its own.

    Asked once it was read: what was forgotten before is being made by now.

    :raises InputError: it may not be.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    if ti.map_index < 0 and task.trigger_rule in EAGER_RULES:
        return  # its author wants what is there
    mapped = sorted(each for each in task.upstream_task_ids if _gives_several(task.dag.get_task(each), task))
    states = [state or "null" for state in UNFINISHED_STATES]
    if mapped and RuntimeTaskInstance.get_ti_count(
        dag_id=ti.dag_id, task_ids=mapped, run_ids=[ti.run_id], states=states
    ):
        raise InputError(
            f"{', '.join(mapped)} is being made again. Until it is done, Airflow may give too little of it, or give a "
            "mapped task what is its neighbour's, so nothing was sent or landed. A retry will do, or a clear "
            "once it is done."
        )


def _gives_several(above: Any, task: Any) -> bool:
    """Whether a task is mapped as seen from another: inside of a mapped task group, instances see only their own."""
    return above.is_mapped or above.get_closest_mapped_task_group() not in (None, task.get_closest_mapped_task_group())
