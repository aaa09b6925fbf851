"""DAGs with schedules that the scheduler follows. Those are paused at first; each DAG has its own simulators."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_database import runs, task_instances
from airflow_stack import ROOT, DagStack, Simulators

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from demo.airflow_api import AirflowApi
from demo.airflow_processes import AirflowProcesses

SCHEDULING_DAGS = Path(__file__).parent / "scheduling_dags"
DAG_IDS = ("mapped", "diary", "pooled", "revised")
CONNECTIONS = ("mapped", "diary", "left_when_deferred", "kept_when_deferred", "revised")


def example_with_past_schedule() -> str:
    """Return the source of the example ``mapped``, with its own connection and a schedule that ended in the past."""
    source = (ROOT / "dags" / "mapped.py").read_text()
    past = "start_date=pendulum.datetime(2026, 1, 1), end_date=pendulum.datetime(2026, 3, 31), catchup=True"
    for old, new in {
        "from airflow.sdk import": "import pendulum\nfrom airflow.sdk import",
        'schedule="@monthly"': f'schedule="@monthly", {past}, is_paused_upon_creation=True',
        'task_id="ask"': 'task_id="ask", claude_conn_id="mapped"',
    }.items():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def scheduling_sources() -> dict[str, str]:
    """Return the text of each DAG's file, by DAG id."""
    files = {dag_id: (SCHEDULING_DAGS / f"{dag_id}.py").read_text() for dag_id in DAG_IDS[1:]}
    return {"mapped": example_with_past_schedule(), **files}


@dataclass
class SchedulingStack:
    """The Airflow, and the simulator of each connection. Batches run until a test ends them."""

    stack: DagStack

    @classmethod
    def of(cls, stack: DagStack) -> SchedulingStack:
        """Take the shared Airflow, and make the pools of these DAGs."""
        stack.airflow.api.put_pool("left_when_deferred", slots=1, include_deferred=False)
        stack.airflow.api.put_pool("kept_when_deferred", slots=1, include_deferred=True)
        return cls(stack)

    @property
    def airflow(self) -> AirflowProcesses:
        return self.stack.airflow

    @property
    def simulators(self) -> Simulators:
        return self.stack.simulators

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
        shutil.copy(source, self.stack.dags_folder / f"{dag_id}.py")
        self.api.parse_again(dag_id)
        self.stack.wait_for(
            lambda: (self.api.dag(dag_id) or {}).get("description") == description,
            f"the DAG processor to parse the new {dag_id}",
        )

    def states(self, dag_id: str, task_id: str) -> list[str]:
        """Return the states of the task's instances in all runs, sorted."""
        states = [
            str(ti["state"])
            for run in runs(self.airflow, dag_id)
            for ti in task_instances(self.airflow, dag_id, run["dag_run_id"])
            if ti["task_id"] == task_id
        ]
        assert not {"failed", "upstream_failed"}.intersection(states), f"the logs are in {self.airflow.home}"
        return sorted(states)

    def wait_for_states(self, dag_id: str, task_id: str, *states: str) -> None:
        what = f"{task_id} of {dag_id} to be {', '.join(states)}"
        expected = sorted(states)
        self.stack.wait_for(lambda: self.states(dag_id, task_id) == expected, what)

    def wait_for_runs(self, dag_id: str, count: int) -> list[dict[str, Any]]:
        """Wait until the DAG has this many runs and all have succeeded. Returns them."""

        def ended() -> list[dict[str, Any]] | None:
            states = [run["state"] for run in runs(self.airflow, dag_id)]
            assert "failed" not in states, f"the logs are in {self.airflow.home}"
            return self.api.runs(dag_id) if states == ["success"] * count else None

        return self.stack.wait_for(ended, f"{count} runs of {dag_id} to succeed")

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


def texts(manifest: Mapping[str, Any]) -> dict[Any, str | None]:
    """Return the answers by key, in the order of the rows. Every row must have succeeded."""
    rows: list[Row] = list(read_rows(manifest))
    assert {row.status for row in rows} == {"succeeded"}
    return {row.key: row.text for row in rows}
