"""Kill a process after each of its effects in turn. The next process must not pay again, nor lose an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash.copies import kill_after_each_change
from crash.scenarios import SCENARIOS

#: Scenarios whose estimates are counted by the API. A count changes nothing, so no process is killed after one, but
#: counts are a third of the calls of a process that sends.
COUNTED = ("one part", "queue full")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["folder", "state"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_kill_after_any_effect_pays_for_nothing_twice_and_loses_no_answer(
    name: str, store: str, tmp_path: Path
) -> None:
    choices: dict[str, Any] = {"store": store, "counted": name in COUNTED}
    kill_after_each_change(SCENARIOS[name], tmp_path, **choices)
