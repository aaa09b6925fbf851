"""Message batches on AWS's and Google's platform on a real Airflow, with credentials that end while tasks wait."""

from __future__ import annotations

import pytest
from airflow_database import run_state, task_instances
from airflow_stack import DagStack

from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.simulator import Simulator
from shared_airflow.platforms import Platforms
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "platforms_dag", "run"
SENSORS = ("wait_on_aws", "wait_on_google")


def prepare(stack: DagStack) -> None:
    """Send on both platforms, and let the sensors wait in the triggerer."""
    stack.airflow.api.trigger(DAG_ID, RUN_ID)

    def both_wait() -> bool:
        found = {each["task_id"]: each["state"] for each in task_instances(stack.airflow, DAG_ID, RUN_ID)}
        assert not {"failed", "upstream_failed"} & set(found.values()), found
        return all(found.get(sensor) == "deferred" for sensor in SENSORS)

    stack.wait_for(both_wait, "the sensors of both platforms to wait")


def test_deferred_tasks_go_on_with_credentials_that_are_renewed(
    dag_stack: DagStack, preparations: Preparations, platforms: Platforms
) -> None:
    preparations.result_of(prepare)
    simulators = (platforms.aws, platforms.google)
    before = [polls(each) for each in simulators]
    dag_stack.wait_for(
        lambda: all(polls(each) >= number + 4 for each, number in zip(simulators, before, strict=True)),
        "four more looks at each batch",
    )
    for simulator in simulators:
        simulator.pace(0)
    dag_stack.wait_for(lambda: run_state(dag_stack.airflow, DAG_ID, RUN_ID) in ("success", "failed"), "the run to end")

    assert run_state(dag_stack.airflow, DAG_ID, RUN_ID) == "success"
    for sensor, simulator in zip(SENSORS, simulators, strict=True):
        manifest = dag_stack.airflow.api.returned(DAG_ID, RUN_ID, sensor)
        assert [row.status for row in read_rows(manifest)] == ["succeeded", "succeeded"]
        assert simulator.books()["billed_requests"] == 2
    # Only the newest two credentials are accepted.
    assert platforms.sts.given >= polls(platforms.aws)
    assert len(platforms.metadata.issued) >= polls(platforms.google)


def polls(simulator: Simulator) -> int:
    """Return how often the batch was looked at: alone, or in a listing."""
    calls = simulator.calls()
    return calls["retrieve"] + calls["list"]
