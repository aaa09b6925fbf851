"""Suspend a process that asks requests directly, start its successor, and continue it: fencing bounds what it pays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from crash.processes import run_apart
from crash.scenarios import new_task
from crash.test_kills_while_asking import check_rows, run, scenario
from crash.zombies import Return, run_beside_successor

#: Requests in flight at the same time.
CONCURRENCY = 2
#: Each effect more would be another minute.
STRIDE = 4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
def test_process_that_was_replaced_pays_for_what_it_has_in_flight_at_most(returns: Return, tmp_path: Path) -> None:
    choices = {"deferrable": False}
    assert run_apart(run, CONCURRENCY, tmp_path / "undisturbed", {}, **choices) == 0
    lines = (tmp_path / "undisturbed" / "effects").read_text().splitlines()
    asks = [number for number, line in enumerate(lines, 1) if "POST /v1/messages" in line and "batches" not in line]
    run_apart(stop_after_each, tmp_path, range(asks[0] - 2, asks[-1] + 2, STRIDE), returns)


def stop_after_each(path: Path, points: Sequence[int], returns: Return) -> None:
    for stop_at in points:
        (home := path / str(stop_at)).mkdir()
        with new_task(scenario(CONCURRENCY), home, counted=False) as task:
            assert run_beside_successor(task, stop_at, returns)
            report = task.run_to_the_end()
            try:
                assert check_rows(task, report) <= CONCURRENCY
            except AssertionError as error:
                raise AssertionError(f"stopped after effect {stop_at}: {error}; {task.history}") from error
