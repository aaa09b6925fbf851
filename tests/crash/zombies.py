"""Two live attempts of one task: a process that is given up for dead, and its successor."""

from __future__ import annotations

import dataclasses
from typing import Literal

from crash.task import Task, go_on, wait_until_stopped

#: When the one that stood still goes on: the other has come to its end, or waits for its batches.
Return = Literal["too late", "meanwhile"]


def haunt(task: Task, stop_at: int, returns: Return) -> bool:
    """Stop the first try after so many effects, let a second one run, and let the first one go on at some time.

    False: the first try has no so many effects.
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
    go_on(process)
    task.end_of(process, zombie)
    _to_its_end(task, report)
    return True


def overtake(task: Task, stop_at: int, hold_at: int) -> bool:
    """Stop the first try after so many effects, and the second one after a few; then both go on, the first one first.

    False: one of them has no so many effects.
    """
    elder = dataclasses.replace(task.spec, effects="effects-zombie", traps={stop_at: "stop"}, deferrable=False)
    task.spec = elder
    first = task.start()
    if not wait_until_stopped(first):
        task.end_of(first)
        return False
    task.spec = dataclasses.replace(elder, effects="effects", traps={hold_at: "stop"}, deferrable=True)
    task.next_try()
    second = task.start()
    held = wait_until_stopped(second)
    go_on(first)
    task.end_of(first, elder)
    if held:
        go_on(second)
    _to_its_end(task, task.end_of(second))
    return held


def _to_its_end(task: Task, report: dict[str, object]) -> dict[str, object]:
    while report["kind"] == "deferred":
        report = task.resume(report)
    return report
