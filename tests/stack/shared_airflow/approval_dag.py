"""DAG whose tasks ask a person before they send."""

from __future__ import annotations

from airflow_stack import Simulators, environment

from demo.airflow_processes import airflow_version

DAG_ID = "approval"
DAG = """
from airflow.sdk import DAG
from airflow_claude_batch.operators import SendMessageBatchOperator

QUESTIONS = [f"Question {number}: is {number} a prime number?" for number in range(8)]
DEFAULT_ARGS = {
    "claude_conn_id": "approval", "model": "claude-haiku-5-5", "max_tokens": 2000, "messages": QUESTIONS,
    "wait_for_completion": True, "deferrable": True, "approve_above": 0.001, "poll_interval": 1, "retries": 1,
}

with DAG("approval", schedule=None, default_args=DEFAULT_ARGS):
    SendMessageBatchOperator(task_id="approved", sample=3)
    SendMessageBatchOperator(task_id="in_worker", deferrable=False)
    SendMessageBatchOperator(task_id="rejected")
    SendMessageBatchOperator(task_id="skipped", on_rejected="skip")
    SendMessageBatchOperator(task_id="not_answered", approval_timeout=10)
"""


def is_supported() -> bool:
    """Tell whether the tested Airflow can ask a person."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2])) >= (3, 1)


def waits_in_triggerer() -> bool:
    """Tell whether a task that asks is deferred. From 3.3 on, it waits in a state of its own."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2])) < (3, 3)


def first_question_stays() -> bool:
    """Tell whether a clear shows the text of the first question again. From 3.4 on, it shows the new one."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2])) < (3, 4)


def source(simulators: Simulators) -> str:
    """Return the text of the DAG's file."""
    return DAG
