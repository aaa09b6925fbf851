"""Two live attempts of one task: a process stands still, is given up, and comes back while its successor is at work."""

from __future__ import annotations

import dataclasses
from typing import Literal

from crash.task import Task, go_on, wait_until_stopped

#: When the zombie comes back: the successor has come to its end, or waits for its batches.
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
        while report["kind"] == "deferred":
            report = task.resume(report)
    go_on(process)
    spec, task.spec = task.spec, zombie
    task.end_of(process)
    task.spec = spec
    while report["kind"] == "deferred":
        report = task.resume(report)
    return True
