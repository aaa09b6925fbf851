"""XComs in Airflow's database that tests change or remove. From Airflow 3.4 on they belong to a try of a task."""

from __future__ import annotations

from typing import Any


def stored_xcoms(session: Any, *, key: str | None = None, **names: Any) -> Any:
    """Return a query of XComs whose rows can be updated and deleted.

    :param names: ``dag_id``, ``run_id`` or ``task_id``.
    """
    from airflow.models import xcom
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select

    from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION

    if AIRFLOW_VERSION < (3, 4):
        query = session.query(xcom.XComModel).filter_by(**names)
        return query if key is None else query.filter_by(key=key)
    model = xcom.XComModelV2
    query = session.query(model).filter(model.task_instance_id.in_(select(TaskInstance.id).filter_by(**names)))
    return query if key is None else query.filter(model.key == key)
