"""What a person does while all this goes on: look at the runs, and clear what only a person can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.books import batch_ids, folder
from cluster.workload import Load, loads

from demo.airflow_api import AirflowApi
from demo.errors import DemoError

#: Whose sensors fail when requests end without an answer; in the others every end but a green one is a defect.
CLEARED_DAG = "by_hand"


class Person:
    """Watches the runs through Airflow's API."""

    def __init__(self, api: AirflowApi) -> None:
        self._api = api
        self.cleared = 0

    def look_after_runs(self, by_hand: set[tuple[str, str, int]]) -> dict[str, int]:
        """How many runs are in each state; a failed one is cleared if that is a person's part.

        :param by_hand: tasks that somebody failed on purpose and will clear himself.
        :raises DemoError: a run failed that should not have.
        """
        touched = {(dag_id, run_id) for dag_id, run_id, _ in by_hand}
        known = self._api.run_states()
        states: Counter[str] = Counter()
        for load, run_id in _runs():
            state = known.get((load.dag_id, run_id), "not begun")
            states[state] += 1
            if state == "failed":
                if load.dag_id == CLEARED_DAG:
                    self._clear_sender(load, run_id)
                elif (load.dag_id, run_id) not in touched:
                    raise DemoError(f"{run_id} of {load.dag_id} failed: {self._told(load.dag_id, run_id)}")
        return dict(states)

    def unfinished(self) -> str:
        """The tasks that are not green, by run."""
        return "; ".join(
            f"{dag_id} {run_id}: {self._told(dag_id, run_id)}"
            for (dag_id, run_id), state in self._api.run_states().items()
            if state != "success"
        )

    def states_of_tasks(self) -> dict[tuple[str, str], list[str]]:
        """The state of every task instance, by DAG and run."""
        return {(load.dag_id, run_id): self._states(load.dag_id, run_id) for load, run_id in _runs()}

    def touched(self, load: Load, by_hand: set[tuple[str, str, int]], results: Path) -> Iterator[str]:
        """The batches of tasks that were failed by hand."""
        for dag_id, run_id, map_index in by_hand:
            if dag_id == load.dag_id:
                yield from batch_ids(folder(results, load, run_id, map_index))

    def _clear_sender(self, load: Load, run_id: str) -> None:
        """What was not answered is sent again when the task that sends is cleared, and is waited for once more."""
        self._api.clear(load.dag_id, run_id, load.sender, downstream=True)
        self.cleared += 1

    def _states(self, dag_id: str, run_id: str) -> list[str]:
        return [str(task["state"]) for task in self._api.task_instances(dag_id, run_id)]

    def _told(self, dag_id: str, run_id: str) -> str:
        tasks: list[dict[str, Any]] = self._api.task_instances(dag_id, run_id)
        return ", ".join(
            f"{t['task_id']}[{t['map_index']}] {t['state']} in try {t['try_number']}"
            for t in tasks
            if t["state"] != "success"
        )


def _runs() -> Iterator[tuple[Load, str]]:
    for load in loads():
        for run_id in load.run_ids:
            yield load, run_id
