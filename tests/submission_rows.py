"""Submissions in Airflow's database, without tasks that have run: rows as the tasks leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION

#: Every try of a task has a row of its own, and XComs name it.
TRIES_HAVE_ROWS = AIRFLOW_VERSION >= (3, 4)


@dataclass(frozen=True)
class TaskRow:
    """A task instance and what it has pushed to XCom.

    :param values: the XComs by key, such as ``{"claude_batch": {...}}``.
    """

    dag_id: str
    run_id: str
    task_id: str
    state: str | None
    pushed_at: datetime
    values: Mapping[str, Any] = field(default_factory=dict)
    map_index: int = -1
    operator: str = "SendMessageBatchOperator"


def insert_rows(session: Any, rows: Sequence[TaskRow]) -> None:
    """Insert task instances with their DAG runs and XComs. The DAGs need not be there."""
    from airflow.models import xcom
    from airflow.models.dagrun import DagRun
    from sqlalchemy import func, inspect

    runs = {(row.dag_id, row.run_id): row.pushed_at for row in rows}
    first = (session.query(func.max(DagRun.id)).scalar() or 0) + 1
    ids = {key: first + number for number, key in enumerate(runs)}
    run_type = {"run_type": "manual", "clear_number": 0, "span_status": "not_started", "state": "running"}
    _insert(
        session,
        DagRun.__table__,
        [
            {"id": ids[dag_id, run_id], "dag_id": dag_id, "run_id": run_id, "run_after": at, **run_type}
            for (dag_id, run_id), at in runs.items()
        ],
    )
    tasks = inspect(_task_instance()).local_table
    uuids = [uuid4() for _ in rows]
    defaults = {"try_number": 1, "max_tries": 0, "pool": "default_pool", "pool_slots": 1, "span_status": "not_started"}
    _insert(
        session,
        tasks,
        [
            {
                **({"id": uuid} if TRIES_HAVE_ROWS else {}),
                **_names(row),
                "state": row.state,
                "operator": row.operator,
                **defaults,
            }
            for uuid, row in zip(uuids, rows, strict=True)
        ],
    )
    _insert(
        session,
        xcom.XComModelV2.__table__ if TRIES_HAVE_ROWS else xcom.XComModel.__table__,
        [
            {**_owner(uuid, row, ids[row.dag_id, row.run_id]), "key": key, "value": value, "timestamp": row.pushed_at}
            for uuid, row in zip(uuids, rows, strict=True)
            for key, value in row.values.items()
        ],
    )


def _owner(uuid: UUID, row: TaskRow, run: int) -> dict[str, Any]:
    """Return the columns that name the task instance of an XCom."""
    if TRIES_HAVE_ROWS:
        return {"id": uuid4(), "task_instance_id": uuid}
    return {"dag_run_id": run, **_names(row)}


def _insert(session: Any, table: Any, rows: list[dict[str, Any]]) -> None:
    from sqlalchemy import insert

    if rows:
        session.execute(insert(table), rows)


def _task_instance() -> Any:
    from airflow.models.taskinstance import TaskInstance

    return TaskInstance


def _names(row: TaskRow) -> dict[str, Any]:
    index = "region_index" if TRIES_HAVE_ROWS else "map_index"
    return {"dag_id": row.dag_id, "run_id": row.run_id, "task_id": row.task_id, index: row.map_index}
