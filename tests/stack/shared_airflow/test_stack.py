"""The main example on real processes that are killed, and with another server in its connection."""

from collections.abc import Callable

import pytest
from airflow_stack import DagStack
from gateway import GATEWAY_KEY, Gateway

from demo.simulator import KEY, SimulatorProcess
from shared_airflow import main_example

pytestmark = pytest.mark.stack

DAG_IDS = (main_example.DAG_ID, *main_example.COPIES)
RUN_ID = "run"


def prepare_alone(stack: DagStack) -> None:
    """Kill the scheduler and its workers while one batch runs, and before the response of another create call."""
    deferred, sending = (main_example.copy(stack, name) for name in ("scheduler_is_killed", "worker_is_killed"))
    sending.simulator.inject(do="slow", on="create", seconds=600)
    for each in (deferred, sending):
        each.trigger(RUN_ID)
    deferred.wait_for_task(RUN_ID, "wait", "deferred")
    stack.wait_for(lambda: sending.simulator.books()["batches"], "the batch to be created")
    stack.airflow.kill("scheduler")
    for each in (deferred, sending):
        each.simulator.pace(0)
    stack.airflow.start("scheduler")
    stack.airflow.wait_until_healthy("scheduler")


def prepare(stack: DagStack) -> None:
    waiting = main_example.copy(stack, "triggerer_is_killed")
    waiting.trigger(RUN_ID)
    waiting.wait_for_task(RUN_ID, "wait", "deferred")


def while_triggerer_is_down(stack: DagStack, _prepared: None) -> None:
    stack.simulators["triggerer_is_killed"].pace(0)


@pytest.mark.usefixtures("triggerer_killed")
def test_triggerer_killed_while_it_waits_continues_after_its_restart(dag_stack: DagStack) -> None:
    main_example.assert_answered_and_paid_once(main_example.copy(dag_stack, "triggerer_is_killed"), RUN_ID)


@pytest.mark.usefixtures("preparations")
def test_scheduler_and_workers_killed_while_the_batch_runs_continue_after_their_restart(dag_stack: DagStack) -> None:
    main_example.assert_answered_and_paid_once(main_example.copy(dag_stack, "scheduler_is_killed"), RUN_ID)


@pytest.mark.usefixtures("preparations")
def test_worker_killed_before_the_response_of_create_does_not_pay_again(dag_stack: DagStack) -> None:
    main_example.assert_answered_and_paid_once(main_example.copy(dag_stack, "worker_is_killed"), RUN_ID)


def test_only_the_connection_decides_which_server_is_called(
    dag_stack: DagStack, start_simulator: Callable[[], SimulatorProcess]
) -> None:
    stack, other = main_example.original(dag_stack), start_simulator()
    known = stack.simulator.books()["batches"]
    other.pace(0)
    with Gateway(other.url, KEY).serving() as gateway:
        stack.connect(host=gateway.url, password=GATEWAY_KEY, extra='{"auth": "x-api-key"}')
        stack.trigger(RUN_ID)
        rows = stack.wait_for_success(RUN_ID)

    assert len(rows) == other.books()["billed_requests"] > 200
    assert stack.simulator.books()["batches"] == known
    assert gateway.refused == 0
