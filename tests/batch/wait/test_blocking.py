from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from waiting_world import BODY

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator


class SyncWorld:
    """A simulator, its client, and the clock that they share. ``sleep`` advances it."""

    def __init__(self, **settings):
        self.clock = ManualClock()
        self.simulator = Simulator(clock=self.clock, **settings)
        self.started_at = self.clock.now()
        self.actions: dict[float, Callable[[], None]] = {}
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1", max_retries=0)
        self.client = ClaudeClient(config, transport=self.simulator.transport())

    @property
    def now(self) -> float:
        return (self.clock.now() - self.started_at).total_seconds()

    def create(self, count=1):
        return [self.client.create_batch(BODY).id for _ in range(count)]

    def wait(self, batch_ids, **options) -> WaitResult:
        if (seconds := options.pop("seconds", None)) is not None:
            options["until"] = self.clock.now() + timedelta(seconds=seconds)
        return wait_for_batches(
            self.client, batch_ids, clock=self.clock.now, sleep=self.sleep, connection="claude_x", **options
        )

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.clock.advance(seconds)
        for due in [seconds for seconds in self.actions if seconds <= self.now]:
            self.actions.pop(due)()


@pytest.fixture
def make_world():
    made = []

    def make(**settings):
        made.append(SyncWorld(**settings))
        return made[-1]

    yield make
    for world in made:
        world.client.close()


def test_all_batches_are_waited_for_and_ended_ones_polled_no_more(make_world):
    world = make_world(batch_seconds=3600)
    first, second = world.create(2)
    world.simulator.pace(lambda batch: 30 if batch.id == first else 100)
    result = world.wait([first, second])
    assert result.status == "ended"
    assert {state.processing_status for state in result.batches.values()} == {"ended"}
    assert world.now == pytest.approx(100, abs=10)
    assert world.simulator.calls()["list"] == 4
    assert world.simulator.calls()["retrieve"] == 7


def test_with_wait_for_any_the_first_end_is_enough(make_world):
    world = make_world(batch_seconds=3600)
    first, second = world.create(2)
    world.simulator.pace(lambda batch: 30 if batch.id == first else 100)
    assert world.wait([first, second], wait_for="any").status == "ended"
    assert world.now == pytest.approx(30, abs=10)


@pytest.mark.parametrize(("batch_seconds", "status"), [(0, "ended"), (60, "due")])
def test_a_wait_whose_deadline_has_passed_polls_once(make_world, batch_seconds, status):
    world = make_world(batch_seconds=batch_seconds)
    [batch_id] = world.create()
    result = world.wait([batch_id], seconds=0)
    assert result.status == status
    assert batch_id in result.batches
    assert world.simulator.calls()["retrieve"] == 1
    assert world.now == 0


def test_waiting_ends_at_the_deadline(make_world):
    world = make_world(batch_seconds=3600)
    [batch_id] = world.create()
    assert world.wait([batch_id], seconds=123).status == "due"
    assert world.now == 123


def test_without_batches_it_is_a_timer(make_world):
    world = make_world()
    assert world.wait([], seconds=500) == WaitResult("due")
    assert world.now == 500
    assert world.wait([]) == WaitResult("due")


@pytest.mark.parametrize("kind", ["refuse", "html", "status:503"])
def test_an_outage_of_an_hour_is_survived_and_logged_twice(make_world, caplog, kind):
    world = make_world(batch_seconds=60)
    [batch_id] = world.create()
    world.actions[15] = lambda: world.simulator.outage(kind)
    world.actions[3600] = world.simulator.end_outage
    with caplog.at_level(logging.INFO, "airflow_claude_batch.batch.wait.blocking"):
        assert world.wait([batch_id]).status == "ended"
    # On Airflow 3.0 httpx logs each call.
    began, over, ended = (record.getMessage() for record in caplog.records if record.name.startswith("airflow_"))
    assert "is unavailable (connection 'claude_x')" in began
    assert re.search(r"is available again \(connection 'claude_x'\), after (59 minutes|1 hour)", over)
    assert re.search(r"has ended after [1-9][\w ]+: 1 succeeded\.", ended)


def test_a_rejected_credential_ends_the_wait_after_ten_minutes(make_world):
    world = make_world(batch_seconds=60)
    [batch_id] = world.create()
    world.simulator.inject(Fault(do="status", status=401, times=None))
    read_again = []
    result = world.wait([batch_id], reconnect=lambda: read_again.append(world.now))
    assert (result.status, result.error_type) == ("error", "AuthenticationError")
    assert "Connection 'claude_x'" in result.error
    assert 600 <= world.now <= 670
    assert world.simulator.calls()["retrieve"] <= 16
    assert read_again[:6] == [0, 0, 5, 15, 35, 75]


def test_a_connection_that_was_read_again_ends_a_rejection(make_world):
    world = make_world(batch_seconds=60, keys={"sk-test": "wrkspc_1"})
    [batch_id] = world.create()
    good = world.client._config
    world.client.reconfigure(replace(good, credentials=ApiKey("sk-old")))

    def reconnect():
        if world.now >= 30:
            world.client.reconfigure(good)

    assert world.wait([batch_id], reconnect=reconnect).status == "ended"
    assert world.now <= 100


def test_a_batch_that_an_earlier_wait_took_for_ended_is_not_polled_at_once_and_never_believed_from_a_listing(
    make_world,
):
    world = make_world(batch_seconds=300)
    first, second = world.create(2)
    result = world.wait([first, second], wait_for="any", seconds=9, unconfirmed=[first, second])
    assert result.status == "due"
    assert world.simulator.calls()["retrieve"] + world.simulator.calls()["list"] == 0
    assert world.wait([first, second], unconfirmed=[first, second]).status == "ended"
    assert world.simulator.calls()["retrieve"] >= 2


def test_the_log_says_once_an_hour_that_a_batch_still_runs(make_world, caplog):
    world = make_world(batch_seconds=3.5 * 3600)
    [batch_id] = world.create()
    with caplog.at_level(logging.INFO, "airflow_claude_batch.batch.wait.blocking"):
        assert world.wait([batch_id]).status == "ended"
    lines = [record.getMessage() for record in caplog.records if "still in progress" in record.getMessage()]
    assert len(lines) == 3
    assert re.fullmatch(
        rf"Message batch {batch_id} is still in progress, 1 hour( [\w ]+)? after it was created\.", lines[0]
    )


def test_a_batch_denied_for_ten_minutes_is_lost(make_world):
    world = make_world(batch_seconds=3600)
    lost, found = world.create(2)
    world.simulator.inject(
        Fault(do="not_found_blip", on="retrieve", match=lost, times=None),
        Fault(do="status", status=403, on="list", times=None),
    )
    result = world.wait([lost, found])
    assert (result.status, result.error_type, result.lost) == ("error", "NotFoundError", (lost,))
    assert list(result.batches) == [found]
    assert 600 <= world.now <= 700
