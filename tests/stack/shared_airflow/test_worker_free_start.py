"""A sensor that starts in the triggerer, on real processes: no worker starts before its batch has ended."""

from pathlib import Path

import pytest
from airflow_database import task_instances
from airflow_stack import DagStack

from demo.airflow_processes import AirflowProcesses
from shared_airflow.preparations import Preparations
from shared_airflow.worker_free_dag import DAG_ID, is_supported

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not is_supported(), reason="the scheduler starts a worker"),
]

RUN_ID = "run"


def wait_for_both(stack: DagStack, state: str) -> None:
    def reached() -> bool:
        states = [task["state"] for task in task_instances(stack.airflow, DAG_ID, RUN_ID)]
        assert "failed" not in states
        return states == [state, state]

    stack.wait_for(reached, f"both tasks to be {state}")


def workers_logs(airflow: AirflowProcesses, task_id: str) -> list[Path]:
    """Find the logs that workers wrote of a task. The triggerer writes to other files."""
    return list((airflow.home / "logs" / f"dag_id={DAG_ID}").glob(f"**/task_id={task_id}/attempt=?.log"))


def prepare(stack: DagStack) -> None:
    if is_supported():
        stack.airflow.api.trigger(DAG_ID, RUN_ID)
        wait_for_both(stack, "deferred")


def test_no_worker_starts_before_the_batch_has_ended(dag_stack: DagStack, preparations: Preparations) -> None:
    airflow, simulator = dag_stack.airflow, dag_stack.simulators[DAG_ID]
    preparations.result_of(prepare)
    logs = {task_id: len(workers_logs(airflow, task_id)) for task_id in ("from_trigger", "from_worker")}

    simulator.pace(0)
    wait_for_both(dag_stack, "success")

    assert logs == {"from_trigger": 0, "from_worker": 1}
    assert len(workers_logs(airflow, "from_trigger")) == 1
    (batch,) = simulator.books()["batches"]
    manifest = airflow.api.returned(DAG_ID, RUN_ID, "from_trigger")
    assert (manifest["batch_ids"], manifest["counts"]["succeeded"]) == ([batch["id"]], 1)
