"""One task per input, each with a message batch of its own."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, load

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows


@task
def prompts(run_id=None):
    return [load("mapped").prompts(run_id, index) for index in load("mapped").map_indices]


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
