"""Suspend a first try anywhere, start its successor, and continue the first one: they must not both pay."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from crash.scenarios import SCENARIOS
from crash.zombies import Return, stop_after_each

SCENARIO = SCENARIOS["three parts"]
#: Number of effects of a try that waits in the worker, until everything is sent.
LAST_STOP = 40
#: Each test takes every third effect, from its own beginning.
STRIDE = 3
#: Effects after which the successor is stopped. Among its first ones it claims the ledger, reads it and takes it over.
HOLDS = (3, 5, 7, 9, 11)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("begin", range(1, STRIDE + 1))
@pytest.mark.parametrize("returns", get_args(Return))
@pytest.mark.parametrize("store", ["folder", "state"])
def test_two_live_tries_pay_once(store: str, returns: Return, begin: int, tmp_path: Path) -> None:
    points = range(begin, LAST_STOP, STRIDE)
    assert stop_after_each(SCENARIO, tmp_path, points, returns, store=store) > 3


@pytest.mark.timeout(900)
@pytest.mark.parametrize("hold_at", HOLDS)
@pytest.mark.parametrize("store", ["folder", "state"])
def test_try_that_continues_while_its_successor_begins_pays_for_nothing_twice(
    store: str, hold_at: int, tmp_path: Path
) -> None:
    assert stop_after_each(SCENARIO, tmp_path, range(1, LAST_STOP, STRIDE), hold_at, store=store) > 3
