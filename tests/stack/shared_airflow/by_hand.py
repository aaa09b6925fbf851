"""Tasks that wait in a worker or in the triggerer until a test ends them. Each has another number of requests."""

from airflow.sdk import DAG, Asset

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

DEFAULT_ARGS = {"claude_conn_id": "by_hand", "wait_for_completion": True, "poll_interval": 1, "retries": 0}

with DAG("by_hand", schedule=None, default_args=DEFAULT_ARGS):
    SendMessageBatchOperator(task_id="failed_in_worker", messages=["a"], deferrable=False)
    SendMessageBatchOperator(task_id="stopped_in_worker", messages=["a"] * 4, deferrable=False)
    SendMessageBatchOperator(task_id="supervisor_stopped", messages=["a"] * 5, deferrable=False)
    SendMessageBatchOperator(task_id="failed_when_deferred", messages=["a", "b"], deferrable=True)
    SendMessageBatchOperator(
        task_id="cleared_when_deferred", messages=["a", "b", "c"], deferrable=True, outlets=[Asset("claude://cleared")]
    )
    for number, (name, deferrable, cancels) in enumerate(
        [("failed_in_worker", False, True), ("failed_when_deferred", True, True), ("kept_when_deferred", True, False)],
        6,
    ):
        send = SendMessageBatchOperator(task_id=f"send_{name}", messages=["a"] * number, wait_for_completion=False)
        MessageBatchSensor(
            task_id=f"sensor_{name}", batch=send.output, deferrable=deferrable, poke_interval=1, cancel_on_kill=cancels
        )
