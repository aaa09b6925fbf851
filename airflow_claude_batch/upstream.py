"""Whether what a task is made of is being made again.

Somebody cleared a task without those after it. Until it has finished, Airflow has none of its output: it renders None,
or, for a mapped task after a mapped one, the output of a neighbour, because it counts the outputs that are there.
"""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.exceptions import InputError
from airflow_claude_batch.wanted import WANTED_STATES


def under_way(task: Any, ti: Any) -> list[str]:
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
            found += [name for name, state in states.get(ti.run_id, {}).items() if state in WANTED_STATES]
    return sorted(found)


def check_own(task: Any, ti: Any) -> None:
    """Make sure that a mapped task was not given what is its neighbour's.

    :raises InputError: it may have been.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    mapped = sorted(each for each in task.upstream_task_ids if task.dag.get_task(each).is_mapped)
    if ti.map_index < 0 or not mapped:
        return
    states = [state or "null" for state in WANTED_STATES]
    if RuntimeTaskInstance.get_ti_count(dag_id=ti.dag_id, task_ids=mapped, run_ids=[ti.run_id], states=states):
        raise InputError(
            f"{', '.join(mapped)} is being made again, and until it is done Airflow may give a mapped task what is its "
            "neighbour's. Nothing was sent."
        )
