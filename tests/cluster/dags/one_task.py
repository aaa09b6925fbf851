"""One task sends, is deferred, and reads the results."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, workload

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def prompts(run_id=None):
    return workload("one_task").prompts(run_id)


@task
def count(manifest):
    return sum(row.status == "succeeded" for row in read_rows(manifest))


with DAG("one_task", schedule=None, default_args={"retries": 30, "retry_delay": timedelta(seconds=3)}):
    ask = SendMessageBatchOperator(
        task_id="ask",
        messages=prompts(),
        model=MODEL,
        max_tokens=MAX_TOKENS,
        wait_for_completion=True,
        deferrable=True,
    )
    count(ask.output)
