"""Kill and suspend processes around each write and removal of landed parts, and of the rows they are merged into."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash.copies import kill_after_each, run_undisturbed
from crash.effects import changes
from crash.scenarios import IN_PARTS, SCENARIOS, Scenario
from crash.zombies import Return, stop_after_each

#: Scenarios, where their files are, and every how many effects a process is killed. Effects on a disk are killed before
#: and after a file is in its place; "queue full" of `test_every_step.py` has parts too.
CASES = [
    ("parts on top of rows", {"store": "folder"}, 1),
    ("parts on top of rows", {"store": "state", "storage": "objects"}, 2),
    ("other input over parts", {"store": "folder"}, 2),
    ("other input over parts", {"store": "state"}, 3),
    ("two tasks", {"store": "folder"}, 2),
    ("two tasks", {"store": "state", "storage": "objects"}, 3),
]
ABOUT = ("landed-", "results.jsonl", "manifest.json", "requests.")


def effects_about_rows(home: Path, scenario: Scenario, **where: Any) -> list[int]:
    """Run the scenario, and return the numbers of the changes to rows, parts and indexes."""
    effects = run_undisturbed(scenario, home, **where)
    lines = effects.read_text().splitlines()
    found = [number for number in changes(effects) if lines[number - 1].split()[2].startswith(ABOUT)]
    done = {(lines[number - 1].split()[1], lines[number - 1].rpartition(".")[2]) for number in found}
    assert done >= {("published", "index"), ("published", "jsonl"), ("removed", "index"), ("removed", "jsonl")}
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "where", "stride"), CASES)
def test_kill_around_a_landed_part_pays_for_nothing_twice_and_loses_no_answer(
    name: str, where: dict[str, Any], stride: int, tmp_path: Path
) -> None:
    points = effects_about_rows(tmp_path / "undisturbed", IN_PARTS[name], counted=False, **where)[::stride]
    kill_after_each(IN_PARTS[name], tmp_path, points, counted=False, **where)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_is_replaced_around_a_landed_part_harms_nothing(store: str, returns: Return, tmp_path: Path) -> None:
    scenario = SCENARIOS["queue full"]
    points = effects_about_rows(tmp_path / "undisturbed", scenario, store=store, deferrable=False)[::2]
    assert stop_after_each(scenario, tmp_path, points, returns, store=store) == len(points)
