"""DAG with a sensor that starts in the triggerer, and one that starts in a worker. Both wait for the same batch."""

from __future__ import annotations

import httpx
from airflow_stack import Simulators, environment

from demo.airflow_processes import airflow_version
from demo.loopback import LOOPBACK
from demo.simulator import KEY, SimulatorProcess

DAG_ID = "starts_in_the_triggerer"
DAG = """
from airflow.sdk import DAG
from airflow_claude_batch.sensors import MessageBatchSensor

with DAG({dag_id!r}, schedule=None, default_args={{"claude_conn_id": {dag_id!r}, "deferrable": True}}):
    MessageBatchSensor(task_id="from_trigger", batch={batch_id!r}, start_from_trigger=True)
    MessageBatchSensor(task_id="from_worker", batch={batch_id!r})
"""


def is_supported() -> bool:
    """Tell whether the tested Airflow starts tasks in the triggerer. Before 3.3, the scheduler starts a worker."""
    return tuple(map(int, airflow_version(environment()).split(".")[:2])) >= (3, 3)


def source(simulators: Simulators) -> str:
    """Return the text of the DAG's file. Creates the batch that it names."""
    return DAG.format(dag_id=DAG_ID, batch_id=_create_batch(simulators[DAG_ID]))


def _create_batch(simulator: SimulatorProcess) -> str:
    message = {"role": "user", "content": "Hello"}
    params = {"model": "claude-haiku-5-5", "max_tokens": 16, "messages": [message]}
    response = httpx.post(
        f"{simulator.url}/v1/messages/batches",
        json={"requests": [{"custom_id": "only", "params": params}]},
        headers={"x-api-key": KEY, "anthropic-version": "2023-06-01"},
        **LOOPBACK,
    )
    return str(response.raise_for_status().json()["id"])
