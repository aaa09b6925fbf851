"""One run of the example DAG, followed through Airflow's API."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses
from demo.errors import DemoError
from demo.screen import Screen, TaskLine

LOG_LINES = 25
PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class DagRun:
    """A triggered run. ``task_ids`` are its tasks in the order in which they run."""

    airflow: AirflowProcesses
    dag_id: str
    run_id: str
    task_ids: Sequence[str]

    def returned(self, task_id: str) -> Any:
        """Return the XCom that the task returned."""
        return self.airflow.api.returned(self.dag_id, self.run_id, task_id)

    def follow(self, screen: Screen, *, seconds: float) -> None:
        """Show the tasks until the run has succeeded.

        :raises DemoError: when it failed or did not end in time. The message contains the logs of its tasks.
        """
        deadline = time.monotonic() + seconds
        with screen.tasks():
            while time.monotonic() < deadline:
                self.airflow.check()
                tasks = wait_for(self._tasks, seconds=60, what="Airflow's API to respond")
                screen.show_tasks([self._line(task) for task in tasks])
                state = self.airflow.api.run_state(self.dag_id, self.run_id)
                if state in ("success", "failed"):
                    break
                time.sleep(PAUSE_SECONDS)
        if state != "success":
            problem = "failed" if state == "failed" else f"did not end within {seconds:.0f} s"
            raise DemoError(f"The run {problem}.\n{self._logs()}")

    def _tasks(self) -> list[dict[str, Any]]:
        found = {task["task_id"]: task for task in self.airflow.api.task_instances(self.dag_id, self.run_id)}
        return [found[task_id] for task_id in self.task_ids if task_id in found]

    def _line(self, task: dict[str, Any]) -> TaskLine:
        return TaskLine(task["task_id"], task["state"] or "-", _seconds(task), self._remark(task))

    def _remark(self, task: dict[str, Any]) -> str:
        if task["state"] == "deferred":
            return "waits in the triggerer and uses no worker"
        if task["task_id"] == "send" and task["state"] == "success":
            manifest = self.returned("send") or {}
            return f"{manifest.get('request_count')} requests in {', '.join(manifest.get('batch_ids', []))}"
        return ""

    def _logs(self) -> str:
        """Collect the end of the log of every task that started and did not succeed."""
        parts = []
        for task in self._tasks():
            if task["state"] not in (None, "success", "upstream_failed"):
                lines = self.airflow.api.log_lines(self.dag_id, self.run_id, task["task_id"], task["try_number"])
                parts.append(
                    "\n".join([f"--- {task['task_id']}: {task['state']}. The end of its log:", *lines[-LOG_LINES:]])
                )
        return "\n".join(parts) or f"No task has started. See the scheduler's log in {self.airflow.home / 'logs'}."


def _seconds(task: dict[str, Any]) -> float | None:
    if task["duration"] is not None:
        return float(task["duration"])
    if task["start_date"] is None:
        return None
    return (datetime.now(UTC) - datetime.fromisoformat(task["start_date"])).total_seconds()
