"""One task sends, a deferred sensor waits."""

from datetime import timedelta

from airflow.sdk import DAG, task
from cluster.workload import MAX_TOKENS, MODEL, workload

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor


@task
def prompts(run_id=None):
    return workload("two_tasks").prompts(run_id)


@task
def count(manifest):
    return sum(row.status == "succeeded" for row in read_rows(manifest))


with DAG("two_tasks", schedule=None, default_args={"retries": 30, "retry_delay": timedelta(seconds=3)}):
    send = SendMessageBatchOperator(task_id="send", messages=prompts(), model=MODEL, max_tokens=MAX_TOKENS)
    wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True, cancel_on_kill=True)
    count(wait.output)
