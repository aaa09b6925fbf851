"""Fixtures: simulators and their clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from simulated import KEY, VERSION, Api, Connect, fixed_clock

from airflow_claude_batch.simulator import ManualClock, Simulator


@pytest.fixture
def clock() -> ManualClock:
    return fixed_clock()


@pytest.fixture(params=["socket", "in-process"])
def transport(request: pytest.FixtureRequest) -> str:
    """Tests that use this fixture run over sockets and in process, the others in process only."""
    return str(request.param)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Create clients of a simulator: ``connect(simulator, key=…, version=…, timeout=…)``."""
    in_process = "transport" not in request.fixturenames or request.getfixturevalue("transport") == "in-process"
    urls: dict[int, str] = {}
    with ExitStack() as stack:

        def connect(
            simulator: Simulator, *, key: str | None = KEY, version: str | None = VERSION, timeout: float = 30.0
        ) -> Api:
            headers = {} if key is None else {"authorization": f"Bearer {key}"}
            headers |= {} if version is None else {"anthropic-version": version}
            # Loading certificates takes longer than most tests, and there is no TLS.
            arguments: dict[str, Any] = {"headers": headers, "timeout": timeout, "trust_env": False, "verify": False}
            if in_process:
                arguments.update(base_url="http://simulator.test", transport=simulator.transport())
            else:
                if id(simulator) not in urls:
                    urls[id(simulator)] = stack.enter_context(simulator.serve()).url
                arguments.update(base_url=urls[id(simulator)])
            return Api(stack.enter_context(httpx.Client(**arguments)))

        yield connect


@pytest.fixture
def simulator(clock: ManualClock) -> Simulator:
    return Simulator(clock=clock)


@pytest.fixture
def api(simulator: Simulator, connect: Connect) -> Api:
    return connect(simulator)
