"""Monitors the runs as a person would, and clears failed tasks that only a person can clear."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.final_checks import batch_ids, submission_folder
from cluster.workload import DagWorkload, workloads

from demo.airflow_api import AirflowApi
from demo.errors import DemoError

#: The DAG whose sensors fail when requests fail. In the other DAGs, a failed run is a defect.
CLEARED_DAG = "by_hand"


class RunMonitor:
    """Checks the runs through Airflow's API."""

    def __init__(self, api: AirflowApi) -> None:
        self._api = api
        self.cleared = 0

    def check_runs(self, failed_by_hand: set[tuple[str, str, int]]) -> dict[str, int]:
        """Count the runs in each state. Clears the failed runs of `CLEARED_DAG`.

        :param failed_by_hand: tasks that a disruption failed on purpose, and will clear.
        :raises DemoError: when another run failed.
        """
        expected = {(dag_id, run_id) for dag_id, run_id, _ in failed_by_hand}
        known = self._api.run_states()
        states: Counter[str] = Counter()
        for workload, run_id in _runs():
            state = known.get((workload.dag_id, run_id), "not started")
            states[state] += 1
            if state == "failed":
                if workload.dag_id == CLEARED_DAG:
                    self._clear_sender(workload, run_id)
                elif (workload.dag_id, run_id) not in expected:
                    raise DemoError(f"{run_id} of {workload.dag_id} failed: {self._describe(workload.dag_id, run_id)}")
        return dict(states)

    def unfinished(self) -> str:
        """Describe the tasks that have not succeeded, by run."""
        return "; ".join(
            f"{dag_id} {run_id}: {self._describe(dag_id, run_id)}"
            for (dag_id, run_id), state in self._api.run_states().items()
            if state != "success"
        )

    def task_states(self) -> dict[tuple[str, str], list[str]]:
        """Return the state of every task instance, by DAG and run."""
        return {(workload.dag_id, run_id): self._states(workload.dag_id, run_id) for workload, run_id in _runs()}

    def batches_failed_by_hand(
        self, workload: DagWorkload, failed_by_hand: set[tuple[str, str, int]], results: Path
    ) -> Iterator[str]:
        """Yield the batches of tasks that were failed by hand."""
        for dag_id, run_id, map_index in failed_by_hand:
            if dag_id == workload.dag_id:
                yield from batch_ids(submission_folder(results, workload, run_id, map_index))

    def _clear_sender(self, workload: DagWorkload, run_id: str) -> None:
        """Clear the sending task and the sensor. The sending task sends only the failed requests again."""
        self._api.clear(workload.dag_id, run_id, workload.sender, downstream=True)
        self.cleared += 1

    def _states(self, dag_id: str, run_id: str) -> list[str]:
        return [str(task["state"]) for task in self._api.task_instances(dag_id, run_id)]

    def _describe(self, dag_id: str, run_id: str) -> str:
        tasks: list[dict[str, Any]] = self._api.task_instances(dag_id, run_id)
        return ", ".join(
            f"{t['task_id']}[{t['map_index']}] {t['state']} in attempt {t['try_number']}"
            for t in tasks
            if t["state"] != "success"
        )


def _runs() -> Iterator[tuple[DagWorkload, str]]:
    for workload in workloads():
        for run_id in workload.run_ids:
            yield workload, run_id
