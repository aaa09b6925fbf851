"""The Airflow that the test files of this folder share: a start costs more than most of their tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from airflow_stack import CONNECTION_ID, DAG_ID, ROOT, DagStack, Simulators, running_dags
from otlp_receiver import OtlpReceiver, otlp_receiver
from statsd_listener import StatsdListener

from shared_airflow import (
    approval_dag,
    changing_table,
    loop_dag,
    made_elsewhere,
    page_stack,
    scheduling_stack,
    tables,
    worker_free_dag,
)

#: DAGs that are files of this folder. Each has a connection with its name.
DAGS_HERE = ("by_hand", "clear_or_retry", "cleared_upstream", "page")


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
    if approval_dag.is_supported():
        found[approval_dag.DAG_ID] = approval_dag.source
    if loop_dag.is_supported():
        found[loop_dag.DAG_ID] = loop_dag.source
    return found


@pytest.fixture(scope="package")
def statsd() -> Iterator[StatsdListener]:
    listener = StatsdListener()
    yield listener
    listener.socket.close()


@pytest.fixture(scope="package")
def traces() -> Iterator[OtlpReceiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="package")
def dag_stack(
    tmp_path_factory: pytest.TempPathFactory, statsd: StatsdListener, traces: OtlpReceiver
) -> Iterator[DagStack]:
    folder = tmp_path_factory.mktemp("dag_stack")
    simulated = (CONNECTION_ID, tables.CONNECTION, changing_table.CONNECTION, made_elsewhere.CONNECTION)
    own = (worker_free_dag.DAG_ID, approval_dag.DAG_ID, loop_dag.DAG_ID, *simulated)
    connections = (*DAGS_HERE, *own, *scheduling_stack.CONNECTIONS)
    dags = {
        **sources(),
        **tables.sources(str(folder)),
        made_elsewhere.DAG_ID: made_elsewhere.source,
        changing_table.DAG_ID: partial(changing_table.source, str(folder)),
    }
    page_stack.install_auth_manager(folder / "home")
    settings = statsd.settings | traces.settings | page_stack.SETTINGS
    with running_dags(folder, connections, dags, **settings) as stack:
        yield stack


@pytest.fixture(scope="package")
def page(dag_stack: DagStack) -> Iterator[page_stack.PageStack]:
    with page_stack.running_page(dag_stack, "manual__2026-01-01T00:00:00+00:00") as running:
        yield running
