"""Kill and suspend processes around each write and removal of kept columns, and of the requests they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash.copies import kill_after_each, run_undisturbed
from crash.effects import changes
from crash.scenarios import WITH_KEPT_COLUMNS, Scenario
from crash.zombies import Return, stop_after_each

#: Scenarios in which columns become those of no request.
REMOVES = {"other input", "other input midway", "no columns"}
#: Where the files are, and every how many effects a process is killed. On a disk, effects are killed before and after a
#: file is in its place.
WHERE = [({"store": "folder"}, 1), ({"store": "state", "storage": "objects"}, 2)]
ABOUT = ("kept-", "requests.", "results.jsonl")


def effects_about_columns(home: Path, name: str, **where: Any) -> list[int]:
    """Run the scenario, and return the numbers of the changes to kept columns, requests and rows."""
    effects = run_undisturbed(WITH_KEPT_COLUMNS[name], home, counted=False, **where)
    lines = effects.read_text().splitlines()
    found = {number: lines[number - 1].split() for number in changes(effects)}
    done = {change for _, change, *file in found.values() if file and file[0].startswith("kept-")}
    assert done >= {"published"} | ({"removed"} if name in REMOVES else set())
    return [number for number, (_, _, *file) in found.items() if file and file[0].startswith(ABOUT)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("where", "stride"), WHERE, ids=["disk", "objects"])
@pytest.mark.parametrize("name", WITH_KEPT_COLUMNS)
def test_kill_around_kept_columns_pays_for_nothing_twice_and_mixes_no_columns(
    name: str, where: dict[str, Any], stride: int, tmp_path: Path
) -> None:
    points = effects_about_columns(tmp_path / "undisturbed", name, **where)[::stride]
    kill_after_each(WITH_KEPT_COLUMNS[name], tmp_path, points, counted=False, **where)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_is_replaced_around_kept_columns_harms_nothing(store: str, returns: Return, tmp_path: Path) -> None:
    scenario = Scenario(letters="abcd", kept="first")
    effects = run_undisturbed(scenario, tmp_path / "undisturbed", store=store, deferrable=False)
    lines = effects.read_text().splitlines()
    points = [number for number in changes(effects) if lines[number - 1].split()[2].startswith(ABOUT)]
    assert len(points) >= 4
    assert stop_after_each(scenario, tmp_path, points, returns, store=store) == len(points)
