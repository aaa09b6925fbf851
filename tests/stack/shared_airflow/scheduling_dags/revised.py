"""Both ways to wait: in the sending task, and in a sensor."""

from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

MESSAGES = [{"key": animal, "prompt": f"What does the {animal} eat?"} for animal in ("ant", "bee", "cat")]

with DAG("revised", schedule=None, description="as first written", default_args={"claude_conn_id": "revised"}):
    SendMessageBatchOperator(
        task_id="ask", messages=MESSAGES, model="claude-haiku-5-5", wait_for_completion=True, deferrable=True
    )
    send = SendMessageBatchOperator(task_id="send", messages=MESSAGES, model="claude-haiku-5-5", system="Briefly.")
    MessageBatchSensor(task_id="wait", batch=send.output, deferrable=True)
