"""An executor whose tasks find their modules imported: Airflow would import them again in the process of each task.

Airflow finds it in the folder ``config`` of its home, where a test copies it.
"""

from __future__ import annotations

import importlib
from typing import Any

from airflow.executors.local_executor import LocalExecutor

MODULES = (
    "airflow.providers.common.sql.operators.sql",
    "airflow.providers.sqlite.hooks.sqlite",
    "airflow.providers.standard.operators.python",
    "airflow.sdk.definitions.decorators",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow_claude_batch.decorators",
    "airflow_claude_batch.hooks",
    "airflow_claude_batch.operators",
    "airflow_claude_batch.rows",
    "airflow_claude_batch.sensors",
    "airflow_claude_batch.sources",
    "airflow_claude_batch.transfers",
    "airflow_claude_batch._airflow.aws_connection",
    "airflow_claude_batch._airflow.google_connection",
    "airflow_claude_batch._airflow.run_operator",
    "airflow_claude_batch._airflow.run_sensor",
    "airflow_claude_batch._airflow.run_transfer",
    "airflow_claude_batch.connection.settings",
    "jinja2.ext",
    "requests",
)


class WarmLocalExecutor(LocalExecutor):
    """Import what tasks need, and read certificates for them, before a worker is forked."""

    def start(self) -> None:
        for name in MODULES:
            importlib.import_module(name)
        _read_certificates()
        super().start()


def _read_certificates() -> None:
    """Make a client of Airflow's API for tasks. The certificates that it reads are kept for the next one."""
    from airflow.sdk.api.client import Client

    Client(base_url="http://127.0.0.1", token="").close()


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
