"""Whether a task instance goes on, asked when it is being ended: a crash looks like a kill by hand."""

from __future__ import annotations

from typing import Any, Final

#: A task in one of these states goes on, or will be run again: somebody wants the batches.
WANTED_STATES: Final = frozenset(
    {"scheduled", "queued", "running", "deferred", "up_for_retry", "up_for_reschedule", "restarting", None}
)


def is_wanted(ti: Any) -> bool:
    """Ask Airflow for the state of the task instance; one that is not there any more is not wanted.

    Whatever it raises, it could not be told.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    states = RuntimeTaskInstance.get_task_states(
        dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id], map_index=ti.map_index
    )
    key = ti.task_id if ti.map_index < 0 else f"{ti.task_id}_{ti.map_index}"
    of_run = states.get(ti.run_id, {})
    return key in of_run and of_run[key] in WANTED_STATES
