"""An Airflow whose scheduler follows the DAGs' schedules. Its DAGs are paused at first, each with its own simulator."""

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

SCHEDULING_DAGS = Path(__file__).parent / "scheduling_dags"
DAG_IDS = ("mapped", "diary", "pooled", "revised")
CONNECTIONS = ("claude_default", "diary", "left_when_deferred", "kept_when_deferred", "revised")

SCHEDULING_SETTINGS = {
    **SETTINGS,
    "PYTHONPATH": str(ROOT),
    "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": "True",
    "AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS": "True",
    # By default, changed files are parsed and stored every 30 seconds only.
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "10",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_UPDATE_INTERVAL": "0",
    "AIRFLOW__CORE__MIN_SERIALIZED_DAG_FETCH_INTERVAL": "0",
}


def example_with_past_schedule() -> str:
    """Return the source of the example ``mapped``, with a schedule that began and ended in the past."""
    source = (ROOT / "dags" / "mapped.py").read_text()
    schedule = 'schedule="@monthly"'
    assert source.count(schedule) == source.count("from airflow.sdk import") == 1
    past = "start_date=pendulum.datetime(2026, 1, 1), end_date=pendulum.datetime(2026, 3, 31), catchup=True"
    source = source.replace("from airflow.sdk import", "import pendulum\nfrom airflow.sdk import")
    return source.replace(schedule, f"{schedule}, {past}")


@dataclass
class SchedulingStack:
    """The Airflow, and the simulator of each connection. Batches run until a test ends them."""

    airflow: AirflowProcesses
    simulators: Mapping[str, SimulatorProcess]
    dags_folder: Path

    @property
    def api(self) -> AirflowApi:
        return self.airflow.api

    def begin(self) -> None:
        """Unpause all DAGs at once, so that they wait in parallel."""
        for dag_id in DAG_IDS:
            self.api.unpause(dag_id)
        for dag_id in ("pooled", "revised"):
            self.api.trigger(dag_id, "run")

    def replace_dag(self, dag_id: str, source: Path, description: str) -> None:
        """Replace the file of a DAG. Wait until Airflow has parsed it, by its description."""
        shutil.copy(source, self.dags_folder / f"{dag_id}.py")

        def known() -> bool:
            self.airflow.check()
            return (self.api.dag(dag_id) or {}).get("description") == description

        wait_for(known, seconds=RUN_SECONDS, what=f"the DAG processor to parse the new {dag_id}", pause_seconds=1)

    def states(self, dag_id: str, task_id: str) -> list[str]:
        """Return the states of the task's instances in all runs, sorted."""
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
        expected = sorted(states)
        wait_for(lambda: self.states(dag_id, task_id) == expected, seconds=RUN_SECONDS, what=what, pause_seconds=1)

    def wait_for_runs(self, dag_id: str, count: int) -> list[dict[str, Any]]:
        """Wait until the DAG has this many runs and all have succeeded. Returns them."""

        def ended() -> list[dict[str, Any]] | None:
            self.airflow.check()
            runs = self.api.runs(dag_id)
            assert "failed" not in {run["state"] for run in runs}, f"the logs are in {self.airflow.home}"
            return runs if [run["state"] for run in runs] == ["success"] * count else None

        return wait_for(ended, seconds=RUN_SECONDS, what=f"{count} runs of {dag_id} to succeed", pause_seconds=1)

    def wait_for_scheduler_loop(self) -> None:
        """Wait until the scheduler has completed its whole loop once."""
        self.airflow.wait_until_healthy("scheduler")
        self.airflow.wait_until_healthy("scheduler")

    def manifest(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> dict[str, Any]:
        return dict(self.api.returned(dag_id, run_id, task_id, map_index))

    def batch_ids(self, connection: str) -> list[str]:
        return [batch["id"] for batch in self.simulators[connection].books()["batches"]]

    def billed(self, connection: str) -> list[int]:
        """Return how often each distinct request was billed."""
        return sorted(self.simulators[connection].books(detail=True)["billed"].values())

    def canceled(self, connection: str) -> int:
        return int(self.simulators[connection].books()["calls"].get("cancel", 0))


@contextmanager
def running_scheduling_stack(
    folder: Path, start_simulator: Callable[[], SimulatorProcess]
) -> Iterator[SchedulingStack]:
    dags = folder / "dags"
    dags.mkdir()
    for dag_id in DAG_IDS[1:]:
        shutil.copy(SCHEDULING_DAGS / f"{dag_id}.py", dags)
    (dags / "mapped.py").write_text(example_with_past_schedule())
    with AirflowProcesses(
        folder / "home", dags_folder=dags, venv=environment(), settings=SCHEDULING_SETTINGS
    ) as airflow:
        migrate(airflow)
        simulators = {name: start_simulator() for name in CONNECTIONS}
        airflow.start()
        airflow.wait_until_healthy("api-server")
        for name, simulator in simulators.items():
            server = {"host": simulator.url, "password": KEY}
            airflow.api.put_connection({"connection_id": name, "conn_type": "claude", **server})
        airflow.api.put_pool("left_when_deferred", slots=1, include_deferred=False)
        airflow.api.put_pool("kept_when_deferred", slots=1, include_deferred=True)
        for dag_id in DAG_IDS:
            airflow.wait_for_dag(dag_id)
        airflow.wait_until_healthy()
        yield SchedulingStack(airflow, simulators, dags)


def texts(manifest: Mapping[str, Any]) -> dict[Any, str | None]:
    """Return the answers by key, in the order of the rows. Every row must have succeeded."""
    rows: list[Row] = list(read_rows(manifest))
    assert {row.status for row in rows} == {"succeeded"}
    return {row.key: row.text for row in rows}
