"""The same mapped task in two pools with one slot each. In one of them, a deferred task keeps its slot."""

from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator

with DAG("pooled", schedule=None):
    for pool, count in {"left_when_deferred": 4, "kept_when_deferred": 2}.items():
        SendMessageBatchOperator.partial(
            task_id=pool,
            pool=pool,
            claude_conn_id=pool,
            model="claude-haiku-5-5",
            wait_for_completion=True,
            deferrable=True,
        ).expand(messages=[[f"{pool}: question {number}"] for number in range(count)])
