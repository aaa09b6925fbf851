"""Kill a process after each of its effects around the reserve: at most the requests in flight are paid for twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from crash.books import FILES, digest
from crash.effects import Trap, changes
from crash.processes import run_apart
from crash.scenarios import GRACE, Scenario, new_task
from crash.task import Task

from airflow_claude_batch.batch.policy import Policy

#: No batch ends before the timeout by itself, and a canceled one has answered half of its requests.
SLOW = {"batch_seconds": 36_000, "cancel_seconds": 30, "cancel_succeeded_share": 0.5}


def scenario(concurrency: int) -> Scenario:
    policy = Policy(
        max_requests=3,
        lost_create_grace=GRACE,
        timeout=timedelta(hours=1),
        on_timeout="ask_directly",
        direct_reserve=timedelta(minutes=30),
        direct_concurrency=concurrency,
    )
    return Scenario(letters="abcdefg", policy=policy, simulator_options=SLOW)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("concurrency", "choices"),
    [
        pytest.param(1, {}, id="one at a time"),
        pytest.param(3, {"store": "state"}, id="three at a time, ledger in Airflow"),
        pytest.param(2, {"storage": "objects"}, id="two at a time, object store"),
    ],
)
def test_kill_while_requests_are_asked_pays_for_those_in_flight_at_most(
    concurrency: int, choices: Mapping[str, Any], tmp_path: Path
) -> None:
    undisturbed = tmp_path / "undisturbed"
    assert run_apart(run, concurrency, undisturbed, {}, **choices) == 0
    lines = (undisturbed / "effects").read_text().splitlines()
    begin = next(number for number, line in enumerate(lines, 1) if "/cancel" in line)
    points = [point for point in changes(undisturbed / "effects") if point >= begin - 4]

    assert len(points) > 10
    run_apart(kill_after_each, concurrency, tmp_path, points, **choices)


def kill_after_each(concurrency: int, path: Path, points: Sequence[int], **choices: Any) -> None:
    """Kill a process after each of these effects. Several requests are out at once, so each kill is a real one."""
    for point in points:
        run(concurrency, path / str(point), {point: "kill"}, **choices)


def run(concurrency: int, home: Path, traps: Mapping[int, Trap], **choices: Any) -> int:
    """Run a task to its end, check that each request has its row, and count what was paid for twice."""
    home.mkdir()
    with new_task(scenario(concurrency), home, counted=False, traps=traps, **choices) as task:
        try:
            twice = check_rows(task, task.run_to_the_end())
            assert twice <= concurrency
            leftovers = {path.name for path in task.spec.folder.iterdir()} - FILES
            assert not {name for name in leftovers if not name.startswith("ledger")}, leftovers
        except AssertionError as error:
            raise AssertionError(f"killed after effect {list(traps)}: {error}; {task.history}") from error
    return twice


def check_rows(task: Task, report: Mapping[str, Any]) -> int:
    """Check that each request has its row, and count what was paid for twice."""
    assert report["failure"] is None, report["failure"]
    books, manifest = task.simulator.books(), report["manifest"]
    rows = [json.loads(line) for line in (task.spec.folder / "results.jsonl").read_bytes().splitlines()]
    assert [row["key"] for row in rows] == list(task.spec.prompts)
    assert {row["status"] for row in rows} == {"succeeded"}
    paid = Counter(
        request["params_sha256"] for batch in books["batches"] for request in batch["requests"] if request["billed"]
    )
    paid.update(request["params_sha256"] for request in books["direct"]["requests"])
    assert paid.keys() == {digest(prompt) for prompt in task.spec.prompts.values()}
    twice = sum(paid.values()) - len(paid)
    billed = sum(1 + len(row.get("replaced") or ()) for row in rows)
    assert sum(paid.values()) <= billed + manifest["direct"]["unseen"], "paid for twice, and nobody says so"
    return twice
