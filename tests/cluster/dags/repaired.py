"""Failed requests are sent again in repair rounds."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, workload

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def prompts(run_id=None):
    return workload("repaired").prompts(run_id)


@task
def count(manifest):
    return sum(row.status == "succeeded" for row in read_rows(manifest))


with DAG("repaired", schedule=None, default_args={"retries": 30, "retry_delay": timedelta(seconds=3)}):
    ask = SendMessageBatchOperator(
        task_id="ask",
        messages=prompts(),
        model=MODEL,
        max_tokens=MAX_TOKENS,
        wait_for_completion=True,
        deferrable=True,
        repair_rounds=2,
    )
    count(ask.output)
