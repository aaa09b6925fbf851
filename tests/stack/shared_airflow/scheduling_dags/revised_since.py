"""The version that replaces ``revised.py`` while its batches run: other questions, limits, tasks and dependencies."""

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

MESSAGES = [{"key": animal, "prompt": f"What does the {animal} eat?"} for animal in ("ant", "bee", "dog")]


@task
def read(manifest):
    """Return the keys. The run did not have this task at its start."""
    return [row.key for row in read_rows(manifest)]


with DAG("revised", schedule=None, description="as revised", default_args={"claude_conn_id": "revised"}):
    ask = SendMessageBatchOperator(
        task_id="ask",
        messages=MESSAGES,
        model="claude-haiku-5-5",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=2,
        timeout=timedelta(hours=20),
        repair_rounds=3,
        cancel_on_kill=False,
    )
    send = SendMessageBatchOperator(task_id="send", messages=MESSAGES, model="claude-haiku-5-5", system="Briefly.")
    wait = MessageBatchSensor(
        task_id="wait", batch=send.output, deferrable=True, poll_interval=2, timeout=timedelta(hours=20), allow_failed=1
    )
    read(wait.output)
    read(ask.output)
