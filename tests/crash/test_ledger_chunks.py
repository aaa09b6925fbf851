"""Kill and suspend processes around each chunk of a ledger of many parts: it is written, named, dropped, removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash.copies import kill_after_each, run_undisturbed
from crash.effects import changes_near
from crash.scenarios import MANY_PARTS
from crash.zombies import Return, stop_after_each

#: What happens to a chunk.
CHANGES = {"folder": ("drafted", "published", "removed"), "state": ("stored", "deleted")}


def effects_near_chunks(home: Path, **choices: Any) -> list[int]:
    """Run the task, and return the numbers of the changes to chunks and of the change before and after each."""
    effects = run_undisturbed(MANY_PARTS, home, **choices)
    lines = effects.read_text().splitlines()
    assert all(any(change in line and "chunk" in line for line in lines) for change in CHANGES[choices["store"]])
    return changes_near(effects, "chunk")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("store", ["folder", "state"])
def test_kill_around_a_chunk_pays_for_nothing_twice_and_loses_no_answer(store: str, tmp_path: Path) -> None:
    points = effects_near_chunks(tmp_path / "undisturbed", store=store, counted=False)
    kill_after_each(MANY_PARTS, tmp_path, points, store=store, counted=False)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_is_replaced_around_a_chunk_harms_nothing(store: str, returns: Return, tmp_path: Path) -> None:
    points = effects_near_chunks(tmp_path / "undisturbed", store=store, deferrable=False)
    assert stop_after_each(MANY_PARTS, tmp_path, points, returns, store=store) == len(points)
