"""A first try stands still anywhere, is given up, and comes back beside its successor: the two must not both pay."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from crash import books
from crash.scenarios import SCENARIOS, told
from crash.task import Task
from crash.zombies import Return, haunt, overtake

SCENARIO = SCENARIOS["three parts"]
#: A try that waits in the worker has so many effects until everything is sent.
LAST_STOP = 40
#: Each test takes every third effect, from its own beginning.
STRIDE = 3
#: Where the successor is held up: among its first effects it announces itself, reads the ledger and takes it over.
HOLDS = (3, 5, 7, 9, 11)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("begin", range(1, STRIDE + 1))
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_two_live_tries_pay_once(store: str, returns: Return, begin: int, tmp_path: Path) -> None:
    haunted = 0
    for stop_at in range(begin, LAST_STOP, STRIDE):
        home = tmp_path / str(stop_at)
        home.mkdir()
        with told(SCENARIO, home, store=store) as task:
            if not haunt(task, stop_at, returns):
                break
            haunted += 1
            check_books(task, f"stopped after effect {stop_at}")
    assert haunted > 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hold_at", HOLDS)
@pytest.mark.parametrize("store", ["folder", "state"])
def test_a_try_that_goes_on_while_its_successor_begins_pays_for_nothing_twice(
    store: str, hold_at: int, tmp_path: Path
) -> None:
    overtaken = 0
    for stop_at in range(1, LAST_STOP, STRIDE):
        home = tmp_path / str(stop_at)
        home.mkdir()
        with told(SCENARIO, home, store=store) as task:
            if not overtake(task, stop_at, hold_at):
                break
            overtaken += 1
            check_books(task, f"stopped after effect {stop_at}, the successor after {hold_at}")
    assert overtaken > 3


def check_books(task: Task, when: str) -> None:
    report = task.run_to_the_end()
    try:
        assert report["failure"] is None
        books.check(task.simulator.books(), report["manifest"], task.spec.folder, task.spec.prompts)
    except AssertionError as error:
        raise AssertionError(f"{when}: {error}; {task.story}") from error
