"""Who ended a task: a user, or the scheduler because its worker sent no heartbeats."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from airflow_claude_batch._airflow.user_end import Moment, UnknownEndError, UserEndCheck

START = datetime(2026, 11, 28, 12, tzinfo=UTC)
TIMEOUT = 300.0


@dataclass
class Airflow:
    """What Airflow says of the task, and the clocks of the worker's machine."""

    state: str | None = "running"
    ended_at: datetime | None = None
    reachable: bool = True
    wall: float = 0.0
    elapsed: float = 0.0
    questions: int = 0

    def check(self) -> UserEndCheck:
        return UserEndCheck(self.ask, lambda: self.ended_at, TIMEOUT, now=self.now, sleep=self.sleep)

    def ask(self) -> str | None:
        self.questions += 1
        if not self.reachable:
            raise ConnectionError("API server error")
        return self.state

    def now(self) -> Moment:
        return Moment(START + timedelta(seconds=self.wall), self.elapsed)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


@pytest.fixture
def airflow() -> Airflow:
    return Airflow()


@pytest.fixture
def check(airflow: Airflow) -> UserEndCheck:
    check = airflow.check()
    check.confirm_running()
    return check


@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_end_shortly_after_a_confirmation_is_the_users(state: str, airflow: Airflow, check: UserEndCheck) -> None:
    check.sleep(3600)
    airflow.state = state
    airflow.sleep(30)

    assert not check.will_run_again()


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_retry", "restarting", "scheduled", None])
def test_task_that_continues_was_not_ended(state: str | None, airflow: Airflow, check: UserEndCheck) -> None:
    airflow.sleep(86400)
    airflow.state = state

    assert check.will_run_again()


@pytest.mark.parametrize(
    ("wall", "elapsed", "ended_after"),
    [
        pytest.param(400, 400, None, id="process stopped"),
        pytest.param(400, 3, None, id="machine suspended, its wall clock was set"),
        pytest.param(3, 400, None, id="wall clock set back"),
        pytest.param(-400, 3, None, id="wall clock set back by much"),
        pytest.param(3, 3, 310, id="machine paused, and both of its clocks with it"),
        pytest.param(3, 3, -310, id="clock of the worker is ahead"),
    ],
)
@pytest.mark.parametrize("state", ["failed", "success"])
def test_worker_that_stood_still_cannot_tell_who_ended_its_task(
    state: str, wall: float, elapsed: float, ended_after: float | None, airflow: Airflow, check: UserEndCheck
) -> None:
    airflow.state = state
    airflow.wall, airflow.elapsed = wall, elapsed
    airflow.ended_at = None if ended_after is None else START + timedelta(seconds=ended_after)

    with pytest.raises(UnknownEndError, match=r"Airflow confirmed [34].. s earlier that it was running"):
        check.will_run_again()


def test_worker_that_could_not_reach_airflow_cannot_tell_who_ended_its_task(
    airflow: Airflow, check: UserEndCheck
) -> None:
    airflow.reachable = False
    check.sleep(400)
    airflow.reachable, airflow.state = True, "failed"

    with pytest.raises(UnknownEndError):
        check.will_run_again()


def test_worker_that_wakes_up_does_not_take_its_failed_task_for_running(airflow: Airflow, check: UserEndCheck) -> None:
    airflow.sleep(400)
    airflow.state = "failed"
    check.confirm_running()

    with pytest.raises(UnknownEndError):
        check.will_run_again()


def test_task_that_was_never_confirmed_cannot_tell(airflow: Airflow) -> None:
    airflow.state = "failed"

    with pytest.raises(UnknownEndError, match="never confirmed"):
        airflow.check().will_run_again()


def test_airflow_is_asked_eight_times_per_heartbeat_timeout(airflow: Airflow, check: UserEndCheck) -> None:
    check.sleep(TIMEOUT)

    assert airflow.questions == 1 + 8
