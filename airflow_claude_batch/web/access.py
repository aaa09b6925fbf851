"""What the user of a request may see and do, as Airflow's auth manager decides."""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from fastapi import Depends

from airflow_claude_batch._airflow.api_server import DagAccessEntity, dag_details, get_auth_manager, get_user


class Access(Protocol):
    """The rights of one user."""

    @property
    def user_name(self) -> str:
        """The user's name, as Airflow's audit log has it."""

    def readable_dag_ids(self) -> set[str]:
        """Return the DAGs that the user may read."""

    def may_read_dag(self, dag_id: str) -> bool:
        """Return True if the user may see a DAG's submissions: states, counts and costs, no prompts and no answers."""

    def may_read_rows(self, dag_id: str) -> bool:
        """Return True if the user may read the XComs of a DAG's tasks, and so prompts and answers."""

    def may_change(self, dag_id: str) -> bool:
        """Return True if the user may edit a DAG's task instances, and so cancel batches and clear tasks."""


class AirflowAccess:
    """The rights of a user of Airflow."""

    def __init__(self, user: Any) -> None:
        self._user = user
        self._manager = get_auth_manager()

    @property
    def user_name(self) -> str:
        return str(self._user.get_name())

    def readable_dag_ids(self) -> set[str]:
        return set(self._manager.get_authorized_dag_ids(user=self._user, method="GET"))

    def may_read_dag(self, dag_id: str) -> bool:
        return self._may("GET", None, dag_id)

    def may_read_rows(self, dag_id: str) -> bool:
        return self.may_read_dag(dag_id) and self._may("GET", DagAccessEntity.XCOM, dag_id)

    def may_change(self, dag_id: str) -> bool:
        return self.may_read_dag(dag_id) and self._may("PUT", DagAccessEntity.TASK_INSTANCE, dag_id)

    def _may(self, method: Any, entity: Any, dag_id: str) -> bool:
        details = dag_details(dag_id)
        return bool(
            self._manager.is_authorized_dag(method=method, access_entity=entity, details=details, user=self._user)
        )


def access_of_request(user: Annotated[Any, Depends(get_user)]) -> Access:
    """Return the rights of the request's user. A request without one is answered with 401 by Airflow."""
    return AirflowAccess(user)


#: The argument of a route: the rights of the request's user.
UserAccess = Annotated[Access, Depends(access_of_request)]
