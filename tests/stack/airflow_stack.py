"""A real Airflow in processes with the repository's DAGs, for tests."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

import httpx
from airflow_database import missing_dags, run_state, task_instances
from failure_report import reported
from migrated_database import migrate

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.errors import DemoError
from demo.loopback import LOOPBACK
from demo.simulator import KEY, SimulatorProcess

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent.parent
DAG_ID = "describe_options"
CONNECTION_ID = "claude_default"
WAREHOUSE_FILE = "warehouse.db"
#: How long a test waits at most. On a busy machine with two cores, a few tasks may need minutes.
RUN_SECONDS = 600
#: How long a test may take, with the start of Airflow and all its waits.
TEST_SECONDS = 1800
UNTIL_ENDED = 3600.0

SETTINGS = {
    "AIRFLOW__CLAUDE_BATCH__POLL_INTERVAL": "1",
    # The simulator lists a batch at once, so a worker that died before its create call need not be searched for long.
    "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE": "20",
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    # Time until a dead process is noticed. The defaults are minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "12",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "8",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "2",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "12",
}

#: Of the Airflow that several test files share.
SHARED_SETTINGS = {
    "AIRFLOW__CORE__EXECUTOR": f"warm_executor.{'Patient' if AIRFLOW_VERSION < (3, 1) else 'Warm'}LocalExecutor",
    # Four tasks of by_hand wait in their workers, four of cleared_upstream, and one of page.
    "AIRFLOW__CORE__PARALLELISM": "12",
    # A scheduler that has to wait for long takes itself for dead, and starts its tasks again.
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "60",
    # A busy machine may need seconds to end a task that was marked failed, and the package asks whether that was long.
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    # What earlier versions give a task to end after its SIGTERM. Airflow 3.4 gives it a minute by default, twice.
    "AIRFLOW__CORE__KILLED_TASK_CLEANUP_TIME": "5",
    # Each round looks at every run. Most tasks here wait for minutes.
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "3",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
    # A file is parsed again when a test asks for it.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "3600",
    # Airflow 3.0 takes a callback of a DAG for a parse of its file that finds no DAG. If that is later than this after
    # the last parse, it schedules no task of the DAG until the next one.
    "AIRFLOW__DAG_PROCESSOR__STALE_DAG_THRESHOLD": "3600",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
}


@dataclass
class Stack:
    """A DAG, the main example or a copy of it, its Airflow, and the simulator of its connection."""

    airflow: AirflowProcesses
    simulator: SimulatorProcess
    dag_id: str = DAG_ID
    is_stopping: Event = field(default_factory=Event)

    def connect(self, **fields: Any) -> None:
        """Store the connection of the DAGs."""
        self.airflow.api.put_connection({"connection_id": CONNECTION_ID, "conn_type": "claude", **fields})

    def trigger(self, run_id: str) -> None:
        self.airflow.api.trigger(self.dag_id, run_id)

    def wait_for_task(self, run_id: str, task_id: str, state: str) -> dict[str, Any]:
        what = f"{task_id} of {self.dag_id} {run_id} to be {state}"

        def found() -> dict[str, Any] | None:
            _check(self, what)
            tasks = {t["task_id"]: t for t in task_instances(self.airflow, self.dag_id, run_id)}
            failed = [t["task_id"] for t in tasks.values() if t["state"] == "failed"]
            assert not failed or state == "failed", self.logs(run_id, *failed)
            return tasks[task_id] if tasks[task_id]["state"] == state else None

        return wait_for(found, seconds=RUN_SECONDS, what=what)

    def wait_for_success(self, run_id: str) -> list[Row]:
        """Return the rows of a run that has succeeded."""
        self.wait_for_task(run_id, "write_report", "success")
        return list(read_rows(self.returned(run_id, "wait")))

    def returned(self, run_id: str, task_id: str) -> Any:
        return self.airflow.api.returned(self.dag_id, run_id, task_id)

    def logs(self, run_id: str, *task_ids: str) -> str:
        tasks = {t["task_id"]: t for t in task_instances(self.airflow, self.dag_id, run_id)}
        api = self.airflow.api
        return "\n".join(
            line for t in task_ids for line in api.log_lines(self.dag_id, run_id, t, tasks[t]["try_number"])[-40:]
        )


@contextmanager
def running_stack(folder: Path, venv: Path) -> Iterator[Stack]:
    settings = {**SETTINGS, **_warehouse(folder), "PYTHONPATH": str(ROOT)}
    with (
        AirflowProcesses(folder / "home", dags_folder=ROOT / "dags", venv=venv, settings=settings) as airflow,
        reported(airflow.home),
    ):
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
    :param is_stopping: is set when nobody waits for anything any more.
    """

    airflow: AirflowProcesses
    simulators: Simulators
    dags_folder: Path
    warehouse: Path
    is_stopping: Event = field(default_factory=Event)

    def wait_for(self, check: Callable[[], T | None], what: str) -> T:
        """Call ``check`` until it returns something true, and return that.

        :raises DemoError: when that takes too long, or when Airflow has stopped.
        """

        def checked() -> T | None:
            _check(self, what)
            return check()

        return wait_for(checked, seconds=RUN_SECONDS, what=what)


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
    install_modules(home, Path(__file__).with_name("warm_executor.py"))
    settings = {**SETTINGS, **SHARED_SETTINGS, **_warehouse(folder), "PYTHONPATH": str(ROOT), **more_settings}
    with (
        AirflowProcesses(home, dags_folder=dags, venv=environment(), settings=settings) as airflow,
        reported(airflow.home),
    ):
        migrate(airflow)
        airflow.start("api-server", "scheduler", "triggerer")
        simulators = _start_simulators(airflow, connections)
        # Written before the DAG processor starts, because it finds new files every few minutes only.
        for dag_id, source in sources.items():
            (dags / f"{dag_id}.py").write_text(source(simulators))
        airflow.start("dag-processor")
        airflow.wait_until_healthy("api-server")
        airflow.api.create_connections(
            [
                {"connection_id": name, "conn_type": "claude", "host": simulator.url, "password": KEY}
                for name, simulator in simulators.items()
            ]
        )
        _wait_for_dags(airflow, sources)
        _wait_for_execution_api(airflow)
        airflow.wait_until_healthy()
        yield DagStack(airflow, simulators, dags, folder / WAREHOUSE_FILE)


