"""Soak: strange answers of the API and of gateways at random, in submissions that are retried and cleared.

Whatever happens, each request is billed once and ends as one row. ``STRANGE_ANSWERS_SEEDS=1000`` plays more seeds. A
seed chooses the faults. Ids are random, so that it does not always end in the same way.
"""

from __future__ import annotations

import contextlib
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.collection import Collection
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.manifest import load_manifest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.exceptions import APIError, BatchError, SubmissionError
from airflow_claude_batch.simulator import Fault

SEEDS = int(os.environ.get("STRANGE_ANSWERS_SEEDS", "20"))

#: Operations on which most kinds make sense.
READS = ("retrieve", "list", "results")


def strange_fault(rng: random.Random) -> Fault:
    """Choose a fault. Those of the create call are few: each lost response costs minutes of searching."""
    times = rng.choice([1, 1, 2, 3, 6])
    skip = rng.randrange(4)
    kind = rng.choice(
        [
            "page",
            "page",
            "few_rows",
            "few_rows",
            "odd_counts",
            "ids",
            "blip",
            "status",
            "cut",
            "rows",
            "create",
            "malformed",
        ]
    )
    match kind:
        case "page":
            status = rng.choice([200, 302, 400, 403, 404, 413, 429, 451, 460, 500, 502, 529])
            return Fault(do="page", on=rng.choice(READS), status=status, times=times, skip=skip)
        case "few_rows":
            return Fault(do="few_rows", on="results", rows=rng.randrange(4), times=times, skip=skip)
        case "odd_counts":
            counts: Any = rng.choice([{}, {"succeeded": 0}, {"succeeded": 20}, {"succeeded": 1}, {"processing": 3}])
            return Fault(do="odd_counts", on="retrieve", counts=counts, times=times, skip=skip)
        case "ids":
            return Fault(
                do="changed_ids", on="results", ids=rng.choice(["lower", "upper", "cut"]), times=times, skip=skip
            )
        case "blip":
            return Fault(do="not_found_blip", on=rng.choice(["retrieve", "results", "cancel"]), times=times, skip=skip)
        case "status":
            status = rng.choice([404, 409, 429, 500, 529])
            return Fault(do="status", on=rng.choice(["retrieve", "results"]), status=status, times=times, skip=skip)
        case "cut":
            return Fault(do="cut", on="results", at=rng.choice(["mid_line", "line_end"]), times=times, skip=skip)
        case "rows":
            do: Any = rng.choice(["duplicate_row", "unknown_row", "missing_row", "gzip", "no_trailing_newline"])
            return Fault(do=do, on="results", times=times, skip=skip)
        case "create":
            do = rng.choice(["drop_after_accept", "drop_before_accept", "status_after_accept", "malformed", "page"])
            return Fault(
                do=do, on="create", status=rng.choice([403, 404, 502, 503]) if do == "page" else 500, skip=skip
            )
        case _:
            return Fault(do="malformed", on=rng.choice(READS), times=times, skip=skip)


def play(world: World, rng: random.Random) -> None:
    """Run tries of the task with faults, some with more requests, and at last one without any fault."""
    policy = Policy(
        timeout=timedelta(hours=rng.choice([2, 25])),
        max_requests=rng.choice([3, 5, 10]),
        repair_rounds=rng.choice([0, 1, 3]),
        on_timeout=rng.choice(["cancel", "leave"]),
        canary=rng.random() < 0.2,
    )
    count = rng.choice([5, 10])
    for _ in range(8):
        world.simulator.inject(*(strange_fault(rng) for _ in range(rng.randrange(1, 6))))
        if rng.random() < 0.2 and (rows := world.folder.path / "results.jsonl").exists():
            lines = rows.read_bytes().splitlines(keepends=True)
            rows.write_bytes(b"".join(line for line in lines if rng.random() < 0.5))
        count = max(count, rng.choice([0, 6, 8, 10]))
        messages = rng.sample(TEN[:count], count) if rng.random() < 0.3 else TEN[:count]
        try:
            with world.attempt(messages, policy, clear=rng.random() < 0.3) as submission:
                for _ in range(rng.choice([1, 3, 10, 400])):
                    if isinstance(step := submission.advance(), DoneStep):
                        break
                    world.clock.advance(min(600.0, max(1.0, (step.until - world.clock.now()).total_seconds())))
        except (APIError, BatchError, SubmissionError):
            pass
        world.clock.advance(rng.choice([1, 60, 1000]))
    world.simulator.clear_faults()
    with world.attempt(TEN, Policy(max_requests=policy.max_requests)) as submission:
        done = world.finish(submission, most=2000)
    assert done.failure is None, done.failure


@pytest.mark.parametrize("seed", range(SEEDS))
def test_each_request_is_billed_once_and_ends_as_one_row(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    world = make_world(tmp_path, batch_seconds=rng.choice([0, 90, 4000]), shuffle=rng.random() < 0.5)
    play(world, rng)

    assert world.billed == 10
    assert [(row["index"], row["status"]) for row in world.rows] == [(index, "succeeded") for index in range(10)]


def play_with_sensor(world: World, rng: random.Random) -> DoneStep:
    """Let the operator send and a sensor land, with faults. Then clear both, at last without any fault."""
    policy = Policy(wait_for_completion=False, max_requests=rng.choice([3, 5, 10]))
    for faults in (5, 5, 3, 0):
        world.simulator.clear_faults()
        world.simulator.inject(*(strange_fault(rng) for _ in range(faults)))
        with contextlib.suppress(APIError, BatchError, SubmissionError), world.attempt(TEN, policy) as submission:
            world.finish(submission, most=2000)
        if load_manifest(world.folder) is None:
            continue  # the operator has failed before it handed over
        with contextlib.suppress(APIError, BatchError, SubmissionError):
            done = sense(world, rng, hours=rng.choice([1, 30]))
    return done


def sense(world: World, rng: random.Random, *, hours: int) -> DoneStep:
    """Land the batches as a sensor does, each poke in a process of its own."""
    manifest, deadline = load_manifest(world.folder), world.clock.now() + timedelta(hours=hours)
    assert manifest is not None
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    for _ in range(2000):
        with ClaudeClient(config, transport=world.simulator.transport(), sleep=lambda _: None) as client:
            step = Collection(
                client=client,
                submission_id="s",
                batch_ids=manifest.batch_ids,
                folder=world.folder,
                requests=lambda: RequestFile(world.folder.path / "requests.jsonl"),
                policy=Policy(),
                prices=PriceTable.load(),
                deadline=deadline,
                clock=world.clock.now,
                sleep=lambda _: None,
            ).advance()
        if isinstance(step, DoneStep):
            return step
        world.clock.advance(rng.choice([1, 60, 600]))
    raise AssertionError(f"not done: {step}")


@pytest.mark.parametrize("seed", range(SEEDS // 2))
def test_a_sensor_lands_each_answer_and_nothing_is_sent_again(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    world = make_world(tmp_path, batch_seconds=rng.choice([0, 90, 4000]), shuffle=rng.random() < 0.5)
    done = play_with_sensor(world, rng)

    assert done.failure is None
    assert world.billed == 10
    assert [(row["index"], row["status"]) for row in world.rows] == [(index, "succeeded") for index in range(10)]
