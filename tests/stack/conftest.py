"""Fixtures: a real Airflow and simulators in processes, stopped after the last test that uses them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from airflow_stack import TEST_SECONDS, UNTIL_ENDED, Stack, running_stack
from failure_report import explain

from demo.processes import stop
from demo.simulator import SimulatorProcess


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give tests on a real Airflow more time than others: a busy machine is much slower."""
    for item in items:
        if item.get_closest_marker("stack") and item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(TEST_SECONDS), append=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Generator[None, Any, Any]:
    """Let each failure say what Airflow was doing."""
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        explain(call.excinfo.value, getattr(item, "module", ModuleType("no module")))
    return (yield)


@pytest.fixture(scope="module")
def start_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Stack]]:
    """Start a stack with the Airflow of an environment. It is stopped after the module's last test."""

    def start(venv: Path) -> Stack:
        return running.enter_context(running_stack(tmp_path_factory.mktemp("stack"), venv))

    with ExitStack() as running:
        yield start


@pytest.fixture(scope="module")
def start_simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], SimulatorProcess]]:
    """Start a simulator whose batches run until a test ends them."""
    started: list[SimulatorProcess] = []

    def start() -> SimulatorProcess:
        home = tmp_path_factory.mktemp("simulator")
        started.append(SimulatorProcess.start(home, batch_seconds=UNTIL_ENDED))
        return started[-1]

    yield start
    stop(simulator.process.session for simulator in started)
    for simulator in started:
        simulator.process.popen.wait(60)
