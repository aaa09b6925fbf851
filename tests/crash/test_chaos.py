"""Several crashes and faults in one run, by seed. ``make chaos RUNS=5000 SEED=1`` has thousands of runs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from crash.scenarios import SCENARIOS, new_task, run_scenario

from airflow_claude_batch.simulator import Fault

SEED = int(os.environ.get("CHAOS_SEED", "1"))
RUNS = int(os.environ.get("CHAOS_RUNS", "240"))
#: So many runs make one test, so that workers share them.
RUNS_PER_TEST = 10

#: Scenarios without a user's action half way: a delay by a fault must not change what they check.
NAMES = ("one part", "three parts", "repair", "queue full")

FAULTS = (
    lambda: Fault(do="drop_after_accept", on="create"),
    lambda: Fault(do="drop_before_accept", on="create"),
    lambda: Fault(do="status_after_accept", on="create", status=504),
    lambda: Fault(do="status", on="create", status=529),
    lambda: Fault(do="status", on="create", status=500),
    lambda: Fault(do="status", on="create", status=429, retry_after=3),
    lambda: Fault(do="malformed", on="create"),
    lambda: Fault(do="status", on="any", status=503, times=3),
    lambda: Fault(do="html", on="retrieve"),
    lambda: Fault(do="not_found_blip", on="retrieve"),
    lambda: Fault(do="not_found_blip", on="results"),
    lambda: Fault(do="few_rows", on="results", rows=1, times=3),
    lambda: Fault(do="odd_counts", on="retrieve", counts={}),
    lambda: Fault(do="odd_counts", on="retrieve", counts={"succeeded": 99}),
    lambda: Fault(do="page", on="results", status=404),
    lambda: Fault(do="page", on="retrieve", status=403),
    lambda: Fault(do="page", on="create", status=400),
    lambda: Fault(do="cut", on="results", at="mid_line"),
    lambda: Fault(do="cut", on="results", at="line_end"),
    lambda: Fault(do="duplicate_row", on="results"),
    lambda: Fault(do="listing_lag", on="create", seconds=20),
    lambda: Fault(do="page", on="create", status=403, accepted=True),
    lambda: Fault(do="page", on="create", status=429, page="json", accepted=True),
    lambda: Fault(do="page", on="create", status=400, page="empty"),
    lambda: Fault(do="status_after_accept", on="create", status=529),
    lambda: Fault(do="page", on="list", status=404, times=2),
    lambda: Fault(do="status", on="list", status=404),
    lambda: Fault(do="status", on="results", status=404),
    lambda: Fault(do="odd_date", on="any", times=6),
    lambda: Fault(do="odd_date", on="any", seconds=-18_000, times=6),
    lambda: Fault(do="odd_counts", on="list", counts={}, times=3),
)


def disturb(seed: int, home: Path) -> None:
    """Run one scenario with a ledger store, up to three kills and up to four faults, all chosen by the seed."""
    dice = random.Random(seed)
    scenario = SCENARIOS[dice.choice(NAMES)]
    kills = {dice.randrange(1, 90): "kill" for _ in range(dice.randrange(4))}
    with new_task(scenario, home, store=dice.choice(["folder", "state"])) as task:
        for make in dice.sample(FAULTS, dice.randrange(5)):
            fault = make()
            task.simulator.inject(fault)
        try:
            run_scenario(scenario, task, kills)  # type: ignore[arg-type]
        except AssertionError as error:
            again = f"CHAOS_SEED={seed} CHAOS_RUNS=1 pytest tests/crash/test_chaos.py"
            raise AssertionError(f"seed {seed} ({again}): {error}; {task.history}") from error


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(SEED, SEED + RUNS, RUNS_PER_TEST))
def test_any_crashes_and_faults_pay_for_nothing_twice_and_lose_no_answer(first: int, tmp_path: Path) -> None:
    for seed in range(first, min(first + RUNS_PER_TEST, SEED + RUNS)):
        home = tmp_path / str(seed)
        home.mkdir()
        disturb(seed, home)
