"""The cluster's disruptions are the same for the same seed, and each planned one can be carried out."""

from typing import Any, cast

import pytest
from cluster.disruptions import Disruptions
from cluster.plans import FULL, SHORT, Plan


def planned(seed: int, plan: Plan) -> list[tuple[str, float]]:
    no_cluster = cast(Any, None)  # planning needs no cluster
    return [(name, seconds) for seconds, name, _ in Disruptions(no_cluster, seed, plan, print).scheduled()]


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


def test_the_same_seed_gives_the_same_plan() -> None:
    assert planned(1, SHORT) == planned(1, SHORT) != planned(2, SHORT)
