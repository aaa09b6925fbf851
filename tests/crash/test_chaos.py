"""Several crashes, faults and strange answers in one run, by seed. ``make chaos RUNS=5000 SEED=1`` has thousands."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crash.effects import Trap
from crash.processes import run_apart
from crash.scenarios import GRACE, IN_PARTS, SCENARIOS, WITH_ANSWERS, new_task, run_scenario

from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE
from airflow_claude_batch.simulator import Fault

SEED = int(os.environ.get("CHAOS_SEED", "1"))
RUNS = int(os.environ.get("CHAOS_RUNS", "240"))
#: A lost create call is searched for in many short processes, so these take longer. More of them are played, in one
#: process each, by `tests/batch/test_strange_answers.py`.
STRANGE_RUNS = int(os.environ.get("CHAOS_RUNS", "10"))
#: So many runs make one test, so that workers share them.
RUNS_PER_TEST = 10

#: Scenarios without a user's action half way: a delay by a fault must not change what they check.
NAMES = ("one part", "three parts", "repair", "queue full", "parts on top of rows", "two tasks")
#: One in so many runs has a second submission, which reuses answers.
REUSING = 10

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


#: Statuses with which gateways answer by themselves: what they say is nothing that the API said.
STATUSES = (200, 204, 301, 400, 401, 403, 404, 408, 409, 413, 429, 451, 460, 499, 500, 502, 503, 504, 529)


def faults(dice: random.Random) -> list[Fault]:
    return [make() for make in dice.sample(FAULTS, dice.randrange(5))]


def strange_answers(dice: random.Random) -> list[Fault]:
    return [fault for _ in range(dice.randrange(1, 5)) for fault in strange_answer(dice)]


def strange_answer(dice: random.Random) -> list[Fault]:
    """Return one kind of answer that is not what it seems to be, or that is true for a moment only."""
    kind = dice.choice(list(STRANGE))
    return [Fault(**fault) for fault in STRANGE[kind](dice)]


def _odd_counts(dice: random.Random) -> dict[str, int | None] | None:
    return dice.choice([None, {}, {"succeeded": 0}, {"succeeded": 40}, {"errored": 1}, {"processing": None}])


STRANGE: dict[str, Callable[[random.Random], list[dict[str, Any]]]] = {
    "page": lambda dice: [{"do": "page", "on": "any", "status": dice.choice(STATUSES), "times": dice.randrange(1, 4)}],
    "page for a create call": lambda dice: [{"do": "page", "on": "create", "status": dice.choice(STATUSES)}],
    "page as results": lambda dice: [
        {"do": "page", "on": "results", "status": dice.choice(STATUSES), "times": dice.randrange(1, 7)}
    ],
    "404 for a moment": lambda dice: [
        {"do": "not_found_blip", "on": dice.choice(["retrieve", "results"]), "times": dice.randrange(1, 3)}
    ],
    "404 of the listing": lambda dice: [{"do": "status", "on": "list", "status": 404, "times": dice.randrange(1, 3)}],
    "credential in rotation": lambda dice: [
        {"do": "status", "on": dice.choice(["retrieve", "list", "results"]), "status": dice.choice([401, 403])}
    ],
    "refusal after the create call took effect": lambda dice: [
        {"do": "status_after_accept", "on": "create", "status": dice.choice([408, 409, 500, 504])}
    ],
    "few rows": lambda dice: [
        {"do": "few_rows", "on": "results", "rows": dice.randrange(3), "times": dice.randrange(1, 9)}
    ],
    "custom_ids in another case": lambda dice: [
        {"do": "changed_ids", "on": "results", "ids": dice.choice(["lower", "upper"]), "times": None}
    ],
    "odd counts": lambda dice: [
        {"do": "odd_counts", "on": "retrieve", "counts": _odd_counts(dice), "times": dice.randrange(1, 4)}
    ],
    "late listing of a lost create call": lambda dice: [
        {"do": "listing_lag", "on": "create", "seconds": dice.randrange(900)},
        {"do": "drop_after_accept", "on": "create"},
    ],
    "rows that are not ours, twice, or missing": lambda dice: [
        {"do": dice.choice(["duplicate_row", "unknown_row", "missing_row"]), "on": "results"}
    ],
    "another batch for a create call": lambda dice: [{"do": "wrong_batch", "on": "create", "skip": dice.randrange(2)}],
    "an old listing": lambda dice: [{"do": "cached_listing", "on": "list", "times": dice.randrange(1, 4)}],
    "a wrong clock": lambda dice: [
        {"do": "odd_date", "seconds": dice.choice([None, 7200, -7200, 5]), "times": dice.choice([2, None])}
    ],
    "broken JSON": lambda dice: [{"do": "malformed", "on": dice.choice(["create", "retrieve", "list"])}],
}


def disturb(
    seed: int,
    home: Path,
    *,
    grace: timedelta,
    most_kills: int,
    faults: Callable[[random.Random], list[Fault]],
    reuses: bool = False,
) -> None:
    """Run one scenario with a ledger store, kills and faults, all chosen by the seed.

    :param grace: how long the batch of a create call without a response is searched for.
    :param reuses: some runs have a second submission, which reuses answers.
    """
    dice = random.Random(seed)
    scenario = (SCENARIOS | IN_PARTS)[dice.choice(NAMES)]
    if reuses and seed % REUSING == 0:
        scenario = dice.choice(list(WITH_ANSWERS.values()))
    scenario = replace(scenario, policy=replace(scenario.policy, lost_create_grace=grace))
    kills: dict[int, Trap] = {dice.randrange(1, 90): "kill" for _ in range(dice.randrange(most_kills + 1))}
    with new_task(scenario, home, store=dice.choice(["folder", "state"]), traps=kills) as task:
        injected = faults(dice)
        task.simulator.inject(*injected)
        try:
            run_scenario(scenario, task)
        except AssertionError as error:
            again = f"CHAOS_SEED={seed} CHAOS_RUNS=1 pytest tests/crash/test_chaos.py"
            raise AssertionError(f"seed {seed} ({again}): {error}; {task.history}; {injected}") from error


def run_all(first: int, runs: int, folder: Path, **choices: Any) -> None:
    for seed in range(first, min(first + RUNS_PER_TEST, SEED + runs)):
        home = folder / str(seed)
        home.mkdir()
        disturb(seed, home, **choices)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(SEED, SEED + RUNS, RUNS_PER_TEST))
def test_any_crashes_and_faults_pay_for_nothing_twice_and_lose_no_answer(first: int, tmp_path: Path) -> None:
    run_apart(run_all, first, RUNS, tmp_path, grace=GRACE, most_kills=3, faults=faults, reuses=True)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("first", range(SEED, SEED + STRANGE_RUNS, RUNS_PER_TEST))
def test_any_strange_answers_pay_for_nothing_twice_and_lose_no_answer(first: int, tmp_path: Path) -> None:
    run_apart(run_all, first, STRANGE_RUNS, tmp_path, grace=LOST_CREATE_GRACE, most_kills=1, faults=strange_answers)
