"""A process is killed after each of its effects in turn; whatever runs next must not pay again, nor lose an answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash.effects import changes
from crash.scenarios import SCENARIOS, play, told


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["folder", "state"])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_kill_after_any_effect_pays_for_nothing_twice_and_loses_no_answer(
    name: str, store: str, tmp_path: Path
) -> None:
    scenario = SCENARIOS[name]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    with told(scenario, undisturbed, store=store) as task:
        play(scenario, task, {})
    points = changes(undisturbed / "effects")

    assert len(points) > 10
    for point in points:
        home = tmp_path / str(point)
        home.mkdir()
        with told(scenario, home, store=store) as task:
            try:
                play(scenario, task, {point: scenario.trap})
            except AssertionError as error:
                raise AssertionError(f"killed after effect {point}: {task.story}") from error
