"""Import what the package takes from Airflow's api-server. Only the pages import this."""

from __future__ import annotations

import json
from typing import Any, Final

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import get_user
from airflow.models.log import Log

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION, conf
from airflow_claude_batch._airflow.servers import DagModel, create_session
from airflow_claude_batch._airflow.task_rows import TaskKey

__all__ = [
    "COOKIE_SUPPORTED",
    "DagAccessEntity",
    "DagDetails",
    "base_url",
    "dag_details",
    "get_auth_manager",
    "get_user",
    "write_audit_log",
]

#: True if the browser sends who the user is with each request. On 3.0 only the script of Airflow's UI knows it.
COOKIE_SUPPORTED: Final = AIRFLOW_VERSION >= (3, 1)


def base_url() -> str:
    """Return ``[api] base_url``: the address of Airflow's UI for its users. Empty if it is not set."""
    return str(conf.get("api", "base_url", fallback="") or "")


def dag_details(dag_id: str) -> DagDetails:
    """Return what an auth manager is told of a DAG. From 3.1 on, its team too."""
    team_of: Any = getattr(DagModel, "get_team_name", None)
    return DagDetails(id=dag_id) if team_of is None else DagDetails(id=dag_id, team_name=team_of(dag_id))


def write_audit_log(event: str, key: TaskKey, *, user_name: str, extra: dict[str, Any]) -> None:
    """Add an entry to Airflow's audit log, which its UI shows at the task instance.

    :param extra: JSON values.
    """
    entry = Log(
        event=event,
        dag_id=key.dag_id,
        run_id=key.run_id,
        task_id=key.task_id,
        map_index=key.map_index,
        owner=user_name,
        owner_display_name=user_name,
        extra=json.dumps(extra),
    )
    with create_session() as session:
        session.add(entry)
