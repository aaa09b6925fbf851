"""A day without requests, and arguments that the operator hands over to the sensor, on Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from workbench import Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.sources import FileRows

pytestmark = pytest.mark.airflow


def send(task_id: str, messages: Any, **arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id=task_id, messages=messages, deferrable=False, **arguments)


def test_empty_day_is_what_the_author_says(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("empty_day") as dag:

        @task
        def nothing() -> list[str]:
            return []

        none: Any = nothing()
        send("skip", none, on_empty="skip")
        succeeded = send("succeed", none, on_empty="succeed")
        MessageBatchSensor(task_id="wait_succeed", batch=succeeded.output, deferrable=False, poke_interval=0.05)
        send("dry", none, on_empty="succeed", dry_run=True)

        @task.claude_batch(on_empty="skip")
        def ask() -> Any:
            yield from ()

        ask()
    run = bench.run(dag)

    assert run.states == {
        "nothing": "success",
        "skip": "skipped",
        "succeed": "success",
        "wait_succeed": "success",
        "dry": "success",
        "ask": "skipped",
    }
    for task_id in ("succeed", "wait_succeed"):
        manifest = run.xcom(task_id)
        assert (manifest["status"], manifest["request_count"], manifest["batch_ids"]) == ("ended", 0, [])
        assert list(read_rows(manifest)) == list(read_rows(manifest["results_path"])) == []
    assert (run.folder("succeed") / "results.jsonl").read_bytes() == b""
    assert run.xcom("dry")["request_count"] == 0
    assert simulator.books()["calls"]["create"] == 0


def test_folder_without_files_is_what_the_author_says(
    bench: Workbench, claude_default: str, simulator: Any, tmp_path: Path
) -> None:
    with bench.dag("no_files") as dag:
        for on_empty in ("fail", "skip", "succeed"):
            SendMessageBatchOperator(
                task_id=on_empty,
                rows=FileRows(f"{tmp_path}/day={{{{ ds }}}}/"),
                prompt="{text}",
                on_empty=on_empty,  # type: ignore[arg-type]  # one of its choices
                deferrable=False,
            )
    run = bench.run(dag)

    assert run.states == {"fail": "failed", "skip": "skipped", "succeed": "success"}
    assert "rows: there is no file at " in run.error("fail")
    assert (run.xcom("succeed")["status"], run.xcom("succeed")["request_count"]) == ("ended", 0)
    assert simulator.books()["calls"]["create"] == 0


def expired(custom_id: str, params: Any, attempt_no: int) -> str:
    return "expired"


@pytest.mark.parametrize("simulator", [{"outcome": expired}], indirect=True, ids=["expired"])
def test_sensor_allows_what_the_operator_allows_unless_it_has_its_own(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    sense: dict[str, Any] = {"deferrable": False, "poke_interval": 0.05}
    with bench.dag("handed_over") as dag:
        sent = send("send", ["a", "b"], allow_failed=1.0, delete_batches=True)
        strict = MessageBatchSensor(task_id="strict", batch=sent.output, allow_failed=1, delete_batches=False, **sense)
        MessageBatchSensor(task_id="wait", batch=sent.output, trigger_rule="all_done", **sense) << strict
    run = bench.run(dag)

    assert (run.states["strict"], run.states["wait"]) == ("failed", "success")
    assert "2 of 2 requests ended without an answer (allow_failed permits 1)" in run.error("strict")
    assert [batch["deleted"] for batch in simulator.books()["batches"]] == [True]
