"""A task that is retried after its timeout, and one beside it to clear meanwhile."""

from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator

with DAG("clear_or_retry", schedule=None, default_args={"claude_conn_id": "clear_or_retry"}):

    @task
    def beside() -> None: ...

    beside()
    SendMessageBatchOperator(
        task_id="ask",
        messages=["a"],
        wait_for_completion=True,
        deferrable=False,
        poll_interval=1,
        timeout=timedelta(seconds=10),
        on_timeout="leave",
        reuse_answers=False,
        retries=1,
        pool="clear_or_retry",  # without the pool, the retry stays scheduled
    )
