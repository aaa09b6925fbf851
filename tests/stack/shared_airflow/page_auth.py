"""Airflow's simple auth manager with finer rights than its roles have: what the page asks it, tests can tell apart."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

HIDDEN_DAG = "page_hidden"


class FinerAuthManager(SimpleAuthManager):
    """Only ``admin`` may see the hidden DAG, and ``reader`` may not read XComs."""

    def is_authorized_dag(self, *, user: Any, access_entity: Any = None, details: Any = None, **rest: Any) -> bool:
        if details is not None and details.id == HIDDEN_DAG and user.username != "admin":
            return False
        if user.username == "reader" and access_entity is DagAccessEntity.XCOM:
            return False
        return super().is_authorized_dag(user=user, access_entity=access_entity, details=details, **rest)
