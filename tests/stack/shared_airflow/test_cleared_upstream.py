"""Tasks are cleared alone on a real Airflow, while downstream tasks wait for their batches or are about to start."""

from collections.abc import Callable
from typing import Any

import pytest
from airflow_database import task_instances
from airflow_stack import RUN_SECONDS, DagStack, environment

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses, airflow_version
from demo.simulator import SimulatorProcess
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "cleared_upstream", "run"
#: Before Airflow 3.1, the output of a mapped task stays until it is overwritten.
MAPPED_OUTPUT_IS_DELETED = not airflow_version(environment()).startswith("3.0.")
Instance = tuple[str, int]
#: The sensor of each operator.
SENSORS: dict[Instance, Instance] = {
    ("send", -1): ("wait", -1),
    ("send_each", 0): ("wait_each", 0),
    ("send_each", 1): ("wait_each", 1),
}


class World:
    """The DAG of this test on a real Airflow, its simulator, and the files that its tasks wait for."""

    def __init__(self, airflow: AirflowProcesses, simulator: SimulatorProcess) -> None:
        self.airflow = airflow
        self.api = airflow.api
        self.simulator = simulator

    def open(self, name: str) -> None:
        (self.airflow.home / name).touch()

    def until(self, condition: Callable[[], Any], what: str) -> None:
        def checked() -> Any:
            self.airflow.check()
            return condition()

        wait_for(checked, seconds=RUN_SECONDS, what=what)

    def have_state(self, state: str, *instances: Instance) -> bool:
        found = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in task_instances(self.airflow, DAG_ID, RUN_ID)}
        return all(found.get(instance) == state for instance in instances)

    def returned(self, instance: Instance) -> Any:
        return self.api.returned(DAG_ID, RUN_ID, *instance)

    def clear(self, instance: Instance) -> None:
        """Clear only this task. Wait until it has started again, because its output is deleted then."""
        task_id, index = instance
        self.api.clear(DAG_ID, RUN_ID, task_id, map_index=index if index >= 0 else None)
        self.until(lambda: self.have_state("running", instance), f"{instance} to start again")
        if index < 0 or MAPPED_OUTPUT_IS_DELETED:
            self.until(lambda: self.returned(instance) is None, f"the output of {instance} to be deleted")

    def logs_contain(self, instance: Instance, words: str) -> bool:
        task_id, index = instance
        return any(words in line for line in self.api.log_lines(DAG_ID, RUN_ID, task_id, 1, index))

    def batches(self) -> list[int]:
        """Return the number of requests of each batch, sorted."""
        return sorted(batch["request_count"] for batch in self.simulator.books()["batches"])


def prepare(stack: DagStack) -> World:
    stack.airflow.api.put_pool("narrow", slots=1, include_deferred=True)
    stack.airflow.api.trigger(DAG_ID, RUN_ID)
    world = World(stack.airflow, stack.simulators[DAG_ID])
    stack.wait_for(lambda: world.have_state("deferred", *SENSORS.values()), "every sensor to be deferred")
    return world


@pytest.fixture(scope="module")
def world(preparations: Preparations) -> World:
    return preparations.result_of(prepare)


def test_sensors_wait_until_the_cleared_operators_are_done(world: World) -> None:
    sent, cleared = SENSORS, [("send", -1), ("send_each", 0)]
    world.until(lambda: world.have_state("success", *sent), "everything to be sent")
    world.until(lambda: world.have_state("deferred", *sent.values()), "every sensor to be deferred")
    batch_ids = {sender: world.returned(sender)["batch_ids"] for sender in sent}

    for sender in cleared:
        world.clear(sender)
        world.simulator.end(*batch_ids[sender])
    world.until(lambda: world.logs_contain(("wait", -1), ": send has not finished"), "the sensor to see that")
    if MAPPED_OUTPUT_IS_DELETED:
        words = ": send_each_0 has not finished"
        world.until(lambda: world.logs_contain(("wait_each", 0), words), "the mapped one to see that")

    world.open("repeat_gate")
    world.until(lambda: world.have_state("success", *(sent[sender] for sender in cleared)), "these sensors to succeed")
    world.simulator.end(*batch_ids["send_each", 1])
    world.until(lambda: world.have_state("success", *sent.values()), "the last sensor to succeed")
    assert {sender: world.returned(waiter)["batch_ids"] for sender, waiter in sent.items()} == batch_ids
    assert [world.returned(waiter)["counts"]["succeeded"] for waiter in sent.values()] == [1, 2, 3]
    assert world.batches() == [1, 2, 3]


def test_mapped_operator_does_not_send_the_messages_of_its_neighbour(world: World) -> None:
    queued = [("queued", 0), ("queued", 1)]
    world.until(lambda: world.have_state("scheduled", *queued), "the pool to keep both back")
    (world.airflow.home / "repeat_gate").unlink(missing_ok=True)
    world.clear(("prompts", 0))

    world.open("pool_gate")
    world.until(lambda: world.have_state("up_for_retry", *queued), "both to stop")
    assert all(world.logs_contain(instance, "of these upstream tasks have finished: prompts") for instance in queued)
    assert not {4, 5}.intersection(world.batches())

    world.open("repeat_gate")
    world.until(lambda: world.have_state("success", *queued), "both to succeed")
    assert [world.returned(instance)["request_count"] for instance in queued] == [4, 5]
    assert [count for count in world.batches() if count in (4, 5)] == [4, 5]
