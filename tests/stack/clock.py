"""An Airflow whose scheduler follows the clock, with DAGs that wait to be switched on, each with its own simulator."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_stack import ROOT, RUN_SECONDS, SETTINGS, environment
from migrated_database import migrate

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from demo.airflow_api import AirflowApi, wait_for
from demo.airflow_processes import AirflowProcesses
from demo.simulator import KEY, SimulatorProcess

CLOCK_DAGS = Path(__file__).parent / "clock_dags"
DAG_IDS = ("mapped", "diary", "pooled", "revised")
CONNECTIONS = ("claude_default", "diary", "left_when_deferred", "kept_when_deferred", "revised")

CLOCK_SETTINGS = {
    **SETTINGS,
    "PYTHONPATH": str(ROOT),
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
    # A changed file is read again after half a minute by default, and written into the database as seldom.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
}


def example_with_a_past() -> str:
    """The example ``mapped`` as it stands, with a schedule that began and ended long ago."""
    source = (ROOT / "dags" / "mapped.py").read_text()
    schedule = 'schedule="@monthly"'
    assert source.count(schedule) == source.count("from airflow.sdk import") == 1
    past = "start_date=pendulum.datetime(2026, 1, 1), end_date=pendulum.datetime(2026, 3, 31), catchup=True"
    source = source.replace("from airflow.sdk import", "import pendulum\nfrom airflow.sdk import")
    return source.replace(schedule, f"{schedule}, {past}")


@dataclass
class Clock:
    """The Airflow, and the simulator behind each connection; batches run until told to end."""

    airflow: AirflowProcesses
    simulators: Mapping[str, SimulatorProcess]
    dags_folder: Path

    @property
    def api(self) -> AirflowApi:
        return self.airflow.api

    def begin(self) -> None:
        """Switch everything on at once, so that what waits does so side by side."""
        for dag_id in DAG_IDS:
            self.api.unpause(dag_id)
        for dag_id in ("pooled", "revised"):
            self.api.trigger(dag_id, "run")

    def replace_dag(self, dag_id: str, source: Path, description: str) -> None:
        """Put another file in a DAG's place; return when Airflow knows it, by its description."""
        shutil.copy(source, self.dags_folder / f"{dag_id}.py")

        def known() -> bool:
            self.airflow.check()
            return (self.api.dag(dag_id) or {}).get("description") == description

        wait_for(known, seconds=RUN_SECONDS, what=f"the dag-processor to read the new {dag_id}", pause_seconds=1)

    def states(self, dag_id: str, task_id: str) -> list[str]:
        """Of the task's instances in all runs, sorted."""
        self.airflow.check()
        states = [
            str(ti["state"])
            for run in self.api.runs(dag_id)
            for ti in self.api.task_instances(dag_id, run["dag_run_id"])
            if ti["task_id"] == task_id
        ]
        assert not {"failed", "upstream_failed"}.intersection(states), f"the logs are in {self.airflow.home}"
        return sorted(states)

    def wait_for_states(self, dag_id: str, task_id: str, *states: str) -> None:
        what = f"{task_id} of {dag_id} to be {', '.join(states)}"
        wanted = sorted(states)
        wait_for(lambda: self.states(dag_id, task_id) == wanted, seconds=RUN_SECONDS, what=what, pause_seconds=1)

    def wait_for_runs(self, dag_id: str, count: int) -> list[dict[str, Any]]:
        """The DAG's runs, once they are that many and have all succeeded."""

        def ended() -> list[dict[str, Any]] | None:
            self.airflow.check()
            runs = self.api.runs(dag_id)
            assert "failed" not in {run["state"] for run in runs}, f"the logs are in {self.airflow.home}"
            return runs if [run["state"] for run in runs] == ["success"] * count else None

        return wait_for(ended, seconds=RUN_SECONDS, what=f"{count} runs of {dag_id} to succeed", pause_seconds=1)

    def let_the_scheduler_look(self) -> None:
        """Return when the scheduler has gone through its loop, from begin to end, since this call."""
        self.airflow.wait_until_healthy("scheduler")
        self.airflow.wait_until_healthy("scheduler")

    def manifest(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        return dict(self.api.returned(dag_id, run_id, task_id, map_index))

    def batch_ids(self, connection: str) -> list[str]:
        return [batch["id"] for batch in self.simulators[connection].books()["batches"]]

    def billed(self, connection: str) -> list[int]:
        """How often each distinct request was billed."""
        return sorted(self.simulators[connection].books(detail=True)["billed"].values())

    def canceled(self, connection: str) -> int:
        return int(self.simulators[connection].books()["calls"].get("cancel", 0))


@contextmanager
def running_clock(folder: Path, start_simulator: Callable[[], SimulatorProcess]) -> Iterator[Clock]:
    dags = folder / "dags"
    dags.mkdir()
    for dag_id in DAG_IDS[1:]:
        shutil.copy(CLOCK_DAGS / f"{dag_id}.py", dags)
    (dags / "mapped.py").write_text(example_with_a_past())
    with AirflowProcesses(folder / "home", dags_folder=dags, venv=environment(), settings=CLOCK_SETTINGS) as airflow:
        migrate(airflow)
        simulators = {name: start_simulator() for name in CONNECTIONS}
        airflow.start()
        airflow.wait_until_healthy("api-server")
        for name, simulator in simulators.items():
            where = {"host": simulator.url, "password": KEY}
            airflow.api.put_connection({"connection_id": name, "conn_type": "claude", **where})
        airflow.api.put_pool("left_when_deferred", slots=1, include_deferred=False)
        airflow.api.put_pool("kept_when_deferred", slots=1, include_deferred=True)
        for dag_id in DAG_IDS:
            airflow.wait_for_dag(dag_id)
        airflow.wait_until_healthy()
        yield Clock(airflow, simulators, dags)


def texts(manifest: Mapping[str, Any]) -> dict[Any, str | None]:
    """The answers by key, in the rows' order; every row must have one."""
    rows: list[Row] = list(read_rows(manifest))
    assert {row.status for row in rows} == {"succeeded"}
    return {row.key: row.text for row in rows}
