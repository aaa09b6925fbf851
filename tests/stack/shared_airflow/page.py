"""DAGs whose submissions the page in Airflow's UI shows. Their batches run until a test ends them."""

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

DEFAULT_ARGS = {"claude_conn_id": "page", "poll_interval": 1, "retries": 0}

with DAG("page", schedule=None, default_args=DEFAULT_ARGS):
    SendMessageBatchOperator(
        task_id="ask", messages=["A prompt <b>of ask</b>", "Another"], wait_for_completion=True, deferrable=True
    )
    SendMessageBatchOperator(task_id="by_click", messages=["a"], wait_for_completion=True, deferrable=True)
    SendMessageBatchOperator(task_id="in_worker", messages=["a"] * 3, wait_for_completion=True, deferrable=False)
    send = SendMessageBatchOperator(task_id="send", messages=["a"] * 4, wait_for_completion=False)
    MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)

    @task.claude_batch(wait_for_completion=True, deferrable=True)
    def decorated(name: str) -> list[str]:
        return [name]

    decorated.expand(name=["x", "y"])

with DAG("page_hidden", schedule=None, default_args=DEFAULT_ARGS):
    SendMessageBatchOperator(task_id="ask", messages=["A secret prompt"], wait_for_completion=True, deferrable=True)
