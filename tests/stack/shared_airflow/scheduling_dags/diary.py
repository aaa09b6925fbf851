"""One question per day for three past days, at most two runs at the same time."""

import pendulum
from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator

with DAG(
    "diary",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1),
    end_date=pendulum.datetime(2026, 1, 3),
    catchup=True,
    max_active_runs=2,
    is_paused_upon_creation=True,
):
    SendMessageBatchOperator(
        task_id="ask",
        messages=["What happened on {{ data_interval_start | ds }}?"],
        claude_conn_id="diary",
        model="claude-haiku-5-5",
        wait_for_completion=True,
        deferrable=True,
    )
