"""The runner of DAGs in users' tests. tests/docs runs it as a user's tests do, with the whole plugin."""

from __future__ import annotations

from typing import Any

import pytest
from airflow import configuration
from airflow.sdk import DAG
from airflow.secrets.base_secrets import BaseSecretsBackend

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.simulator.dag_runs import run_dag

pytestmark = pytest.mark.airflow


class Vault(BaseSecretsBackend):
    """A secrets backend with a connection that would cost money."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def get_conn_value(self, conn_id: str, *_: Any, **__: Any) -> str:
        self.asked.append(conn_id)
        return '{"conn_type": "claude", "password": "sk-real", "host": "http://127.0.0.1:9"}'


def test_a_secrets_backend_that_was_configured_at_first_is_not_asked(
    airflow_db: None, claude_default: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    vault = Vault()
    found = [vault, *configuration.secrets_backend_list]
    monkeypatch.setattr(configuration, "secrets_backend_list", found)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "")  # as the fixture `claude` does
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__RESULTS_PATH", str(tmp_path))
    with DAG("guarded") as dag:
        SendMessageBatchOperator(task_id="ask", messages=["Why?"], wait_for_completion=True, deferrable=True)

    run = run_dag(dag)

    assert (str(run.state), vault.asked) == ("success", [])
    assert configuration.secrets_backend_list is found
