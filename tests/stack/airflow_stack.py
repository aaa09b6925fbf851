"""A real Airflow in processes with the repository's DAGs, for tests."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from migrated_database import migrate

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.simulator import KEY, SimulatorProcess

ROOT = Path(__file__).resolve().parent.parent.parent
DAG_ID = "describe_options"
CONNECTION_ID = "claude_default"
WAREHOUSE_FILE = "warehouse.db"
RUN_SECONDS = 120
UNTIL_ENDED = 3600.0

SETTINGS = {
    "AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL": "1",
    # The simulator lists a batch at once, so a worker that died before its create call need not be searched for long.
    "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE": "20",
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    # Time until a dead process is noticed. The defaults are minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "8",
}

#: Of the Airflow that several test files share.
SHARED_SETTINGS = {
    "AIRFLOW__CORE__PARALLELISM": "7",  # four tasks of by_hand wait in their workers, and one of page
    # A busy machine may need seconds to end a task that was marked failed, and the package asks whether that was long.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
    # A file is parsed again when a test asks for it.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
}


@dataclass
class Stack:
    """An Airflow with the repository's DAGs, and the simulator of its connection."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def connect(self, **fields: Any) -> None:
        """Store the connection of the DAGs."""
        self.airflow.api.put_connection({"connection_id": CONNECTION_ID, "conn_type": "claude", **fields})

    def trigger(self) -> str:
        run_id = f"test__{next(self._numbers)}"
        self.airflow.api.trigger(DAG_ID, run_id)
        return run_id

    def wait_for_task(self, run_id: str, task_id: str, state: str) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            self.airflow.check()
            tasks = {t["task_id"]: t for t in self.airflow.api.task_instances(DAG_ID, run_id)}
            failed = [t["task_id"] for t in tasks.values() if t["state"] == "failed"]
            assert not failed or state == "failed", self.logs(run_id, *failed)
            return tasks[task_id] if tasks[task_id]["state"] == state else None

        return wait_for(found, seconds=RUN_SECONDS, what=f"{task_id} of {run_id} to be {state}")

    def wait_for_success(self, run_id: str) -> list[Row]:
        """Return the rows of a run that has succeeded."""
        self.wait_for_task(run_id, "write_report", "success")
        return list(read_rows(self.returned(run_id, "wait")))

    def returned(self, run_id: str, task_id: str) -> Any:
        return self.airflow.api.returned(DAG_ID, run_id, task_id)

    def logs(self, run_id: str, *task_ids: str) -> str:
        tasks = {t["task_id"]: t for t in self.airflow.api.task_instances(DAG_ID, run_id)}
        api = self.airflow.api
        return "\n".join(
            line for t in task_ids for line in api.log_lines(DAG_ID, run_id, t, tasks[t]["try_number"])[-40:]
        )


@contextmanager
def running_stack(folder: Path, venv: Path) -> Iterator[Stack]:
    settings = {**SETTINGS, **_warehouse(folder), "PYTHONPATH": str(ROOT)}
    with AirflowProcesses(folder / "home", dags_folder=ROOT / "dags", venv=venv, settings=settings) as airflow:
        migrate(airflow)
        simulator = SimulatorProcess.start(airflow.home, batch_seconds=UNTIL_ENDED)
        airflow.supervise(simulator.process)
        airflow.start()
        stack = Stack(airflow, simulator)
        airflow.wait_until_healthy("api-server")
        stack.connect(host=simulator.url, password=KEY)
        airflow.wait_for_dag(DAG_ID)
        airflow.wait_until_healthy()
        yield stack


Simulators = Mapping[str, SimulatorProcess]


@dataclass(frozen=True)
class DagStack:
    """An Airflow with the DAGs of several test files.

    :param simulators: the simulator of each connection. Batches run until a test ends them.
    :param warehouse: the SQLite database of the connection ``warehouse``.
    """

    airflow: AirflowProcesses
    simulators: Simulators
    dags_folder: Path
    warehouse: Path


@contextmanager
def running_dags(
    folder: Path, connections: Iterable[str], sources: Mapping[str, Callable[[Simulators], str]], **more_settings: str
) -> Iterator[DagStack]:
    """Run an Airflow with these DAGs.

    :param connections: the connections of the DAGs. Each gets a simulator of its own.
    :param sources: by DAG id, a function that takes the simulators and returns the text of the DAG's file.
    """
    home, dags = folder / "home", folder / "dags"
    dags.mkdir()
    settings = {**SETTINGS, **SHARED_SETTINGS, **_warehouse(folder), "PYTHONPATH": str(ROOT), **more_settings}
    with AirflowProcesses(home, dags_folder=dags, venv=environment(), settings=settings) as airflow:
        migrate(airflow)
        simulators = {}
        for name in connections:
            simulators[name] = SimulatorProcess.start(home, name=name, batch_seconds=UNTIL_ENDED)
            airflow.supervise(simulators[name].process)
        # Written before the DAG processor starts, because it finds new files every few minutes only.
        for dag_id, source in sources.items():
            (dags / f"{dag_id}.py").write_text(source(simulators))
        airflow.start()
        airflow.wait_until_healthy("api-server")
        for name, simulator in simulators.items():
            server = {"host": simulator.url, "password": KEY}
            airflow.api.put_connection({"connection_id": name, "conn_type": "claude", **server})
        for dag_id in sources:
            airflow.wait_for_dag(dag_id)
        airflow.wait_until_healthy()
        yield DagStack(airflow, simulators, dags, folder / WAREHOUSE_FILE)


def _warehouse(folder: Path) -> dict[str, str]:
    """Return the setting of the connection to the tables of the examples."""
    return {"AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(folder / WAREHOUSE_FILE)})}


def environment() -> Path:
    """Return the virtual environment with the tested Airflow. Default: the one of this Python."""
    return Path(os.environ.get("STACK_VENV", sys.prefix)).absolute()
