"""Message batches on AWS's platform and on Google's, with the accounts of the machine."""

from airflow.sdk import DAG

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

with DAG("platforms_dag", schedule=None):
    for name in ("on_aws", "on_google"):
        send = SendMessageBatchOperator(
            task_id=f"send_{name}", claude_conn_id=name, messages=["first", "second"], deferrable=True
        )
        MessageBatchSensor(
            task_id=f"wait_{name}", claude_conn_id=name, batch=send.output, deferrable=True, poll_interval=1
        )
