"""The Airflow that the test files of this folder share: a start costs more than most of their tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from airflow_stack import CONNECTION_ID, DagStack, Simulators, install_modules, running_dags
from otlp_receiver import OtlpReceiver, otlp_receiver
from statsd_listener import StatsdListener

from shared_airflow import (
    approval_dag,
    changing_table,
    loop_dag,
    made_elsewhere,
    main_example,
    page_stack,
    scheduling_stack,
    tables,
    worker_free_dag,
)
from shared_airflow.platforms import Platforms, running_platforms
from shared_airflow.preparations import Preparations, preparing

HERE = Path(__file__).parent
#: The first needs an Airflow that does nothing else. Before the last begin, the triggerer is killed.
FIRST = ("test_first_run", "test_clear_or_retry")
LAST = ("test_scheduling", "test_stack", "test_tables", "test_made_elsewhere", "test_changing_table")
#: DAGs that are files of this folder. Each has a connection with its name.
DAGS_HERE = ("by_hand", "clear_or_retry", "cleared_upstream", "deadline", "page")
#: One that has the connections of two platforms.
PLATFORMS_DAG = "platforms_dag"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files of this folder."""
    places = [place for place, item in enumerate(items) if _is_here(item)]
    for place, item in zip(places, sorted((items[place] for place in places), key=_order), strict=True):
        items[place] = item


def _order(item: pytest.Item) -> int:
    name = item.path.stem
    return FIRST.index(name) - len(FIRST) if name in FIRST else LAST.index(name) + 1 if name in LAST else 0


def sources() -> dict[str, Callable[[Simulators], str]]:
    """Return the source of each DAG, by DAG id, as a function of the simulators."""
    texts = {dag_id: Path(__file__).with_name(f"{dag_id}.py").read_text() for dag_id in (*DAGS_HERE, PLATFORMS_DAG)}
    texts |= {**main_example.sources(), **scheduling_stack.scheduling_sources()}
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
def platforms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platforms]:
    with running_platforms(tmp_path_factory.mktemp("platforms")) as running:
        yield running


@pytest.fixture(scope="package")
def dag_stack(
    tmp_path_factory: pytest.TempPathFactory, statsd: StatsdListener, traces: OtlpReceiver, platforms: Platforms
) -> Iterator[DagStack]:
    folder = tmp_path_factory.mktemp("dag_stack")
    examples = (CONNECTION_ID, *main_example.COPIES, tables.CONNECTION, changing_table.CONNECTION)
    own = (worker_free_dag.DAG_ID, approval_dag.DAG_ID, loop_dag.DAG_ID, made_elsewhere.CONNECTION)
    connections = (*DAGS_HERE, *own, *examples, *scheduling_stack.CONNECTIONS)
    dags = {
        **sources(),
        **tables.sources(str(folder)),
        made_elsewhere.DAG_ID: made_elsewhere.source,
        changing_table.DAG_ID: partial(changing_table.source, str(folder)),
    }
    install_modules(folder / "home", Path(__file__).with_name("page_auth.py"))
    settings = (
        statsd.settings | traces.settings | platforms.settings | page_stack.SETTINGS | main_example.warehouses(folder)
    )
    with running_dags(folder, connections, dags, **settings) as stack:
        yield stack


@pytest.fixture(scope="package")
def preparations(request: pytest.FixtureRequest, dag_stack: DagStack) -> Iterator[Preparations]:
    """What the files with a test in this run prepare. It begins when the first of them needs it."""
    files = [item.module for item in request.session.items if isinstance(item, pytest.Function) and _is_here(item)]
    with preparing(dag_stack, files) as begun:
        yield begun


def _is_here(item: pytest.Item) -> bool:
    return item.path.parent == HERE


@pytest.fixture(scope="package")
def triggerer_killed(preparations: Preparations) -> None:
    """Kill the triggerer while tasks of several files wait in it, and start it again."""
    preparations.kill_triggerer()


@pytest.fixture(scope="package")
def page(preparations: Preparations) -> Iterator[page_stack.PageStack]:
    with page_stack.running_page(preparations.result_of(page_stack.prepare)) as running:
        yield running
