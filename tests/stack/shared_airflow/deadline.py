"""A task whose rows have to be there at a deadline, and whose message batches would take a day."""

from datetime import timedelta

from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator

with DAG("deadline", schedule=None):
    SendMessageBatchOperator(
        task_id="ask",
        claude_conn_id="deadline",
        messages=[{"key": letter, "prompt": f"What is {letter}?"} for letter in "abcdefg"],
        model="claude-haiku-5-5",
        wait_for_completion=True,
        deferrable=True,
        poll_interval=1,
        timeout=timedelta(minutes=11),
        on_timeout="ask_directly",
        direct_reserve=timedelta(minutes=10),  # so one minute for the batches
        direct_concurrency=2,
    )
