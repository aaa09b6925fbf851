"""Simulators and clients for their tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from simulated import KEY, VERSION, Api, Connect

from airflow_claude_batch.simulator import ManualClock, Simulator


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(datetime(2026, 11, 22, 9, 0, tzinfo=UTC))


@pytest.fixture(params=["socket", "in-process"])
def door(request: pytest.FixtureRequest) -> str:
    """Tests that name it run through both doors, the others through sockets."""
    return str(request.param)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Makes clients of a simulator: ``connect(simulator, key=…, version=…, timeout=…)``."""
    in_process = "door" in request.fixturenames and request.getfixturevalue("door") == "in-process"
    urls: dict[int, str] = {}
    with ExitStack() as stack:

        def connect(
            simulator: Simulator, *, key: str | None = KEY, version: str | None = VERSION, timeout: float = 30.0
        ) -> Api:
            headers = {"authorization": f"Bearer {key}", "anthropic-version": version}
            given: dict[str, Any] = {
                "headers": {name: value for name, value in headers.items() if value and "None" not in value},
                "timeout": timeout,
                "trust_env": False,
            }
            if in_process:
                given.update(base_url="http://simulator.test", transport=simulator.transport())
            else:
                if id(simulator) not in urls:
                    urls[id(simulator)] = stack.enter_context(simulator.serve()).url
                given.update(base_url=urls[id(simulator)])
            return Api(stack.enter_context(httpx.Client(**given)))

        yield connect


@pytest.fixture
def simulator(clock: ManualClock) -> Simulator:
    return Simulator(clock=clock)


@pytest.fixture
def api(simulator: Simulator, connect: Connect) -> Api:
    return connect(simulator)
