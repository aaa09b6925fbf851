"""Tasks whose second attempt waits for the test, and tasks downstream that are waiting or about to start."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

HOME = Path(os.environ["AIRFLOW_HOME"])
#: Second attempts wait for this file. Airflow deletes the output of the first attempt when the second starts.
REPEAT_GATE = HOME / "repeat_gate"
#: The pool is full until this file exists.
POOL_GATE = HOME / "pool_gate"


def wait_for(path: Path) -> None:
    """Wait for a file, at most ten minutes, because a task may outlive a killed test."""
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.2)
    raise TimeoutError(path)


class SlowWhenRepeated(SendMessageBatchOperator):
    def execute(self, context: Any) -> Any:
        if context["ti"].try_number > 1:
            wait_for(REPEAT_GATE)
        return super().execute(context)


@task
def prompts(texts: list[str], ti: Any = None) -> list[str]:
    if ti.try_number > 1:
        wait_for(REPEAT_GATE)
    return texts


@task(pool="narrow", priority_weight=10)
def fill_the_pool() -> None:
    wait_for(POOL_GATE)


DEFAULT_ARGS = {"claude_conn_id": "cleared_upstream", "poll_interval": 1, "deferrable": True, "retries": 0}

with DAG("cleared_upstream", schedule=None, default_args=DEFAULT_ARGS):
    one = SlowWhenRepeated(task_id="send", messages=["a"])
    MessageBatchSensor(task_id="wait", batch=one.output)

    each = SlowWhenRepeated.partial(task_id="send_each").expand(messages=[["b"] * 2, ["c"] * 3])
    MessageBatchSensor.partial(task_id="wait_each").expand(batch=each.output)

    fill_the_pool()
    SendMessageBatchOperator.partial(
        task_id="queued", pool="narrow", retries=1, retry_delay=timedelta(seconds=1)
    ).expand(messages=prompts.expand(texts=[["d"] * 4, ["e"] * 5]))
