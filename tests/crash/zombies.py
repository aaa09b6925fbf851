"""Two running attempts of one task: a process that was suspended and replaced, and its successor."""

from __future__ import annotations

import dataclasses
from typing import Literal

from crash.task import Task, resume_process, wait_until_stopped

#: When the suspended process continues: after the other has ended, or while it waits for its batches.
Return = Literal["too late", "meanwhile"]


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
