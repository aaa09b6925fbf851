"""The main job on Airflow: messages from upstream, a batch, a sensor, the answers in the next task."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow


def states(run: Any) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


@pytest.fixture
def results_path(tmp_path: Any) -> str:
    return str(tmp_path / "results")


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "poking"])
def test_messages_from_upstream_come_back_as_rows_in_order(
    deferrable: bool, run_dag: Any, claude_default: str, simulator: Any, results_path: str
) -> None:
    taken: list[Any] = []
    with DAG("send_then_sense") as dag:

        @task
        def prompts() -> list[dict[str, Any]]:
            return [{"key": f"k{n}", "prompt": f"What is {n}? {{{{ 1 + 1 }}}}"} for n in range(5)]

        @task
        def take(manifest: dict[str, Any]) -> None:
            taken.append(manifest)

        send = SendMessageBatchOperator(
            task_id="send",
            messages=prompts(),
            model="claude-haiku-5-5",
            results_path=results_path,
            deferrable=deferrable,
        )
        wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=deferrable, poke_interval=0.01)
        take(wait.output)
    run = run_dag(dag)

    assert set(states(run).values()) == {"success"}
    (manifest,) = taken
    assert manifest["status"] == "ended"
    assert manifest["counts"]["succeeded"] == 5
    assert [row["key"] for row in manifest["responses"]] == ["k0", "k1", "k2", "k3", "k4"]
    assert [row.text for row in read_rows(manifest)] == [row["text"] for row in manifest["responses"]]
    assert "{{ 1 + 1 }}" in manifest["responses"][0]["text"]
    assert simulator.books()["billed_requests"] == 5


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_one_task_form_sends_waits_and_lands(
    deferrable: bool, run_dag: Any, claude_default: str, simulator: Any, results_path: str
) -> None:
    with DAG("one_task") as dag:
        SendMessageBatchOperator(
            task_id="ask",
            messages=["one", {"role": "user", "content": "two"}, [{"role": "user", "content": "three"}]],
            wait_for_completion=True,
            deferrable=deferrable,
            results_path=results_path,
            timeout=timedelta(minutes=5),
        )
    run = run_dag(dag)
    (ti,) = run.get_task_instances()

    assert str(ti.state) == "success"
    manifest = ti.xcom_pull(task_ids="ask")
    assert manifest["counts"]["succeeded"] == 3
    assert [row["key"] for row in manifest["responses"]] == [0, 1, 2]
