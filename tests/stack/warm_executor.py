"""An executor whose tasks find their modules imported: Airflow would import them again in the process of each task.

Airflow finds it in the folder ``config`` of its home, where a test copies it.
"""

from __future__ import annotations

import importlib

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