def _check(stack: Stack | DagStack, what: str) -> None:
    if stack.is_stopping.is_set():
        raise DemoError(f"Nobody waits for {what} any more.")
    stack.airflow.check()


def install_modules(home: Path, *files: Path) -> None:
    """Copy modules to the folder from which Airflow imports what its configuration names."""
    (home / "config").mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copy(file, home / "config")


def _start_simulators(airflow: AirflowProcesses, names: Iterable[str]) -> Simulators:
    """Start a simulator for each name, all at the same time."""
    start = partial(SimulatorProcess.start, airflow.home, batch_seconds=UNTIL_ENDED)
    with ThreadPoolExecutor() as threads:
        started = {name: threads.submit(start, name=name) for name in names}
    for simulator in started.values():
        if not simulator.exception():
            airflow.supervise(simulator.result().process)
    return {name: simulator.result() for name, simulator in started.items()}


def _wait_for_dags(airflow: AirflowProcesses, dag_ids: Iterable[str]) -> None:
    def are_known() -> bool:
        airflow.check()
        return not missing_dags(airflow, dag_ids)

    wait_for(are_known, seconds=RUN_SECONDS, what="the DAG processor to parse every DAG")


def _wait_for_execution_api(airflow: AirflowProcesses) -> None:
    """Wait until Airflow answers its tasks. On a busy machine, its first answer takes longer than a task waits."""

    def answers() -> bool:
        airflow.check()
        response = httpx.get(f"{airflow.url}/execution/health", timeout=RUN_SECONDS, **LOOPBACK)
        return not response.is_server_error

    wait_for(answers, seconds=RUN_SECONDS, what="Airflow's API for tasks")


def clear_ended_run(airflow: AirflowProcesses, dag_id: str, run_id: str, *task_ids: str) -> None:
    """Wait until the run has ended, and clear tasks of it.

    Airflow queues only a run again that has ended. If the scheduler is about to end the run while its last task is
    cleared, the run ends although the task has no state any more, and the task never runs.
    """

    def has_ended() -> bool:
        airflow.check()
        return run_state(airflow, dag_id, run_id) in ("success", "failed")

    wait_for(has_ended, seconds=RUN_SECONDS, what=f"{run_id} of {dag_id} to end")
    airflow.api.clear(dag_id, run_id, *task_ids)


def _warehouse(folder: Path) -> dict[str, str]:
    """Return the setting of the connection to the tables of the examples."""
    return {"AIRFLOW_CONN_WAREHOUSE": json.dumps({"conn_type": "sqlite", "host": str(folder / WAREHOUSE_FILE)})}


def environment() -> Path:
    """Return the virtual environment with the tested Airflow. Default: the one of this Python."""
    return Path(os.environ.get("STACK_VENV", sys.prefix)).absolute()
