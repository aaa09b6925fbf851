"""Fixtures of tests on Airflow: a database, runners of DAGs, and a simulator with a connection to it.

Airflow is imported when a fixture is first used, so that tests without Airflow start at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_claude_batch.simulator import Simulator

if TYPE_CHECKING:
    from airflow.sdk import DAG
    from workbench import Workbench

#: The API key that the simulator accepts.
KEY = "sk-ant-test-0123456789"


@pytest.fixture(scope="session")
def airflow_db() -> None:
    from airflow.utils.db import initdb
    from execution_api import prepare_execution_api_once
    from migrated_database import migrated, template_for

    from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION

    version = ".".join(map(str, AIRFLOW_VERSION))
    migrated(Path(os.environ["AIRFLOW_HOME"]) / "airflow.db", template_for(f"{sys.prefix} {version} initdb"), initdb)
    prepare_execution_api_once()
    if AIRFLOW_VERSION < (3, 1):
        _read_times_as_supervisors_do()


def _read_times_as_supervisors_do() -> None:
    """Parse the start time of a rescheduled sensor, which ``dag.test()`` of Airflow 3.0 passes as text.

    Between processes, the message that carries it is validated, which parses it.
    """
    from airflow.sdk.execution_time.comms import TaskRescheduleStartDate

    TaskRescheduleStartDate.model_construct = TaskRescheduleStartDate  # type: ignore[method-assign,assignment]


@pytest.fixture
def run_dag(airflow_db: None, plain_tracebacks: None) -> Callable[..., Any]:
    """Run a DAG's tasks in this process, with ``dag.test()``. Returns the DAG run."""

    from workbench import sync_dag

    def run(dag: DAG, **options: Any) -> Any:
        sync_dag(dag)
        return dag.test(**options)

    return run


@pytest.fixture
def bench(airflow_db: None, tmp_path: Path, plain_tracebacks: None) -> Iterator[Workbench]:
    """Run DAGs, keep the errors of their tasks, and clear them."""
    from airflow.sdk.execution_time.task_runner import get_listener_manager
    from workbench import Workbench

    bench = Workbench(tmp_path)
    get_listener_manager().add_listener(bench)
    yield bench
    get_listener_manager().pm.unregister(bench)


@pytest.fixture
def plain_tracebacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave local variables out: ``dag.test()`` of Airflow 3.0 writes those of each failure, at seconds of CPU."""
    from structlog.dev import RichTracebackFormatter, plain_traceback

    from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION

    if AIRFLOW_VERSION < (3, 1):
        monkeypatch.setattr(
            RichTracebackFormatter, "__call__", lambda _formatter, file, error: plain_traceback(file, error)
        )


@pytest.fixture
def simulator(request: pytest.FixtureRequest) -> Simulator:
    """A simulator. Indirect parametrization gives it any options."""
    return Simulator(**{"keys": {KEY: "wrkspc_test"}, **getattr(request, "param", {})})


@pytest.fixture
def simulator_url(simulator: Simulator) -> Iterator[str]:
    with simulator.serve() as server:
        yield server.url


@pytest.fixture
def claude_default(simulator_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Connect the default connection to the simulator. Returns its id."""
    connection = {"conn_type": "claude", "password": KEY, "host": simulator_url}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))
    return "claude_default"


@pytest.fixture
def when() -> Iterator[Callable[..., None]]:
    """Do something in another thread once a condition holds, or after a time, while a task runs in this one."""
    threads: list[threading.Thread] = []

    def once(condition: Callable[[], Any], do: Callable[[], Any], *, seconds: float = 30) -> None:
        def wait() -> None:
            until, pause = time.monotonic() + seconds, threading.Event()
            while not condition() and time.monotonic() < until:
                pause.wait(0.02)
            do()

        threads.append(threading.Thread(target=wait))
        threads[-1].start()

    yield once
    for thread in threads:
        thread.join()


@pytest.fixture
def terminate(
    restored_sigterm_handler: None, when: Callable[[Callable[[], Any], Callable[[], Any]], None]
) -> Callable[..., None]:
    """End the running task by a signal once a condition holds, as Airflow does when a user marks it as failed.

    With ``state=None`` no user has marked it: the machine shuts down, or its heartbeats get no response.
    """

    def once(condition: Callable[[], Any], *, state: str | None = "failed") -> None:
        def kill() -> None:
            if state is not None:
                _mark_running_tasks(state)
            os.kill(os.getpid(), signal.SIGTERM)

        when(condition, kill)

    return once


@pytest.fixture
def restored_sigterm_handler() -> Iterator[None]:
    """Restore the signal handler: Airflow installs one for each task that it runs, and leaves it."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def _mark_running_tasks(state: str) -> None:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(TaskInstance).where(TaskInstance.state == "running").values(state=state))
