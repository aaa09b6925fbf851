"""Tasks are marked failed or cleared by hand on a real Airflow while their batches run."""

from functools import partial

import pytest
from airflow_stack import RUN_SECONDS, DagStack

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.simulator import SimulatorProcess

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "by_hand", "run"
FAILED, CLEARED = {"failed_in_worker": 1, "failed_when_deferred": 2}, {"cleared_when_deferred": 3}


def states(airflow: AirflowProcesses) -> dict[str, str]:
    airflow.check()
    return {ti["task_id"]: ti["state"] for ti in airflow.api.task_instances(DAG_ID, RUN_ID)}


def is_watched(airflow: AirflowProcesses, task_id: str) -> bool:
    lines = airflow.api.log_lines(DAG_ID, RUN_ID, task_id, 1)
    return any("Waiting for all of these message batches" in line for line in lines)


def canceled(simulator: SimulatorProcess) -> list[int]:
    """Return the numbers of requests of the canceled batches."""
    ids = simulator.canceled_batch_ids()
    return sorted(batch["request_count"] for batch in simulator.books()["batches"] if batch["id"] in ids)


def test_tasks_marked_failed_cancel_their_batches_and_a_cleared_task_keeps_its_batch(dag_stack: DagStack) -> None:
    airflow, simulator = dag_stack.airflow, dag_stack.simulators[DAG_ID]
    airflow.api.trigger(DAG_ID, RUN_ID)
    waiting = {task_id: "running" if task_id.endswith("worker") else "deferred" for task_id in FAILED | CLEARED}
    wait_for(lambda: states(airflow) == waiting, seconds=RUN_SECONDS, what="every task to wait")
    wait_for(lambda: len(simulator.books()["batches"]) == 3, seconds=RUN_SECONDS, what="every batch to be created")
    # Airflow deletes a trigger that no triggerer has started yet. Nothing would cancel its batch then.
    for task_id, state in waiting.items():
        if state == "deferred":
            wait_for(partial(is_watched, airflow, task_id), seconds=RUN_SECONDS, what=f"the trigger of {task_id}")

    for task_id in FAILED:
        airflow.api.mark(DAG_ID, RUN_ID, task_id, "failed")
    airflow.api.clear(DAG_ID, RUN_ID, *CLEARED)

    expected = sorted(FAILED.values())
    wait_for(lambda: canceled(simulator) == expected, seconds=RUN_SECONDS, what="the failed tasks to be canceled")
    simulator.pace(0)
    (cleared,) = CLEARED
    wait_for(lambda: states(airflow)[cleared] == "success", seconds=RUN_SECONDS, what=f"{cleared} to succeed")
    assert canceled(simulator) == expected
    assert len(simulator.books()["batches"]) == 3
    assert airflow.api.returned(DAG_ID, RUN_ID, cleared)["counts"]["succeeded"] == CLEARED[cleared]
    (extra,) = airflow.api.asset_extras(DAG_ID)
    assert extra["counts"]["succeeded"] == CLEARED[cleared]
