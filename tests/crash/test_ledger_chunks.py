"""Kill and suspend processes around each chunk of a ledger of many parts: it is written, named, dropped, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash import books
from crash.effects import changes_near
from crash.scenarios import MANY_PARTS, new_task, run_scenario
from crash.zombies import Return, run_beside_successor

#: What happens to a chunk.
CHANGES = {"folder": ("drafted", "published", "removed"), "state": ("stored", "deleted")}


def effects_near_chunks(home: Path, **choices: Any) -> list[int]:
    """Run the task, and return the numbers of the changes to chunks and of the change before and after each."""
    home.mkdir()
    with new_task(MANY_PARTS, home, **choices) as task:
        run_scenario(MANY_PARTS, task, {})
    lines = (home / "effects").read_text().splitlines()
    assert all(any(change in line and "chunk" in line for line in lines) for change in CHANGES[choices["store"]])
    return changes_near(home / "effects", "chunk")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["folder", "state"])
def test_kill_around_a_chunk_pays_for_nothing_twice_and_loses_no_answer(store: str, tmp_path: Path) -> None:
    for point in effects_near_chunks(tmp_path / "undisturbed", store=store, counted=False):
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(MANY_PARTS, home, store=store, counted=False) as task:
            try:
                run_scenario(MANY_PARTS, task, {point: "kill"})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_is_replaced_around_a_chunk_harms_nothing(store: str, returns: Return, tmp_path: Path) -> None:
    for point in effects_near_chunks(tmp_path / "undisturbed", store=store, deferrable=False):
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(MANY_PARTS, home, store=store) as task:
            assert run_beside_successor(task, point, returns)
            report = task.run_to_the_end()
            try:
                assert report["failure"] is None
                books.check(task.simulator.books(), report["manifest"], task.spec.folder, task.spec.prompts)
            except AssertionError as error:
                raise AssertionError(f"stopped after effect {point}: {error}; {task.history}") from error
