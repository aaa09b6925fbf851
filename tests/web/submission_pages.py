"""Ask the pages for submissions, as a user with some rights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rights:
    """The rights of one user: the DAGs that the user may see, and those whose rows the user may read."""

    dags: frozenset[str]
    rows: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    user_name: str = "ann"

    def readable_dag_ids(self) -> set[str]:
        return set(self.dags)

    def may_read_dag(self, dag_id: str) -> bool:
        return dag_id in self.dags

    def may_read_rows(self, dag_id: str) -> bool:
        return dag_id in self.rows

    def may_change(self, dag_id: str) -> bool:
        return dag_id in self.changes


def reader(*dag_ids: str) -> Rights:
    """Return a user who may read everything of some DAGs."""
    return Rights(frozenset(dag_ids), frozenset(dag_ids))


@contextmanager
def browser(rights: Rights) -> Iterator[Any]:
    """Return a client of the pages."""
    from fastapi.testclient import TestClient

    from airflow_claude_batch.web.access import access_of_request
    from airflow_claude_batch.web.app import create_app

    app = create_app()
    app.dependency_overrides[access_of_request] = lambda: rights
    with TestClient(app) as client:
        yield client
