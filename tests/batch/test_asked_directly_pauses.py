"""Pauses while requests are asked directly: the API asks to wait, and there is time before the timeout."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.simulator import Fault

RESERVE = timedelta(minutes=30)
DEADLINE = Policy(timeout=timedelta(hours=1), on_timeout="ask_directly", direct_reserve=RESERVE, direct_concurrency=2)


def slow_world(path: Path) -> World:
    """A world in which no batch ends before the timeout by itself."""
    return make_world(path, batch_seconds=10 * 3600.0)


def billed(world: World) -> dict[str, int]:
    billed: dict[str, int] = world.simulator.books()["direct"]["billed"]
    return billed


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
