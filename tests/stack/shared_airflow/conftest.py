"""The Airflow that the test files of this folder share: a start costs more than most of their tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from airflow_stack import CONNECTION_ID, DAG_ID, ROOT, DagStack, Simulators, running_dags
from statsd_listener import StatsdListener

from shared_airflow import scheduling_stack, worker_free_dag

#: DAGs that are files of this folder. Each has a connection with its name.
DAGS_HERE = ("by_hand", "clear_or_retry", "cleared_upstream")


def main_example() -> str:
    """Return the source of the main example, without its schedule."""
    source = (ROOT / "dags" / f"{DAG_ID}.py").read_text()
    schedule = 'schedule="@monthly"'
    assert source.count(schedule) == 1
    return source.replace(schedule, "schedule=None")


def sources() -> dict[str, Callable[[Simulators], str]]:
    """Return the source of each DAG, by DAG id, as a function of the simulators."""
    texts = {dag_id: Path(__file__).with_name(f"{dag_id}.py").read_text() for dag_id in DAGS_HERE}
    texts |= {DAG_ID: main_example(), **scheduling_stack.scheduling_sources()}
    found: dict[str, Callable[[Simulators], str]] = {dag_id: lambda _, t=text: t for dag_id, text in texts.items()}
    if worker_free_dag.is_supported():
        found[worker_free_dag.DAG_ID] = worker_free_dag.source
    return found


@pytest.fixture(scope="package")
def statsd() -> Iterator[StatsdListener]:
    listener = StatsdListener()
    yield listener
    listener.socket.close()


@pytest.fixture(scope="package")
def dag_stack(tmp_path_factory: pytest.TempPathFactory, statsd: StatsdListener) -> Iterator[DagStack]:
    connections = (*DAGS_HERE, worker_free_dag.DAG_ID, CONNECTION_ID, *scheduling_stack.CONNECTIONS)
    with running_dags(tmp_path_factory.mktemp("dag_stack"), connections, sources(), **statsd.settings) as stack:
        yield stack
