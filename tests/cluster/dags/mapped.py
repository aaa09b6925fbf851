"""A mapped task: one message batch per input."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, workload

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def prompts(run_id=None):
    return [workload("mapped").prompts(run_id, index) for index in workload("mapped").map_indices]


@task
def count(manifests):
    return sum(row.status == "succeeded" for manifest in manifests for row in read_rows(manifest))


with DAG("mapped", schedule=None, default_args={"retries": 30, "retry_delay": timedelta(seconds=3)}):
    ask = SendMessageBatchOperator.partial(
        task_id="ask",
        model=MODEL,
        max_tokens=MAX_TOKENS,
        wait_for_completion=True,
        deferrable=True,
    ).expand(messages=prompts())
    count(ask.output)
