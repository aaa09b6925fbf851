"""A copy of a world, in which a process is said to be killed, is what a real kill leaves."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crash.copies import CopiedTask, run_undisturbed
from crash.effects import changes
from crash.processes import run_apart
from crash.scenarios import SCENARIOS, new_task, run_scenario
from crash.task import Task

#: Parts of names of files.
CHOSEN_BY_CHANCE = re.compile(r"tmp\w+|\.\d+$|[0-9a-f]{12,}")
SCENARIO = dataclasses.replace(SCENARIOS["one part"], simulator_options={"ids": "seed"})


def test_copy_is_what_a_kill_leaves(tmp_path: Path) -> None:
    points = changes(run_undisturbed(SCENARIO, tmp_path / "undisturbed"))[::3]
    run_apart(see_copies, tmp_path, points)
    run_apart(see_kills, tmp_path, points)

    assert len(points) > 5
    for point in points:
        copied, killed = (json.loads((tmp_path / f"{how}-{point}.json").read_text()) for how in ("copied", "killed"))
        assert copied == killed
        assert copied["effects"] == point


def see_copies(path: Path, points: Sequence[int]) -> None:
    """Write down what is outside of the process in each copy."""

    class SeenTask(CopiedTask):
        def killed(self) -> dict[str, Any]:
            write_down(path / f"copied-{self.killed_after[-1]}.json", self)
            os._exit(0)

    (path / "original").mkdir()
    home = path / "home"
    home.symlink_to("original")
    with new_task(SCENARIO, home, traps=dict.fromkeys(points, "stop")) as task:
        run_scenario(SCENARIO, SeenTask(task))


def see_kills(path: Path, points: Sequence[int]) -> None:
    """Kill a process after each effect, and write down what is outside of it."""
    for point in points:
        home = path / f"{point:04}"  # a manifest names its folder: its path is as long as that of the copies
        home.mkdir()
        with new_task(SCENARIO, home, traps={point: "kill"}) as task:
            report = task.run_process()
            while report["kind"] == "deferred":
                report = task.resume(report)
            assert report == {"kind": "killed"}
            write_down(path / f"killed-{point}.json", task)


def write_down(path: Path, task: Task) -> None:
    """Write down the files with their sizes, the time and the batches."""
    home = task.spec.home
    files = {CHOSEN_BY_CHANCE.sub("*", file.relative_to(home).as_posix()): file for file in home.rglob("*")}
    seen = {
        "files": {name: file.stat().st_size for name, file in files.items() if file.is_file()},
        "folders": sorted(name for name, file in files.items() if file.is_dir()),
        "effects": task.effects_so_far(),
        "now": task.simulator.clock.now().isoformat(),
        "batches": task.simulator.books(detail=False)["batches"],
    }
    path.write_text(json.dumps(seen))
