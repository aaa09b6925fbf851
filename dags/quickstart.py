"""Send three prompts as one message batch, wait without a worker, print the answers."""

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

with DAG("quickstart", schedule="@daily"):
    send = SendMessageBatchOperator(
        task_id="send",
        messages=["Why is the sky blue?", "Why is the sea salty?", "Why is grass green?"],
    )
    wait = MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)

    @task
    def show(manifest):
        """Print one answer per message, in the order of the messages."""
        for row in read_rows(manifest):
            print(row.text)

    show(wait.output)
