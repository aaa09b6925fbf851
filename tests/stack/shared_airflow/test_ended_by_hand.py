"""Tasks are ended on a real Airflow while their batches run: by a user, or because their workers stood still."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest
from airflow_database import task_instances
from airflow_stack import RUN_SECONDS, DagStack

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.simulator import SimulatorProcess
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "by_hand", "run"
FAILED = {
    "failed_in_worker": 1,
    "failed_when_deferred": 2,
    "sensor_failed_in_worker": 6,
    "sensor_failed_when_deferred": 7,
}
CLEARED = {"cleared_when_deferred": 3}
#: A sensor without ``cancel_on_kill``.
KEPT = {"sensor_kept_when_deferred": 8}
STOPPED = {"stopped_in_worker": 4, "supervisor_stopped": 5}


def states(airflow: AirflowProcesses) -> dict[str, str]:
    airflow.check()
    instances = task_instances(airflow, DAG_ID, RUN_ID)
    return {ti["task_id"]: ti["state"] for ti in instances if not ti["task_id"].startswith("send_")}


def is_watched(airflow: AirflowProcesses, task_id: str) -> bool:
    lines = airflow.api.log_lines(DAG_ID, RUN_ID, task_id, 1)
    return any("Waiting for all of these message batches" in line for line in lines)


def says_that_batch_goes_on(airflow: AirflowProcesses, task_id: str) -> bool:
    lines = airflow.api.log_lines(DAG_ID, RUN_ID, task_id, 1)
    return any("goes on, and is billed: cancel_on_kill is off." in line for line in lines)


def has_succeeded(airflow: AirflowProcesses, task_id: str) -> bool:
    return states(airflow)[task_id] == "success"


def canceled(simulator: SimulatorProcess) -> list[int]:
    """Return the numbers of requests of the canceled batches."""
    ids = simulator.canceled_batch_ids()
    return sorted(batch["request_count"] for batch in simulator.books()["batches"] if batch["id"] in ids)


def pid_of(airflow: AirflowProcesses, task_id: str) -> int:
    return next(int(ti["pid"]) for ti in task_instances(airflow, DAG_ID, RUN_ID) if ti["task_id"] == task_id)


def parent_of(pid: int) -> int:
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["PPid"])


def let_workers_stand_still(stack: DagStack, pids: list[int]) -> None:
    """Stop processes until the scheduler has failed their tasks, which sent no heartbeat, and let them continue."""
    airflow = stack.airflow
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        stack.wait_for(
            lambda: {states(airflow)[task_id] for task_id in STOPPED} == {"failed"},
            "the tasks to be failed by the scheduler",
        )
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def prepare(stack: DagStack) -> None:
    """Run the tasks until all of them wait, and let some of their workers stand still."""
    airflow, simulator = stack.airflow, stack.simulators[DAG_ID]
    airflow.api.trigger(DAG_ID, RUN_ID)
    waiting = {id_: "deferred" if id_.endswith("deferred") else "running" for id_ in FAILED | STOPPED | CLEARED | KEPT}
    stack.wait_for(lambda: states(airflow) == waiting, "every task to wait")
    stack.wait_for(lambda: len(simulator.books()["batches"]) == 8, "every batch to be created")
    # Airflow deletes a trigger that no triggerer has started yet. Nothing would cancel its batch then.
    for task_id, state in waiting.items():
        if state == "deferred":
            stack.wait_for(partial(is_watched, airflow, task_id), f"the trigger of {task_id}")

    workers = {task_id: pid_of(airflow, task_id) for task_id in STOPPED}
    supervisors = [parent_of(pid) for pid in workers.values()]
    let_workers_stand_still(stack, [*supervisors, workers["stopped_in_worker"]])
    stack.wait_for(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers.values()),
        "the workers that stood still to be ended",
    )
    assert canceled(simulator) == []


def test_tasks_marked_failed_cancel_their_batches_and_a_cleared_task_keeps_its_batch(
    dag_stack: DagStack, preparations: Preparations
) -> None:
    airflow, simulator = dag_stack.airflow, dag_stack.simulators[DAG_ID]
    preparations.result_of(prepare)

    for task_id in FAILED | KEPT:
        airflow.api.mark(DAG_ID, RUN_ID, task_id, "failed")
    for task_id in KEPT:
        wait_for(partial(says_that_batch_goes_on, airflow, task_id), seconds=RUN_SECONDS, what=f"the log of {task_id}")
    airflow.api.clear(DAG_ID, RUN_ID, *CLEARED, *STOPPED, *KEPT)

    expected = sorted(FAILED.values())
    wait_for(lambda: canceled(simulator) == expected, seconds=RUN_SECONDS, what="the failed tasks to be canceled")
    simulator.pace(0)
    for task_id, count in (CLEARED | STOPPED | KEPT).items():
        wait_for(partial(has_succeeded, airflow, task_id), seconds=RUN_SECONDS, what=f"{task_id} to succeed")
        assert airflow.api.returned(DAG_ID, RUN_ID, task_id)["counts"]["succeeded"] == count
    assert canceled(simulator) == expected
    assert len(simulator.books()["batches"]) == 8
    (cleared,) = CLEARED
    (extra,) = airflow.api.asset_extras(DAG_ID)
    assert extra["counts"]["succeeded"] == CLEARED[cleared]
