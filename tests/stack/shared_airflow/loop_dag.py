"""DAG with a loop around a task that sends, and a mapped one."""

from __future__ import annotations

from airflow_stack import Simulators, environment

from demo.airflow_processes import airflow_version

DAG_ID = "in_loop"
ITERATIONS = 3
DAG = f"""
from airflow.sdk import DAG, task, task_group
from airflow_claude_batch.operators import SendMessageBatchOperator

DEFAULT_ARGS = {{
    "claude_conn_id": "in_loop", "model": "claude-haiku-5-5", "max_tokens": 20, "wait_for_completion": True,
    "deferrable": True, "poll_interval": 1, "retries": 0, "cancel_on_kill": True,
}}

with DAG("in_loop", schedule=None, default_args=DEFAULT_ARGS):

    @task(retries=2)
    def question(*, loop):
        return [f"Question {{number}} of iteration {{loop.index}}" for number in range(loop.index + 1)]

    @task_group
    def rounds():
        ask = SendMessageBatchOperator(task_id="ask", messages=question())
        ask >> SendMessageBatchOperator.partial(task_id="each").expand(messages=[["left"], ["right", "far right"]])

    rounds.loop(max_iterations={ITERATIONS})
"""


def is_supported() -> bool:
    """Tell whether the tested Airflow has loops."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2])) >= (3, 4)


def source(simulators: Simulators) -> str:
    """Return the text of the DAG's file."""
    return DAG
