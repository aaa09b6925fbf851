"""Prepares the fork server. Whatever a process does for the first time is slow, and each fork would do it again."""

from __future__ import annotations

import dataclasses
import gc
import json
import tempfile
from pathlib import Path

from crash.attempt import run
from crash.scenarios import SCENARIOS, new_task


def run_once() -> None:
    """Send and land a small submission in this process."""
    with tempfile.TemporaryDirectory() as folder, new_task(SCENARIOS["one part"], Path(folder)) as task:
        run(task.spec)
        wait_result = task.wait(json.loads(task.spec.report.read_bytes()))
        run(dataclasses.replace(task.spec, wait_result=wait_result))


run_once()
gc.collect()
gc.freeze()  # or the first collection in a fork copies all memory
