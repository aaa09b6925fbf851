"""Kill a process after each of its effects in turn. The next process must not pay again, nor lose an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crash.effects import changes
from crash.scenarios import SCENARIOS, new_task, run_scenario

#: Scenarios whose estimates are counted by the API. A count changes nothing, so no process is killed after one, but
#: counts are a third of the calls of a process that sends.
COUNTED = ("one part", "queue full")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["folder", "state"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_kill_after_any_effect_pays_for_nothing_twice_and_loses_no_answer(
    name: str, store: str, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    choices: dict[str, Any] = {"store": store, "counted": name in COUNTED}
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with new_task(scenario, undisturbed, **choices) as task:
        run_scenario(scenario, task, {})
    points = changes(undisturbed / "effects")

    assert len(points) > 10
    for point in points:
        home = tmp_path / str(point)
        home.mkdir()
        with new_task(scenario, home, **choices) as task:
            try:
                run_scenario(scenario, task, {point: scenario.trap})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.history}") from error
