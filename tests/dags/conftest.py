"""The example DAGs, and what runs them: the fixtures of the provider's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from provider.conftest import airflow_db, claude_default, run_dag, simulator, simulator_url

from airflow_claude_batch._compat import AIRFLOW_VERSION

__all__ = ["airflow_db", "claude_default", "run_dag", "simulator", "simulator_url"]

DAGS = Path(__file__).resolve().parent.parent.parent / "dags"


@pytest.fixture(scope="session")
def examples(airflow_db: None) -> dict[str, object]:
    """Every DAG in ``dags/`` that can be imported, by its id."""
    if AIRFLOW_VERSION >= (3, 2):
        from airflow.dag_processing.dagbag import DagBag
    else:
        from airflow.models.dagbag import DagBag

    return dict(DagBag(DAGS).dags)
