"""The main example on real processes with faults, with its connection in Airflow's database."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow_stack import CONNECTION_ID, UNTIL_ENDED, DagStack, Stack
from gateway import GATEWAY_KEY, Gateway
from otlp_receiver import OtlpReceiver
from statsd_listener import StatsdListener

from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from demo.airflow_api import wait_for
from demo.simulator import KEY, SimulatorProcess

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def running(dag_stack: DagStack) -> Stack:
    return Stack(dag_stack.airflow, dag_stack.simulators[CONNECTION_ID])


@dataclass(frozen=True)
class FirstRun:
    """The first run of the stack, which nothing interrupts but two polls that fail.

    :param known: the batches before it.
    :param received: the metrics up to its end.
    """

    run_id: str
    known: list[str]
    received: Counter[str]


@pytest.fixture(scope="module")
def first_run(running: Stack, statsd: StatsdListener) -> FirstRun:
    known = batch_ids(running.simulator)
    statsd.listen().clear()  # what other DAGs have sent
    run_id = running.trigger()
    running.wait_for_task(run_id, "wait", "deferred")
    running.simulator.inject(do="status", on="retrieve", status=500, times=2)
    wait_for(
        lambda: statsd.listen()["poll_errors,error=ServerError"] == 2, seconds=120, what="the failed polls' metric"
    )
    running.simulator.pace(0)
    running.wait_for_success(run_id)
    return FirstRun(run_id, known, Counter(statsd.listen()))


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
    """Check that every option has its answer, in the order of the table, from one message batch."""
    rows = stack.wait_for_success(run_id)
    asked = stack.returned(run_id, "save_options")
    assert len(rows) == asked > 200
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert {row.status for row in rows} == {"succeeded"}
    (batch,) = new_batches(stack.simulator, known)
    assert batch["request_count"] == asked
    assert stack.returned(run_id, "wait")["batch_ids"] == [batch["id"]]


def test_deferred_wait_on_a_real_triggerer_answers_every_option(running: Stack, first_run: FirstRun) -> None:
    assert_answered_and_paid_once(running, first_run.run_id, first_run.known)
    report = Path(running.returned(first_run.run_id, "write_report").removeprefix("file://")).read_text()
    assert report.count("<tr><td>core.") > 50


def test_metrics_of_workers_and_of_the_triggerer_arrive(
    running: Stack, first_run: FirstRun, statsd: StatsdListener
) -> None:
    rows, received = running.wait_for_success(first_run.run_id), first_run.received

    model = rows[0].model
    assert received[f"requests,model={model}"] == received[f"rows,outcome=succeeded,model={model}"] == len(rows) > 200
    assert received["submissions,status=in_progress"] == received["submissions,status=ended"] == 1
    assert received[f"tokens,kind=output,model={model}"] == sum(row.usage["output_tokens"] for row in rows if row.usage)
    assert received[f"cost_microusd,model={model}"] > 0
    assert received["queue_time"] == received["turnaround"] == 1
    assert statsd.invalid == []


def test_submission_is_one_span_below_the_one_that_airflow_makes_of_its_task(
    running: Stack, first_run: FirstRun, traces: OtlpReceiver
) -> None:
    rows = running.wait_for_success(first_run.run_id)
    wait_for(lambda: traces.of_run(first_run.run_id), seconds=60, what="the span of the submission")

    (span,) = traces.of_run(first_run.run_id)
    assert span.name == f"chat {rows[0].model}"
    assert span.attributes["airflow.task_id"] == "wait"
    assert span.attributes["claude_batch.rows.succeeded"] == len(rows)
    assert span.attributes["gen_ai.usage.output_tokens"] == sum(row.usage["output_tokens"] for row in rows if row.usage)
    if AIRFLOW_VERSION >= (3, 2):  # before, Airflow gives its trace to no task
        assert span.parent_id
        assert [other for other in traces.spans if other.trace_id == span.trace_id and other is not span]


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
