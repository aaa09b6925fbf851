"""A simulator and an Airflow with two submissions. They are made once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
from airflow_fixtures import KEY
from command_world import HOSTILE, World

from airflow_claude_batch.simulator import Simulator


@pytest.fixture(scope="session")
def world_simulator() -> Simulator:
    def outcome(custom_id: str, params: Any, attempt: int) -> str | None:
        return "errored:invalid_request_error:no\x1b[2J" if "fail" in str(params) else None

    return Simulator(keys={KEY: "wrkspc_test"}, outcome=outcome)


@pytest.fixture(scope="session")
def world(airflow_db: None, world_simulator: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    results = tmp_path_factory.mktemp("results")
    common: dict[str, Any] = {"results_path": str(results), "max_tokens": 10, "model": "claude-haiku-5-5"}
    with world_simulator.serve() as server:
        with connected(server.url):
            ended_run, running_run, open_batch = _run_dags(world_simulator, common)
        yield World(world_simulator, results, ended_run, running_run, open_batch, server.url)


@pytest.fixture(autouse=True)
def connections(request: pytest.FixtureRequest) -> Iterator[None]:
    """Connect the tests that look at the world, and no others, to its simulator."""
    with connected(request.getfixturevalue("world").url) if "world" in request.fixturenames else nullcontext():
        yield


@contextmanager
def connected(url: str) -> Iterator[None]:
    connection = json.dumps({"conn_type": "claude", "password": KEY, "host": url})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", connection)
        patch.setenv("AIRFLOW_CONN_MY_CLAUDE", connection)
        yield


def _run_dags(world_simulator: Simulator, common: dict[str, Any]) -> tuple[str, str, str]:
    from airflow.sdk import DAG
    from sqlalchemy import update
    from workbench import sync_dag

    from airflow_claude_batch._airflow.servers import TaskInstance, create_session
    from airflow_claude_batch.operators import SendMessageBatchOperator
    from airflow_claude_batch.sensors import MessageBatchSensor

    with DAG("cli_ended", schedule=None) as dag:
        send = SendMessageBatchOperator(
            task_id="send",
            messages=[
                {"key": "first", "prompt": "Why is the sky blue?"},
                {"key": HOSTILE, "prompt": "Why is grass green?"},
                {"key": 17, "prompt": "fail"},
            ],
            wait_for_completion=False,
            **common,
        )
        MessageBatchSensor(
            task_id="wait", batch=send.output, results_path=common["results_path"], poke_interval=0.1, allow_failed=1.0
        )
    sync_dag(dag)
    ended = dag.test()

    world_simulator.pace(3600.0)
    with DAG("cli_open", schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=["a", "b"],
            claude_conn_id="my_claude",
            wait_for_completion=False,
            **common,
        )
    sync_dag(dag)
    running = dag.test()
    with create_session() as session:  # somebody marks the task as failed
        session.execute(update(TaskInstance).where(TaskInstance.dag_id == "cli_open").values(state="failed"))
    open_batch = world_simulator.books()["batches"][-1]["id"]
    with DAG("cli_killed", schedule=None) as dag:
        SendMessageBatchOperator(task_id="send", messages=["a"], wait_for_completion=False, **common)
    sync_dag(dag)
    dag.test()
    with DAG("cli_canceled", schedule=None) as dag:
        for task_id in ("one", "two"):
            SendMessageBatchOperator(
                task_id=task_id,
                messages=["a"],
                wait_for_completion=False,
                **common,
            )
    sync_dag(dag)
    dag.test()
    return ended.run_id, running.run_id, open_batch
