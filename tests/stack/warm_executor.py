"""An executor whose tasks find their modules imported: Airflow would import them again in the process of each task.

Airflow finds it in the folder ``config`` of its home, where a test copies it.
"""

from __future__ import annotations

import importlib
from typing import Any

from airflow.executors.local_executor import LocalExecutor

MODULES = (
    "airflow.sdk.execution_time.task_runner",
    "airflow_claude_batch.decorators",
    "airflow_claude_batch.hooks",
    "airflow_claude_batch.operators",
    "airflow_claude_batch.sensors",
    "airflow_claude_batch.transfers",
    "airflow_claude_batch._airflow.run_operator",
    "airflow_claude_batch._airflow.run_sensor",
    "airflow_claude_batch._airflow.run_transfer",
)


class WarmLocalExecutor(LocalExecutor):
    """Import what tasks need before a worker is forked. That is half of the CPU time of a short task."""

    def start(self) -> None:
        for name in MODULES:
            importlib.import_module(name)
        super().start()


class PatientLocalExecutor(WarmLocalExecutor):
    """Begin no task before the scheduler has stored that it is queued.

    The executor of Airflow 3.0 hands a task to a worker before. One that is quick is told that its task is not queued,
    and the task fails without a start.
    """

    def start(self) -> None:
        self._queued: list[Any] = []
        super().start()

    def queue_workload(self, workload: Any, session: Any = None) -> None:
        self._queued.append(workload)

    def sync(self) -> None:
        while self._queued:
            super().queue_workload(self._queued.pop(0))
        super().sync()
