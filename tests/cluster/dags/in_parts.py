"""A submission with many parts: this file lowers the number of requests per message batch."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, PART_SIZE, workload

from airflow_claude_batch.api import limits
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

# Set before the modules are imported that read it as a default. A deployment has no reason to change it.
limits.MAX_REQUESTS = PART_SIZE


@task
def prompts(run_id=None):
    return workload("in_parts").prompts(run_id)


@task
def count(manifest):
    return sum(row.status == "succeeded" for row in read_rows(manifest))


with DAG("in_parts", schedule=None, default_args={"retries": 30, "retry_delay": timedelta(seconds=3)}):
    ask = SendMessageBatchOperator(
        task_id="ask",
        messages=prompts(),
        model=MODEL,
        max_tokens=MAX_TOKENS,
        wait_for_completion=True,
        deferrable=True,
    )
    count(ask.output)
