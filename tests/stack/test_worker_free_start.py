"""A sensor that starts in the triggerer, on real processes: no worker starts before its batch has ended."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from airflow_stack import ROOT, SETTINGS, UNTIL_ENDED, environment
from migrated_database import migrate

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses, airflow_version
from demo.simulator import KEY, SimulatorProcess

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(
        tuple(map(int, airflow_version(environment()).split(".")[:2])) < (3, 3), reason="the scheduler starts a worker"
    ),
]

DAG_ID = "starts_in_the_triggerer"
RUN_ID = "run"
DAG = """
from airflow.sdk import DAG
from airflow_claude_batch.sensors import MessageBatchSensor

with DAG({dag_id!r}, schedule=None):
    MessageBatchSensor(task_id="from_trigger", batch={batch_id!r}, deferrable=True, start_from_trigger=True)
    MessageBatchSensor(task_id="from_worker", batch={batch_id!r}, deferrable=True)
"""


@dataclass(frozen=True)
class Running:
    """An Airflow with the DAG above, and the simulator where its batch runs until the test ends it."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    batch_id: str


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    settings = {**SETTINGS, "PYTHONPATH": str(ROOT)}
    dags = tmp_path / "dags"
    dags.mkdir()
    with AirflowProcesses(tmp_path / "home", dags_folder=dags, venv=environment(), settings=settings) as airflow:
        migrate(airflow)
        simulator = SimulatorProcess.start(airflow.home, batch_seconds=UNTIL_ENDED)
        airflow.supervise(simulator.process)
        batch_id = create_batch(simulator)
        # Written before the DAG processor starts, because it finds new files every few minutes only.
        (dags / f"{DAG_ID}.py").write_text(DAG.format(dag_id=DAG_ID, batch_id=batch_id))
        airflow.start()
        airflow.wait_until_healthy("api-server")
        connection = {"connection_id": "claude_default", "conn_type": "claude", "host": simulator.url, "password": KEY}
        airflow.api.put_connection(connection)
        airflow.wait_for_dag(DAG_ID)
        airflow.wait_until_healthy()
        yield Running(airflow, simulator, batch_id)


def create_batch(simulator: SimulatorProcess) -> str:
    message = {"role": "user", "content": "Hello"}
    params = {"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [message]}
    response = httpx.post(
        f"{simulator.url}/v1/messages/batches",
        json={"requests": [{"custom_id": "only", "params": params}]},
        headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        trust_env=False,
    )
    return str(response.raise_for_status().json()["id"])


def wait_for_both(airflow: AirflowProcesses, state: str) -> None:
    def reached() -> bool:
        airflow.check()
        states = [task["state"] for task in airflow.api.task_instances(DAG_ID, RUN_ID)]
        assert "failed" not in states
        return states == [state, state]

    wait_for(reached, seconds=120, what=f"both tasks to be {state}")


def workers_logs(airflow: AirflowProcesses, task_id: str) -> list[Path]:
    """Find the logs that workers wrote of a task. The triggerer writes to other files."""
    return list((airflow.home / "logs" / f"dag_id={DAG_ID}").glob(f"**/task_id={task_id}/attempt=?.log"))


def test_no_worker_starts_before_the_batch_has_ended(running: Running) -> None:
    airflow = running.airflow
    airflow.api.trigger(DAG_ID, RUN_ID)
    wait_for_both(airflow, "deferred")
    logs = {task_id: len(workers_logs(airflow, task_id)) for task_id in ("from_trigger", "from_worker")}

    running.simulator.pace(0)
    wait_for_both(airflow, "success")

    assert logs == {"from_trigger": 0, "from_worker": 1}
    assert len(workers_logs(airflow, "from_trigger")) == 1
    manifest = airflow.api.returned(DAG_ID, RUN_ID, "from_trigger")
    assert (manifest["batch_ids"], manifest["counts"]["succeeded"]) == ([running.batch_id], 1)
