"""The Airflow that the test files of this folder share: a start costs more than most of their tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow_stack import DagStack, running_dags

from demo.simulator import SimulatorProcess
from shared_airflow import worker_free_dag


def dag_file(dag_id: str) -> Callable[[SimulatorProcess], str]:
    """Return the source of a DAG that is a file of this folder."""
    return lambda _: Path(__file__).with_name(f"{dag_id}.py").read_text()


@pytest.fixture(scope="package")
def dag_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagStack]:
    sources = {dag_id: dag_file(dag_id) for dag_id in ("by_hand", "clear_or_retry", "cleared_upstream")}
    if worker_free_dag.is_supported():
        sources[worker_free_dag.DAG_ID] = worker_free_dag.source
    with running_dags(tmp_path_factory.mktemp("dag_stack"), sources) as stack:
        yield stack
