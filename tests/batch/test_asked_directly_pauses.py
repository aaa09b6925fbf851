"""Pauses while requests are asked directly: the API asks to wait, and there is time before the timeout."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import submission_world
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import resume_attempt
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import Fault

RESERVE = timedelta(minutes=30)
DEADLINE = Policy(timeout=timedelta(hours=1), on_timeout="ask_directly", direct_reserve=RESERVE, direct_concurrency=2)


def slow_world(path: Path) -> World:
    """A world in which no batch ends before the timeout by itself."""
    return make_world(path, batch_seconds=10 * 3600.0)


def billed(world: World) -> dict[str, int]:
    billed: dict[str, int] = world.simulator.books()["direct"]["billed"]
    return billed


@contextlib.contextmanager
def resumed(world: World, policy: Policy) -> Iterator[Submission]:
    """The submission in the next worker, which goes on with the same try after a deferral."""
    (world.path / f"scratch-{world.try_number}").rename(world.path / "scratch-before")
    world.try_number -= 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            submission_world,
            "begin_attempt",
            lambda store, folder, attempt, write, scratch, **_: resume_attempt(store, folder, attempt, scratch),
        )
        with world.attempt(TEN, policy) as submission:
            yield submission


@pytest.mark.parametrize("answered_before", [0, 4])
def test_a_long_pause_frees_the_worker_and_then_the_rest_is_asked(answered_before: int, tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    world.simulator.inject(Fault(on="message", do="status", status=429, retry_after=400, skip=answered_before))

    done = world.run(TEN, replace(DEADLINE, direct_concurrency=1))

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    assert list(billed(world).values()) == [1] * 10
    pauses = [step for step in world.steps if isinstance(step, WaitStep) and "takes no direct request" in step.reason]
    assert len(pauses) == 1


def test_a_pause_beyond_the_timeout_ends_it_at_the_timeout(tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    world.simulator.inject(Fault(on="message", do="status", status=429, retry_after=86_400, times=None))

    done = world.run(TEN, DEADLINE)

    assert done.failure is not None
    assert billed(world) == {}
    assert {row["status"] for row in world.rows} == {"canceled"}


def test_an_answer_that_cannot_be_landed_is_in_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = slow_world(tmp_path)
    read, failures = Landing.read_direct, [OSError("the local disk is full")]

    def fail_once(landing: Landing, line: bytes) -> Any:
        if failures:
            raise failures.pop()
        return read(landing, line)

    monkeypatch.setattr(Landing, "read_direct", fail_once)

    done = world.run(TEN, DEADLINE)

    assert done.failure is None
    assert list(billed(world).values()) == [1] * 10


def test_a_lost_request_is_not_asked_again_by_the_worker_that_goes_on_after_a_wait(tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    world.simulator.inject(
        Fault(on="message", do="drop_after_accept", times=2),
        Fault(on="message", do="status", status=429, retry_after=400),
    )
    policy = replace(DEADLINE, direct_concurrency=1)
    with world.attempt(TEN, policy) as submission:
        while "takes no direct request" not in getattr(submission.advance(), "reason", ""):
            world.clock.advance(60)

    with resumed(world, policy) as submission:
        done = world.finish(submission)

    assert list(billed(world).values()) == [1] * 10
    lost = [row for row in world.rows if row["status"] != "succeeded"]
    assert [row["error"]["type"] for row in lost] == ["response_lost"] * 2
    assert done.failure is not None

    assert world.run(TEN, DEADLINE).failure is None  # a retry asks them again
