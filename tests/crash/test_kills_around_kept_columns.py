"""Kill and suspend processes around each write and removal of kept columns, and of the requests they belong to."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash import books
from crash.effects import changes
from crash.scenarios import WITH_KEPT_COLUMNS, Scenario, new_task, run_scenario
from crash.zombies import Return, run_beside_successor

#: Scenarios in which columns become those of no request.
REMOVES = {"other input", "other input midway", "no columns"}
#: Where the files are, and every how many effects a process is killed. On a disk, effects are killed before and after a
#: file is in its place.
WHERE = [({"store": "folder"}, 1), ({"store": "state", "storage": "objects"}, 2)]
ABOUT = ("kept-", "requests.", "results.jsonl")


def effects_about_columns(home: Path, name: str, **where: Any) -> list[int]:
    """Run the scenario, and return the numbers of the changes to kept columns, requests and rows."""
    home.mkdir()
    with new_task(WITH_KEPT_COLUMNS[name], home, counted=False, **where) as task:
        run_scenario(WITH_KEPT_COLUMNS[name], task, {})
    lines = (home / "effects").read_text().splitlines()
    found = {number: lines[number - 1].split() for number in changes(home / "effects")}
    done = {change for _, change, *file in found.values() if file and file[0].startswith("kept-")}
    assert done >= {"published"} | ({"removed"} if name in REMOVES else set())
    return [number for number, (_, _, *file) in found.items() if file and file[0].startswith(ABOUT)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("where", "stride"), WHERE, ids=["disk", "objects"])
@pytest.mark.parametrize("name", WITH_KEPT_COLUMNS)
def test_kill_around_kept_columns_pays_for_nothing_twice_and_mixes_no_columns(
    name: str, where: dict[str, Any], stride: int, tmp_path: Path
) -> None:
    scenario = WITH_KEPT_COLUMNS[name]
    for point in effects_about_columns(tmp_path / "undisturbed", name, **where)[::stride]:
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(scenario, home, counted=False, **where) as task:
            try:
                run_scenario(scenario, task, {point: "kill"})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {error}; {task.history}") from error


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_is_replaced_around_kept_columns_harms_nothing(store: str, returns: Return, tmp_path: Path) -> None:
    scenario = Scenario(letters="abcd", kept="first")
    home = tmp_path / "undisturbed"
    home.mkdir()
    with new_task(scenario, home, store=store, deferrable=False) as task:
        run_scenario(scenario, task, {})
    lines = (home / "effects").read_text().splitlines()
    points = [number for number in changes(home / "effects") if lines[number - 1].split()[2].startswith(ABOUT)]
    assert len(points) >= 4
    for point in points:
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(scenario, home, store=store) as task:
            assert run_beside_successor(task, point, returns)
            report = task.run_to_the_end()
            try:
                assert report["failure"] is None
                spec = task.spec
                books.check(task.simulator.books(), report["manifest"], spec.folder, spec.prompts, kept=spec.kept)
            except AssertionError as error:
                raise AssertionError(f"stopped after effect {point}: {error}; {task.history}") from error
