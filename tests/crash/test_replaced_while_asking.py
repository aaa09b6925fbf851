"""Suspend a process that asks requests directly, start its successor, and continue it: fencing bounds what it pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from crash.scenarios import new_task
from crash.test_kills_while_asking import check_rows, paid_twice, scenario
from crash.zombies import Return, run_beside_successor

#: Requests in flight at the same time.
CONCURRENCY = 2
#: Each effect more would be another minute.
STRIDE = 4


@pytest.mark.timeout(900)
@pytest.mark.parametrize("returns", get_args(Return))
def test_process_that_was_replaced_pays_for_what_it_has_in_flight_at_most(returns: Return, tmp_path: Path) -> None:
    choices: dict[str, Any] = {"counted": False, "deferrable": False}
    (undisturbed := tmp_path / "undisturbed").mkdir()
    with new_task(scenario(CONCURRENCY), undisturbed, **choices) as task:
        assert paid_twice(task, {}) == 0
    lines = (undisturbed / "effects").read_text().splitlines()
    asks = [number for number, line in enumerate(lines, 1) if "POST /v1/messages" in line and "batches" not in line]

    for stop_at in range(asks[0] - 2, asks[-1] + 2, STRIDE):
        (home := tmp_path / str(stop_at)).mkdir()
        with new_task(scenario(CONCURRENCY), home, counted=False) as task:
            assert run_beside_successor(task, stop_at, returns)
            report = task.run_to_the_end()
            try:
                assert check_rows(task, report) <= CONCURRENCY
            except AssertionError as error:
                raise AssertionError(f"stopped after effect {stop_at}: {task.history}") from error
