from __future__ import annotations

import logging
import re
from datetime import timedelta

import pytest
from waiting_world import BODY

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.wait.blocking import wait_for_batches
from airflow_claude_batch.batch.wait.wait_result import WaitResult
from airflow_claude_batch.simulator import Fault, ManualClock, Simulator


class Desk:
    """A simulator, a client of it and the time they share; ``sleep`` moves it."""

    def __init__(self, **knobs):
        self.clock = ManualClock()
        self.simulator = Simulator(clock=self.clock, **knobs)
        self.began = self.clock.now()
        self.at: dict[float, object] = {}
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1", max_retries=0)
        self.client = ClaudeClient(config, transport=self.simulator.transport())

    @property
    def now(self) -> float:
        return (self.clock.now() - self.began).total_seconds()

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
        for moment in [moment for moment in self.at if moment <= self.now]:
            self.at.pop(moment)()


@pytest.fixture
def desk():
    made = []

    def make(**knobs):
        made.append(Desk(**knobs))
        return made[-1]

    yield make
    for one in made:
        one.client.close()


def test_all_are_waited_for_and_the_ended_ones_asked_after_no_more(desk):
    at = desk(batch_seconds=3600)
    first, second = at.create(2)
    at.simulator.pace(lambda batch: 30 if batch.id == first else 100)
    wake = at.wait([first, second])
    assert wake.status == "ended"
    assert {state.processing_status for state in wake.batches.values()} == {"ended"}
    assert at.now == pytest.approx(100, abs=10)
    assert at.simulator.calls()["list"] == 4
    assert at.simulator.calls()["retrieve"] == 7


def test_any_is_enough_if_so_asked(desk):
    at = desk(batch_seconds=3600)
    first, second = at.create(2)
    at.simulator.pace(lambda batch: 30 if batch.id == first else 100)
    assert at.wait([first, second], wait_for="any").status == "ended"
    assert at.now == pytest.approx(30, abs=10)


@pytest.mark.parametrize(("batch_seconds", "status"), [(0, "ended"), (60, "due")])
def test_a_wait_that_is_over_already_looks_once(desk, batch_seconds, status):
    at = desk(batch_seconds=batch_seconds)
    [batch_id] = at.create()
    wake = at.wait([batch_id], seconds=0)
    assert wake.status == status
    assert batch_id in wake.batches
    assert at.simulator.calls()["retrieve"] == 1
    assert at.now == 0


def test_waiting_ends_when_due(desk):
    at = desk(batch_seconds=3600)
    [batch_id] = at.create()
    assert at.wait([batch_id], seconds=123).status == "due"
    assert at.now == 123


def test_without_batches_it_is_a_timer(desk):
    at = desk()
    assert at.wait([], seconds=500) == WaitResult("due")
    assert at.now == 500
    assert at.wait([]) == WaitResult("due")


@pytest.mark.parametrize("kind", ["refuse", "html", "status:503"])
def test_an_outage_of_an_hour_is_waited_out_and_told_twice(desk, caplog, kind):
    at = desk(batch_seconds=60)
    [batch_id] = at.create()
    at.at[15] = lambda: at.simulator.outage(kind)
    at.at[3600] = at.simulator.end_outage
    with caplog.at_level(logging.INFO, "airflow_claude_batch.batch.wait.blocking"):
        assert at.wait([batch_id]).status == "ended"
    # Airflow 3.0 lets httpx tell of each call.
    begun, over, ended = (record.getMessage() for record in caplog.records if record.name.startswith("airflow_"))
    assert "cannot be asked (connection 'claude_x')" in begun
    assert "answers again" in over
    assert re.search(r"has ended after [1-9][\w ]+: 1 succeeded\.", ended)


def test_a_refused_credential_ends_the_wait_after_a_second_try(desk):
    at = desk(batch_seconds=60)
    [batch_id] = at.create()
    at.simulator.inject(Fault(do="status", status=401, times=None))
    wake = at.wait([batch_id])
    assert (wake.status, wake.error_type) == ("error", "AuthenticationError")
    assert "Connection 'claude_x'" in wake.error
    assert at.simulator.calls()["retrieve"] == 2


def test_a_batch_denied_for_ten_minutes_is_lost(desk):
    at = desk(batch_seconds=3600)
    lost, found = at.create(2)
    at.simulator.inject(
        Fault(do="not_found_blip", on="retrieve", match=lost, times=None),
        Fault(do="status", status=403, on="list", times=None),
    )
    wake = at.wait([lost, found])
    assert (wake.status, wake.error_type, wake.lost) == ("error", "NotFoundError", (lost,))
    assert list(wake.batches) == [found]
    assert 600 <= at.now <= 700
