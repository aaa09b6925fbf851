"""Fixtures: a real Airflow and simulators in processes, stopped after the last test that uses them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from airflow_stack import UNTIL_ENDED, Stack, running_stack

from demo.processes import stop
from demo.simulator import SimulatorProcess


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
        simulator.process.popen.wait(10)
