"""A simulator that remembers every call, and DAGs whose errors are kept."""

from __future__ import annotations

from provider.conftest import airflow_db, run_dag

__all__ = ["airflow_db", "run_dag"]
