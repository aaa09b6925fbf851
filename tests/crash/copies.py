"""Kill a process at many points of one run: at each of them the rest runs in a copy of the world.

A killed process leaves what is outside of it, and nothing else. So the process is suspended after an effect instead,
and all that is outside of it is copied: its home by copying, and the simulator, the bucket and what the driver is about
to do by a fork of the driver. In the copy that process is dead. The original goes on to the next point when the copy
has run to its end. `test_copies.py` compares what real kills leave.

The next processes of a copy run one after the other in that fork, beside the simulator and without sockets: nobody
kills them. Real kills, and sockets after them, are in `test_chaos.py`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from crash.effects import changes
from crash.processes import resume_process, run_apart, wait_until_stopped
from crash.scenarios import Scenario, new_task, run_scenario
from crash.task import Task


def run_undisturbed(scenario: Scenario, home: Path, **choices: Any) -> Path:
    """Run the scenario, and return the log of its effects."""
    home.mkdir()
    run_apart(_run, scenario, home, **choices)
    return home / "effects"


def kill_after_each_change(scenario: Scenario, path: Path, **choices: Any) -> None:
    """Kill a process after each effect that changes something, each time in another run."""
    points = changes(run_undisturbed(scenario, path / "undisturbed", **choices))
    assert len(points) > 10
    kill_after_each(scenario, path, points, **choices)


def kill_after_each(scenario: Scenario, path: Path, points: Sequence[int], **choices: Any) -> None:
    """Kill a process after each of these effects, each time in another run. The runs are checked as they end."""
    run_apart(_kill_in_copies if scenario.trap == "kill" else _trap_in_runs, scenario, path, points, **choices)


def _run(scenario: Scenario, home: Path, **choices: Any) -> None:
    with new_task(scenario, home, **choices) as task:
        run_scenario(scenario, task)


def _trap_in_runs(scenario: Scenario, path: Path, points: Sequence[int], **choices: Any) -> None:
    for point in points:
        home = path / str(point)
        home.mkdir()
        with new_task(scenario, home, traps={point: scenario.trap}, **choices) as task:
            try:
                run_scenario(scenario, task)
            except AssertionError as error:
                raise AssertionError(f"trapped after effect {point}: {error}; {task.history}") from error


def _kill_in_copies(scenario: Scenario, path: Path, points: Sequence[int], **choices: Any) -> None:
    home = path / "home"
    (path / "original").mkdir()
    home.symlink_to("original")
    with new_task(scenario, home, traps=dict.fromkeys(points, "stop"), **choices) as task:
        copied = CopiedTask(task)
        try:
            run_scenario(scenario, copied)
            copied.end_copy(None)
        except BaseException:
            copied.end_copy(traceback.format_exc())
            raise
        assert copied.killed_after == list(points), "not every effect has happened again"


class CopiedTask(Task):
    """A task that is killed at each of its ``stop`` traps, in a copy of the world.

    :param task: a task whose home is a link. It points to the home of the world that runs, so that paths are the same.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(task.simulator, task.spec, task.bucket)
        self._is_copy = False
        self._servers = ExitStack()
        self.killed_after: list[int] = []

    def run_process(self) -> dict[str, Any]:
        if not self.is_disturbed:
            return super().run_process()
        process = self.start()
        while wait_until_stopped(process):
            if self._copy_and_run():
                return self.killed()
            resume_process(process)
        return self.end_of(process)

    def end_copy(self, failure: str | None) -> None:
        """End this process if it is a copy. Otherwise do nothing."""
        if self._is_copy:
            if failure is not None:
                (self.spec.home / "failure").write_text(
                    f"killed after effect {self.killed_after[-1]}: {self.history}\n{failure}"
                )
            os._exit(0 if failure is None else 1)

    def _copy_and_run(self) -> bool:
        """Return True in the copy at once, and False in the original when the copy has run to its end."""
        self.killed_after.append(self.effects_so_far())
        original = self.spec.home.readlink()
        copy = self.spec.home.with_name(f"copy-{self.killed_after[-1]}")
        shutil.copytree(self.spec.home, copy)
        with self.simulator.at_rest, self.bucket.at_rest if self.bucket is not None else nullcontext():
            pid = os.fork()
        if not pid:
            self._point_home_to(Path(copy.name))
            self._begin_copy()
            return True
        _, status = os.waitpid(pid, 0)
        if status:
            failure = copy / "failure"
            raise AssertionError(failure.read_text() if failure.exists() else f"the harness itself failed: {status}")
        self._point_home_to(original)
        shutil.rmtree(copy)
        return False

    def _begin_copy(self) -> None:
        self._is_copy = True
        tempfile.tempdir = str(self.spec.home)  # a copy does not live to remove its files
        self.clock.reopen()
        self.simulator.clock.reopen()
        self.spec = replace(self.spec, transport=self.simulator.transport(), traps={})
        if self.bucket is not None:
            self.spec = replace(self.spec, s3_endpoint=self._servers.enter_context(self.bucket.serve()))

    def _point_home_to(self, target: Path) -> None:
        link = self.spec.home.with_name("next")
        link.symlink_to(target)
        link.replace(self.spec.home)
