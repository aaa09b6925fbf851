"""The main example on real processes with faults, with its connection in Airflow's database."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow_stack import UNTIL_ENDED, Stack, environment
from gateway import GATEWAY_KEY, Gateway

from demo.airflow_api import wait_for
from demo.simulator import KEY, SimulatorProcess

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def running(start_stack: Callable[[Path], Stack]) -> Stack:
    return start_stack(environment())


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The stack with the connection to its own simulator, whose batches run until a test ends them."""
    running.connect(host=running.simulator.url, password=KEY)
    running.simulator.pace(UNTIL_ENDED)
    return running


def new_batches(simulator: SimulatorProcess, known: list[str]) -> list[dict[str, Any]]:
    return [batch for batch in simulator.books()["batches"] if batch["id"] not in known]


def batch_ids(simulator: SimulatorProcess) -> list[str]:
    return [batch["id"] for batch in simulator.books()["batches"]]


def assert_answered_and_paid_once(stack: Stack, run_id: str, known: list[str]) -> None:
    """Check that every option has its answer, from one message batch."""
    rows = stack.wait_for_success(run_id)
    asked = [message["key"] for message in stack.returned(run_id, "read_options")]
    assert len(asked) > 200
    assert [row.key for row in rows] == asked
    assert {row.status for row in rows} == {"succeeded"}
    (batch,) = new_batches(stack.simulator, known)
    assert batch["request_count"] == len(asked)
    assert stack.returned(run_id, "wait")["batch_ids"] == [batch["id"]]


def test_deferred_wait_on_a_real_triggerer_answers_every_option(stack: Stack) -> None:
    known = batch_ids(stack.simulator)
    run_id = stack.trigger()
    stack.wait_for_task(run_id, "wait", "deferred")

    stack.simulator.pace(0)

    assert_answered_and_paid_once(stack, run_id, known)
    report = Path(stack.returned(run_id, "write_report").removeprefix("file://")).read_text()
    assert report.count("<tr><td>core.") > 50


def test_triggerer_killed_while_it_waits_continues_after_its_restart(stack: Stack) -> None:
    known = batch_ids(stack.simulator)
    run_id = stack.trigger()
    stack.wait_for_task(run_id, "wait", "deferred")

    stack.airflow.kill("triggerer")
    stack.simulator.pace(0)
    stack.airflow.start("triggerer")

    assert_answered_and_paid_once(stack, run_id, known)


def test_scheduler_and_workers_killed_while_the_batch_runs_continue_after_their_restart(stack: Stack) -> None:
    known = batch_ids(stack.simulator)
    run_id = stack.trigger()
    stack.wait_for_task(run_id, "wait", "deferred")

    stack.airflow.kill("scheduler")
    stack.simulator.pace(0)
    stack.airflow.start("scheduler")

    assert_answered_and_paid_once(stack, run_id, known)


def test_worker_killed_before_the_response_of_create_does_not_pay_again(stack: Stack) -> None:
    known = batch_ids(stack.simulator)
    stack.simulator.inject(do="slow", on="create", seconds=30)
    run_id = stack.trigger()
    wait_for(lambda: new_batches(stack.simulator, known), seconds=60, what="the batch to be created")

    stack.airflow.kill("scheduler")
    stack.simulator.pace(0)
    stack.airflow.start("scheduler")

    assert_answered_and_paid_once(stack, run_id, known)


def test_only_the_connection_decides_which_server_is_called(
    stack: Stack, start_simulator: Callable[[], SimulatorProcess]
) -> None:
    known, other = batch_ids(stack.simulator), start_simulator()
    other.pace(0)
    with Gateway(other.url, KEY).serving() as gateway:
        stack.connect(host=gateway.url, password=GATEWAY_KEY, extra='{"auth": "x-api-key"}')
        run_id = stack.trigger()
        rows = stack.wait_for_success(run_id)

    assert len(rows) == other.books()["billed_requests"] > 200
    assert batch_ids(stack.simulator) == known
    assert gateway.refused == 0
