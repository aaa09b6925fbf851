"""Addresses of pages, relative to ``/claude-batch/``, so that they hold below any base path and inside a frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode
from uuid import UUID

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.task_rows import TaskKey


def overview_href(filters: Mapping[str, str | None]) -> str:
    """Return the address of the overview with these filters. Those that are empty are left out."""
    query = urlencode({name: value for name, value in filters.items() if value})
    return f"./?{query}" if query else "./"


def submission_href(key: TaskKey) -> str:
    """Return the address of a submission's page."""
    return f"submission?{urlencode(task_query(key))}"


def rows_href(key: TaskKey, /, **query: str | int) -> str:
    """Return the address of rows of a submission: ``failed=1``, ``start=…``, ``at=…`` or ``key=…``."""
    return f"rows?{urlencode({**task_query(key), **query})}"


def task_query(key: TaskKey) -> dict[str, str]:
    """Return the names of a task instance as they stand in addresses."""
    names = {"dag_id": key.dag_id, "run_id": key.run_id, "task_id": key.task_id}
    names |= {"map_index": str(key.map_index)} if key.map_index >= 0 else {}
    return names | ({"region": key.region} if key.region else {})


def cancel_href(key: TaskKey, batch_id: str | None = None) -> str:
    """Return the address of the question whether a submission's running batches, or one of them, are to be canceled."""
    return f"cancel?{urlencode(task_query(key) | ({'batch_id': batch_id} if batch_id else {}))}"


def clear_href(key: TaskKey) -> str:
    """Return the address of the question whether a task instance is to be cleared."""
    return f"clear?{urlencode(task_query(key))}"


def task_href(key: TaskKey) -> str:
    """Return the address of the task instance in Airflow's UI. Such a link has the attribute ``data-airflow``."""
    dag_id, run_id, task_id = (quote(name, safe="") for name in (key.dag_id, key.run_id, key.task_id))
    task = f"../dags/{dag_id}/runs/{run_id}/tasks/{task_id}"
    if key.region:
        return f"{task}?{urlencode({'region_id': UUID(key.region), 'region_index': key.map_index})}"
    return f"{task}/mapped/{key.map_index}" if key.map_index >= 0 else task


def log_href(key: TaskKey, try_number: int) -> str:
    """Return the address of the task instance's log in Airflow's UI. See :func:`task_href`."""
    address = task_href(key)
    return f"{address}{'&' if key.region else '?'}try_number={try_number}" if try_number > 0 else address
