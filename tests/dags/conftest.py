"""The example DAGs."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION

DAGS = Path(__file__).resolve().parent.parent.parent / "dags"


@pytest.fixture(scope="session")
def examples(airflow_db: None) -> dict[str, object]:
    """Load every DAG in ``dags/`` that can be imported, by its id."""
    if AIRFLOW_VERSION >= (3, 2):
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag

    return dict(DagBag(DAGS).dags)
