"""Two running attempts of one task: a process that was suspended and replaced, and its successor."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from crash import books
from crash.processes import resume_process, run_apart, wait_until_stopped
from crash.scenarios import Scenario, new_task
from crash.task import Task

#: When the suspended process continues: after the other has ended, or while it waits for its batches.
Return = Literal["too late", "meanwhile"]


def stop_after_each(
    scenario: Scenario, path: Path, points: Sequence[int], returns: Return | int, **choices: Any
) -> int:
    """Stop the first try after each of these effects, each time in another run, and check the books.

    :param returns: when it continues. A number: the successor is stopped after so many effects, and continues later.
    :return: the number of the runs, until one in which a try has fewer effects.
    """
    count: int = run_apart(_stop_after_each, scenario, path, points, returns, **choices)
    return count


def _stop_after_each(
    scenario: Scenario, path: Path, points: Sequence[int], returns: Return | int, **choices: Any
) -> int:
    for count, point in enumerate(points):
        home = path / str(point)
        home.mkdir()
        with new_task(scenario, home, **choices) as task:
            run = run_while_successor_begins if isinstance(returns, int) else run_beside_successor
            if not run(task, point, returns):  # type: ignore[arg-type]  # it goes with the function
                return count
            _check_books(task, f"stopped after effect {point}")
    return len(points)


def _check_books(task: Task, when: str) -> None:
    report = task.run_to_the_end()
    spec = task.spec
    try:
        assert report["failure"] is None, report["failure"]
        books.check(task.simulator.books(), report["manifest"], spec.folder, spec.prompts, kept=spec.kept)
    except AssertionError as error:
        raise AssertionError(f"{when}: {error}; {task.history}") from error


def run_beside_successor(task: Task, stop_at: int, returns: Return) -> bool:
    """Stop the first try after ``stop_at`` effects, run a second one, and continue the first one at ``returns``.

    Return False if the first try has fewer effects.
    """
    zombie = dataclasses.replace(task.spec, effects="effects-zombie", traps={stop_at: "stop"}, deferrable=False)
    task.spec = zombie
    process = task.start()
    if not wait_until_stopped(process):
        task.end_of(process)
        return False
    task.spec = dataclasses.replace(zombie, effects="effects", traps={}, deferrable=True)
    task.next_try()
    report = task.run_process()
    if returns == "too late":
        report = _to_its_end(task, report)
    resume_process(process)
    task.end_of(process, zombie)
    _to_its_end(task, report)
    return True


def run_while_successor_begins(task: Task, stop_at: int, hold_at: int) -> bool:
    """Stop the first try after ``stop_at`` effects, the second after ``hold_at``. Continue the first, then the second.

    Return False if one of them has fewer effects.
    """
    first_spec = dataclasses.replace(task.spec, effects="effects-zombie", traps={stop_at: "stop"}, deferrable=False)
    task.spec = first_spec
    first = task.start()
    if not wait_until_stopped(first):
        task.end_of(first)
        return False
    task.spec = dataclasses.replace(first_spec, effects="effects", traps={hold_at: "stop"}, deferrable=True)
    task.next_try()
    second = task.start()
    held = wait_until_stopped(second)
    resume_process(first)
    task.end_of(first, first_spec)
    if held:
        resume_process(second)
    _to_its_end(task, task.end_of(second))
    return held


def _to_its_end(task: Task, report: dict[str, object]) -> dict[str, object]:
    while report["kind"] == "deferred":
        report = task.resume(report)
    return report
