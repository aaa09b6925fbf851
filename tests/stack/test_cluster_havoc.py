"""The cluster's script is the same for the same seed, and everything that it plans is something it can do."""

from typing import Any, cast

import pytest
from cluster.havoc import Havoc
from cluster.plans import FULL, SHORT, Plan


def planned(seed: int, plan: Plan) -> list[tuple[str, float]]:
    nobody = cast(Any, None)  # a plan touches no process
    return [(name, seconds) for seconds, name, _ in Havoc(nobody, seed, plan, print).scheduled()]


@pytest.mark.parametrize("plan", [SHORT, FULL])
def test_everything_planned_is_scheduled_in_time(plan: Plan) -> None:
    events = planned(1, plan)
    names = [name for name, _ in events]
    for name, times in plan.events.items():
        assert names.count(name) == times + plan.first.get(name, 0)
    assert names.count("outage") == 1
    assert all(0 <= seconds <= plan.seconds for _, seconds in events)
    for name, times in plan.first.items():
        assert sum(seconds <= plan.seconds / 10 for each, seconds in events if each == name) >= times


def test_a_seed_decides() -> None:
    assert planned(1, SHORT) == planned(1, SHORT) != planned(2, SHORT)
