"""Submissions that end before their batches: at a timeout, or when a user kills the task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from workbench import Workbench

from airflow_claude_batch._airflow.compat import TaskDeferred
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

pytestmark = pytest.mark.airflow

HOUR = 3600.0
SOON = timedelta(seconds=1)
#: Airflow bounds each resumption by it, too, and one takes more than a second on a busy machine.
LONGER_THAN_A_STEP = timedelta(seconds=4)


def running(**options: Any) -> Any:
    """A simulator whose batches run for an hour."""
    return pytest.mark.parametrize("simulator", [{"batch_seconds": HOUR, **options}], indirect=True, ids=["running"])


def ask(task_id: str = "ask", **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, messages=["a", "b"], wait_for_completion=True, **arguments)


def open_batches(simulator: Any) -> list[str]:
    return [batch["id"] for batch in simulator.books(detail=False)["batches"] if not batch["ended_at"]]


# ---------------------------------------------------------------- timeouts


@running(cancel_succeeded_share=0.5)
@pytest.mark.parametrize("deferrable", [False, True], ids=["working", "deferred"])
def test_timeout_cancels_the_batches_and_lands_what_was_answered(
    deferrable: bool, bench: Workbench, claude_default: str, simulator: Any
) -> None:
    with bench.dag("canceled") as dag:
        ask(timeout=SOON, deferrable=deferrable)
    run = bench.run(dag)

    assert run.states == {"ask": "failed"}
    assert (
        "its timeout of 0:00:01.\nNo message batch of it is running any more. What was answered is landed"
        in run.error("ask")
    )
    assert open_batches(simulator) == []
    rows = list(read_rows(str(run.folder("ask") / "results.jsonl")))
    assert sorted(row.status for row in rows) == ["canceled", "succeeded"]
    assert simulator.books()["billed_requests"] == 1


@running()
def test_timeout_may_leave_the_batches_for_the_next_try(bench: Workbench, claude_default: str, simulator: Any) -> None:
    def dag(**arguments: Any) -> Any:
        with bench.dag("left") as dag:
            ask(on_timeout="leave", **arguments)
        return dag

    run = bench.run(dag(timeout=SOON))
    (batch,) = open_batches(simulator)
    assert run.states == {"ask": "failed"}
    assert f"1 message batch is still running and billed for what is answered: {batch}." in run.error("ask")

    simulator.pace(0)
    run = run.again(dag(), "ask")
    assert run.states == {"ask": "success"}
    assert run.xcom("ask")["batch_ids"] == [batch]
    assert simulator.books()["billed_requests"] == 2


@running(cancel_succeeded_share=0.5)
def test_retry_after_a_timeout_sends_unanswered_requests(bench: Workbench, claude_default: str, simulator: Any) -> None:
    simulator.pace(lambda batch: HOUR if batch.number == 0 else 0.0)
    with bench.dag("timed_out") as dag:
        ask(timeout=SOON, retries=1, retry_delay=timedelta(0))
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.tries("ask") == 2
    assert [batch["request_count"] for batch in simulator.books()["batches"]] == [2, 1]
    assert simulator.books()["billed_requests"] == 2


@running()
def test_execution_timeout_bounds_the_attempt(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("bounded") as dag:
        ask(execution_timeout=LONGER_THAN_A_STEP, deferrable=True)
    run = bench.run(dag)

    assert "did not end within its timeout of 0:00:0" in run.error("ask")
    assert open_batches(simulator) == []


@pytest.mark.parametrize("deferrable", [False, True], ids=["in a worker", "deferred"])
@running(cancel_succeeded_share=0.5)
def test_what_has_no_answer_before_the_timeout_is_asked_directly(
    bench: Workbench, claude_default: str, simulator: Any, deferrable: bool, caplog: Any
) -> None:
    with bench.dag(f"deadline_{deferrable}") as dag:
        ask(
            deferrable=deferrable,
            timeout=timedelta(seconds=60),
            on_timeout="ask_directly",
            direct_reserve=timedelta(seconds=57),
            poll_interval=0.2,
            max_cost=1,
        )
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.xcom("ask")["counts"]["succeeded"] == 2
    assert run.xcom("ask")["direct"]["answers"] == 1
    rows = list(read_rows(run.xcom("ask")))
    assert sorted(str(row.way) for row in rows) == ["None", "direct"]
    books = simulator.books()
    assert (books["billed_requests"], books["direct"]["billed_requests"]) == (1, 1)
    assert "The bill by way: message batches" in caplog.text


class PastAirflowsOwnTimeout(SendMessageBatchOperator):
    """A task whose triggerer was down until Airflow's own deferral timeout fired."""

    simulator: Any = None
    fired_after: Any = None

    def execute(self, context: Any) -> Any:
        try:
            return super().execute(context)
        except TaskDeferred as deferred:
            type(self).fired_after = deferred.timeout
        (batch,) = open_batches(self.simulator)
        self.simulator.end(batch)
        return self.resume_execution("__fail__", {"error": "Trigger timeout"}, context)


@running()
def test_airflow_deferral_timeout_lands_what_was_answered(
    bench: Workbench, claude_default: str, simulator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PastAirflowsOwnTimeout, "simulator", simulator)
    with bench.dag("deferral_timeout") as dag:
        PastAirflowsOwnTimeout(task_id="ask", messages=["a", "b"], wait_for_completion=True, deferrable=True)
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert run.xcom("ask")["counts"]["succeeded"] == 2
    assert simulator.books()["billed_requests"] == 2
    assert PastAirflowsOwnTimeout.fired_after > timedelta(hours=25)


# ---------------------------------------------------------------- killed


@running(cancel_succeeded_share=0.5)
def test_killed_task_cancels_its_batches_and_keeps_what_was_answered(
    bench: Workbench, claude_default: str, simulator: Any, terminate: Any
) -> None:
    with bench.dag("killed") as dag:
        # A timeout that left alone would cancel as well, and hide that nobody did before.
        ask(poll_interval=0.2, timeout=timedelta(seconds=20), on_timeout="leave")
    terminate(lambda: simulator.calls()["retrieve"])
    run = bench.run(dag)

    assert simulator.calls()["cancel"] == 1
    assert open_batches(simulator) == []
    assert run.states == {"ask": "failed"}
    rows = list(read_rows(str(run.folder("ask") / "results.jsonl")))
    assert sorted(row.status for row in rows) == ["canceled", "succeeded"]


@running()
def test_process_ended_by_no_user_leaves_its_batches_to_the_next_try(
    bench: Workbench, claude_default: str, simulator: Any, terminate: Any
) -> None:
    with bench.dag("shut_down") as dag:
        ask(poll_interval=0.2, timeout=timedelta(seconds=3), on_timeout="leave")
    terminate(lambda: simulator.calls()["retrieve"], state=None)
    bench.run(dag)

    assert len(open_batches(simulator)) == 1
    assert simulator.calls()["cancel"] == 0


@running()
def test_killed_task_leaves_its_batches_without_cancel_on_kill(
    bench: Workbench, claude_default: str, simulator: Any, terminate: Any
) -> None:
    with bench.dag("spared") as dag:
        ask(poll_interval=0.2, timeout=timedelta(seconds=3), cancel_on_kill=False, on_timeout="leave")
    terminate(lambda: simulator.calls()["retrieve"])
    bench.run(dag)

    assert len(open_batches(simulator)) == 1
    assert simulator.calls()["cancel"] == 0
