"""Import what the package takes from Airflow's database.

Tasks and triggers never import this: workers have no database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.dag import DagModel
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import String, and_, cast, false, func, or_, select, tuple_, update
from sqlalchemy.orm import Session
from sqlalchemy.sql import Select  # where SQLAlchemy 1.4 has it, which Airflow 3.0 brings

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION, TASK_STATE_STORE_SUPPORTED

REGIONS_SUPPORTED: bool = AIRFLOW_VERSION >= (3, 4)

if TYPE_CHECKING or TASK_STATE_STORE_SUPPORTED:
    from airflow.models.task_state_store import TaskStateStoreModel
    from airflow.state import TaskScope, get_state_backend
else:
    TaskStateStoreModel: Any = None
    TaskScope: Any = None
    get_state_backend: Any = None
if TYPE_CHECKING or REGIONS_SUPPORTED:
    from airflow.models.dynamic_region import public_region_filter  # type: ignore[import-not-found,unused-ignore]  # 3.4
else:
    public_region_filter: Any = None

__all__ = [
    "REGIONS_SUPPORTED",
    "DagModel",
    "RenderedTaskInstanceFields",
    "Select",
    "Session",
    "String",
    "TaskInstance",
    "TaskScope",
    "TaskStateStoreModel",
    "XComModel",
    "and_",
    "cast",
    "create_session",
    "false",
    "func",
    "get_state_backend",
    "or_",
    "public_region_filter",
    "select",
    "tuple_",
    "update",
]
