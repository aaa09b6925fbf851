"""Tasks that take their time when they are done again, and those after them, which have begun or are about to."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

HOME = Path(os.environ["AIRFLOW_HOME"])
#: Before this is there, no second try ends. Airflow has forgotten the output of the first when a second begins.
GATE = HOME / "gate"
#: Before this is there, the pool is full.
ROOM = HOME / "room"


def wait_for(path: Path) -> None:
    """For ten minutes at most: a task outlives the test that was killed."""
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.2)
    raise TimeoutError(path)


class SlowWhenDoneAgain(SendMessageBatchOperator):
    def execute(self, context: Any) -> Any:
        if context["ti"].try_number > 1:
            wait_for(GATE)
        return super().execute(context)


@task
def prompts(texts: list[str], ti: Any = None) -> list[str]:
    if ti.try_number > 1:
        wait_for(GATE)
    return texts


@task(pool="narrow", priority_weight=10)
def fill_the_pool() -> None:
    wait_for(ROOM)


with DAG("made_again", schedule=None, default_args={"poll_interval": 1, "deferrable": True, "retries": 0}):
    one = SlowWhenDoneAgain(task_id="send", messages=["a"])
    MessageBatchSensor(task_id="wait", batch=one.output)

    each = SlowWhenDoneAgain.partial(task_id="send_each").expand(messages=[["b"] * 2, ["c"] * 3])
    MessageBatchSensor.partial(task_id="wait_each").expand(batch=each.output)

    fill_the_pool()
    SendMessageBatchOperator.partial(
        task_id="queued", pool="narrow", retries=1, retry_delay=timedelta(seconds=1)
    ).expand(messages=prompts.expand(texts=[["d"] * 4, ["e"] * 5]))
