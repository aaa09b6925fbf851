"""``reuse_answers=False`` on a real Airflow: a clear starts anew. A retry goes on, even if another task was cleared."""

import pytest
from airflow_database import task_instances
from airflow_stack import RUN_SECONDS, DagStack, clear_ended_run

from demo.airflow_api import wait_for

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "clear_or_retry", "run"
POOL = DAG_ID


@pytest.mark.usefixtures("preparations")  # the tasks of other files begin meanwhile
def test_clear_without_reuse_starts_anew_and_a_retry_continues(dag_stack: DagStack) -> None:
    airflow, simulator = dag_stack.airflow, dag_stack.simulators[DAG_ID]

    def wait_for_states(**expected: str) -> None:
        def found() -> bool:
            airflow.check()
            return {ti["task_id"]: ti["state"] for ti in task_instances(airflow, DAG_ID, RUN_ID)} == expected

        wait_for(found, seconds=RUN_SECONDS, what=f"the tasks to be {expected}")

    airflow.api.put_pool(POOL, slots=1, include_deferred=False)
    airflow.api.trigger(DAG_ID, RUN_ID)
    wait_for(lambda: simulator.books()["batches"], seconds=RUN_SECONDS, what="the first try to send")
    airflow.api.delete_pool(POOL)
    wait_for_states(ask="scheduled", beside="success")
    airflow.api.clear(DAG_ID, RUN_ID, "beside")
    simulator.pace(0)
    airflow.api.put_pool(POOL, slots=1, include_deferred=False)
    wait_for_states(ask="success", beside="success")
    assert len(simulator.books()["batches"]) == simulator.books()["billed_requests"] == 1

    clear_ended_run(airflow, DAG_ID, RUN_ID, "ask")
    wait_for(lambda: len(simulator.books()["batches"]) == 2, seconds=RUN_SECONDS, what="a new batch after the clear")
    wait_for_states(ask="success", beside="success")
    assert simulator.books()["billed_requests"] == 2
