"""What the runs of a task used: who writes it down, where, and what the next estimate makes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG
from workbench import Run, Workbench

from airflow_claude_batch._airflow.results_folder import sender_history_folder, submission_folder, submission_id
from airflow_claude_batch._airflow.task_history import TaskHistory
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]

TEN = [f"Question {number}" for number in range(10)]
OPTIONS = {"max_tokens": 1_000, "model": "claude-haiku-5-5", "poll_interval": 0.1}


def ask(bench: Workbench, **arguments: Any) -> DAG:
    with bench.dag("history") as dag:
        SendMessageBatchOperator(
            task_id="ask", **{"messages": TEN, "wait_for_completion": True, **OPTIONS, **arguments}
        )
    return dag


def runs_of(bench: Workbench, task_id: str) -> tuple[Any, ...]:
    ti = SimpleNamespace(dag_id="history", run_id="", task_id=task_id, map_index=-1)
    return TaskHistory(str(bench.results), ti).earlier_runs()


def estimate_of(run: Run, task_id: str = "ask") -> dict[str, Any]:
    estimate: dict[str, Any] = run.xcom(task_id)["estimate"]
    return estimate


def test_second_run_expects_what_the_first_one_used(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    dag = ask(bench)
    first, second = bench.run(dag), bench.run(dag)

    assert [estimate_of(run).get("expected_from_runs") for run in (first, second)] == [None, 1]
    bill = second.xcom("ask")["cost"]
    assert float(bill["estimated_usd"]) == pytest.approx(float(bill["usd"]), rel=0.15)
    assert estimate_of(second)["expected_seconds"]["runs"] == 1
    assert "of max_tokens, as in the last run." in caplog.text
    assert "The last run took " in caplog.text
    assert len(runs_of(bench, "ask")) == 2


def test_dry_run_expects_it_too_and_leaves_no_record(bench: Workbench) -> None:
    bench.run(ask(bench))

    dry = bench.run(ask(bench, dry_run=True))

    assert estimate_of(dry)["expected_from_runs"] == 1
    assert len(runs_of(bench, "ask")) == 1


@pytest.mark.parametrize("deferrable", [True, False])
def test_sensor_notes_it_in_the_history_of_the_operator(bench: Workbench, deferrable: bool) -> None:
    def day() -> DAG:
        with bench.dag("history") as dag:
            send = SendMessageBatchOperator(task_id="send", messages=TEN, **OPTIONS)
            MessageBatchSensor(task_id="wait", batch=send.output, deferrable=deferrable, poke_interval=0.1)
        return dag

    bench.run(day())
    second = bench.run(day())

    assert [len(runs_of(bench, task_id)) for task_id in ("send", "wait")] == [2, 0]
    assert estimate_of(second, "send")["expected_from_runs"] == 1


def test_clear_that_sends_nothing_leaves_no_record(bench: Workbench) -> None:
    dag = ask(bench)
    run = bench.run(dag)
    before = runs_of(bench, "ask")

    again = run.again(dag, "ask")

    assert again.states == {"ask": "success"}
    assert runs_of(bench, "ask") == before


def test_clear_of_a_changed_input_is_a_run_of_its_own(bench: Workbench) -> None:
    run = bench.run(ask(bench))

    run.again(ask(bench, messages=[*TEN, "Another question"]), "ask")

    assert [each.models["claude-haiku-5-5"].requests for each in runs_of(bench, "ask")] == [10, 1]


def test_first_instance_of_a_mapped_task_writes_for_all(bench: Workbench) -> None:
    with bench.dag("history") as dag:
        send = SendMessageBatchOperator.partial(task_id="send", **OPTIONS).expand(messages=[TEN, TEN[:3]])
        MessageBatchSensor.partial(task_id="wait", deferrable=True, poke_interval=0.1).expand(batch=send.output)
    bench.run(dag)

    (run,) = runs_of(bench, "send")

    assert run.models["claude-haiku-5-5"].requests == 10


@pytest.mark.parametrize("loop", [None, "loop-3", "loop-3-0af1"])
@pytest.mark.parametrize("map_index", [-1, 0, 7])
def test_history_of_the_sender_is_found_by_the_folder_of_its_submission(
    map_index: int, loop: str | None, tmp_path: Path
) -> None:
    ti = SimpleNamespace(
        dag_id="a/dag.b", run_id="manual__2026-11-22T09:00:00+00:00", task_id="g.ask", map_index=map_index
    )
    folder = submission_folder(str(tmp_path), ti, loop)

    found = sender_history_folder(folder, submission_id(ti, loop))

    if map_index == 7:
        assert found is None
    else:
        assert found is not None
        assert found.uri("") == LocalFolder(tmp_path / "a%2Fdag.b" / "_history" / "g.ask").uri("")
    assert sender_history_folder(folder, "another") is None
