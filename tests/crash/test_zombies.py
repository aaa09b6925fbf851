"""Suspend a first try anywhere, start its successor, and continue the first one: they must not both pay."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from crash import books
from crash.scenarios import SCENARIOS, new_task
from crash.task import Task
from crash.zombies import Return, run_beside_successor, run_while_successor_begins

SCENARIO = SCENARIOS["three parts"]
#: Number of effects of a try that waits in the worker, until everything is sent.
LAST_STOP = 40
#: Each test takes every third effect, from its own beginning.
STRIDE = 3
#: Effects after which the successor is stopped. Among its first ones it claims the ledger, reads it and takes it over.
HOLDS = (3, 5, 7, 9, 11)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("begin", range(1, STRIDE + 1))
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_two_live_tries_pay_once(store: str, returns: Return, begin: int, tmp_path: Path) -> None:
    checked = 0
    for stop_at in range(begin, LAST_STOP, STRIDE):
        home = tmp_path / str(stop_at)
        home.mkdir()
        with new_task(SCENARIO, home, store=store) as task:
            if not run_beside_successor(task, stop_at, returns):
                break
            checked += 1
            check_books(task, f"stopped after effect {stop_at}")
    assert checked > 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hold_at", HOLDS)
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_continues_while_its_successor_begins_pays_for_nothing_twice(
    store: str, hold_at: int, tmp_path: Path
) -> None:
    checked = 0
    for stop_at in range(1, LAST_STOP, STRIDE):
        home = tmp_path / str(stop_at)
        home.mkdir()
        with new_task(SCENARIO, home, store=store) as task:
            if not run_while_successor_begins(task, stop_at, hold_at):
                break
            checked += 1
            check_books(task, f"stopped after effect {stop_at}, the successor after {hold_at}")
    assert checked > 3


def check_books(task: Task, when: str) -> None:
    report = task.run_to_the_end()
    try:
        assert report["failure"] is None
        books.check(task.simulator.books(), report["manifest"], task.spec.folder, task.spec.prompts)
    except AssertionError as error:
        raise AssertionError(f"{when}: {error}; {task.history}") from error
