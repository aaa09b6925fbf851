"""Submissions in Airflow's database, without tasks that have run: rows as the tasks leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


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
    from airflow.models.dagrun import DagRun
    from airflow.models.xcom import XComModel
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
    defaults = {"try_number": 1, "max_tries": 0, "pool": "default_pool", "pool_slots": 1, "span_status": "not_started"}
    _insert(session, tasks, [{**_names(row), "state": row.state, "operator": row.operator, **defaults} for row in rows])
    _insert(
        session,
        XComModel.__table__,
        [
            {
                "dag_run_id": ids[row.dag_id, row.run_id],
                **_names(row),
                "key": key,
                "value": value,
                "timestamp": row.pushed_at,
            }
            for row in rows
            for key, value in row.values.items()
        ],
    )


def _insert(session: Any, table: Any, rows: list[dict[str, Any]]) -> None:
    from sqlalchemy import insert

    if rows:
        session.execute(insert(table), rows)


def _task_instance() -> Any:
    from airflow.models.taskinstance import TaskInstance

    return TaskInstance


def _names(row: TaskRow) -> dict[str, Any]:
    return {"dag_id": row.dag_id, "run_id": row.run_id, "task_id": row.task_id, "map_index": row.map_index}
