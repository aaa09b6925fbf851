"""The example DAGs, and what runs them: the fixtures of the provider's own tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from provider.conftest import airflow_db, claude_default, run_dag, simulator, simulator_url

__all__ = ["airflow_db", "claude_default", "run_dag", "simulator", "simulator_url"]

DAGS = Path(__file__).resolve().parent.parent.parent / "dags"


@pytest.fixture(scope="session")
def examples(airflow_db: None) -> dict[str, object]:
    """Every DAG in ``dags/`` that can be imported, by its id."""
    from airflow.dag_processing.dagbag import DagBag

    return dict(DagBag(DAGS).dags)
