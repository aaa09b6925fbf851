"""On a real Airflow, somebody clears tasks alone, of which others wait for the output or are about to read it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow_stack import RUN_SECONDS, environment, running_dag

from demo.airflow_api import wait_for
from demo.airflow_processes import AirflowProcesses, airflow_version
from demo.simulator import SimulatorProcess

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "made_again", "run"
#: Before Airflow 3.1, what a mapped task has returned stays until it is overwritten.
MAPPED_OUTPUT_IS_FORGOTTEN = not airflow_version(environment()).startswith("3.0.")
Instance = tuple[str, int]


class World:
    """The DAG of this test on a real Airflow, the simulator, and the files that its tasks wait for."""

    def __init__(self, airflow: AirflowProcesses, simulator: SimulatorProcess) -> None:
        self.airflow = airflow
        self.api = airflow.api
        self.simulator = simulator

    def open(self, name: str) -> None:
        (self.airflow.home / name).touch()

    def until(self, holds: Callable[[], Any], what: str) -> None:
        def checked() -> Any:
            self.airflow.check()
            return holds()

        wait_for(checked, seconds=RUN_SECONDS, what=what)

    def are(self, state: str, *instances: Instance) -> bool:
        found = {(ti["task_id"], ti["map_index"]): ti["state"] for ti in self.api.task_instances(DAG_ID, RUN_ID)}
        return all(found.get(instance) == state for instance in instances)

    def returned(self, instance: Instance) -> Any:
        return self.api.returned(DAG_ID, RUN_ID, *instance)

    def clear(self, instance: Instance) -> None:
        """Clear it alone, and wait until it has begun again: its output is forgotten by then."""
        task_id, index = instance
        self.api.clear(DAG_ID, RUN_ID, task_id, map_index=index if index >= 0 else None)
        self.until(lambda: self.are("running", instance), f"{instance} to begin again")
        if index < 0 or MAPPED_OUTPUT_IS_FORGOTTEN:
            self.until(lambda: self.returned(instance) is None, f"the output of {instance} to be forgotten")

    def says(self, instance: Instance, words: str) -> bool:
        task_id, index = instance
        return any(words in line for line in self.api.log_lines(DAG_ID, RUN_ID, task_id, 1, index))

    def batches(self) -> list[int]:
        """By their numbers of requests."""
        return sorted(batch["request_count"] for batch in self.simulator.books()["batches"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("made_again")
    with running_dag(folder, Path(__file__).with_name(f"{DAG_ID}.py")) as (airflow, simulator):
        airflow.api.put_pool("narrow", slots=1, include_deferred=True)
        airflow.api.trigger(DAG_ID, RUN_ID)
        yield World(airflow, simulator)


def test_sensors_wait_until_what_they_wait_for_is_made_again(world: World) -> None:
    sent = {("send", -1): ("wait", -1), ("send_each", 0): ("wait_each", 0), ("send_each", 1): ("wait_each", 1)}
    cleared = [("send", -1), ("send_each", 0)]
    world.until(lambda: world.are("success", *sent), "everything to be sent")
    world.until(lambda: world.are("deferred", *sent.values()), "every sensor to be deferred")
    batch_ids = {sender: world.returned(sender)["batch_ids"] for sender in sent}

    for sender in cleared:
        world.clear(sender)
        world.simulator.end(*batch_ids[sender])
    world.until(lambda: world.says(("wait", -1), ": send has not finished"), "the sensor to see that")
    if MAPPED_OUTPUT_IS_FORGOTTEN:
        words = ": send_each_0 has not finished"
        world.until(lambda: world.says(("wait_each", 0), words), "the mapped one to see that")

    world.open("gate")
    world.until(lambda: world.are("success", *(sent[sender] for sender in cleared)), "these sensors to succeed")
    world.simulator.end(*batch_ids["send_each", 1])
    world.until(lambda: world.are("success", *sent.values()), "the last sensor to succeed")
    assert {sender: world.returned(waiter)["batch_ids"] for sender, waiter in sent.items()} == batch_ids
    assert [world.returned(waiter)["counts"]["succeeded"] for waiter in sent.values()] == [1, 2, 3]
    assert world.batches() == [1, 2, 3]


def test_mapped_operator_does_not_send_what_is_its_neighbours(world: World) -> None:
    queued = [("queued", 0), ("queued", 1)]
    world.until(lambda: world.are("scheduled", *queued), "the pool to keep both back")
    (world.airflow.home / "gate").unlink(missing_ok=True)
    world.clear(("prompts", 0))

    world.open("room")
    world.until(lambda: world.are("up_for_retry", *queued), "both to stop")
    assert all(world.says(instance, "these upstream tasks have not finished: prompts") for instance in queued)
    assert not {4, 5}.intersection(world.batches())

    world.open("gate")
    world.until(lambda: world.are("success", *queued), "both to succeed")
    assert [world.returned(instance)["request_count"] for instance in queued] == [4, 5]
    assert [count for count in world.batches() if count in (4, 5)] == [4, 5]
