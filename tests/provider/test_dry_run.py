"""dry_run=True: everything is checked and estimated, nothing is sent."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow


def test_dry_run_estimates_and_sends_nothing(run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any) -> None:
    with DAG("dry_run") as dag:
        send = SendMessageBatchOperator(
            task_id="send", messages=["one", "two"], results_path=str(tmp_path), dry_run=True
        )
        MessageBatchSensor(task_id="wait", batch=send.output, deferrable=False)
    run = run_dag(dag)

    manifest = run.get_task_instance("send").xcom_pull(task_ids="send")
    assert manifest["status"] == "dry_run"
    assert float(manifest["cost"]["estimated_usd"]) > 0
    assert manifest["estimate"]["requests"] == 2
    assert str(run.get_task_instance("wait").state) == "skipped"
    assert simulator.books()["calls"]["create"] == 0
    assert list(tmp_path.iterdir()) == []
