"""Measures how far the expected cost is from the bill, in tasks whose runs are alike.

The inputs of all runs have the same distribution, but no run has another one's. The simulator answers with texts whose
lengths vary as lengths of answers do: half of them are between 56 % and 125 % of the mean.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.run_record import run_of
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run, add_run
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import begin_attempt
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import ManualClock, Simulator
from benchmarks.figures import BenchmarkResult, Figure, Scope

TASKS, RUNS, REQUESTS = 20, 8, 80
MOST_PERCENT = 15
HANDBOOK = {"type": "text", "text": "The handbook. " * 1_500, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=2_000)


def requests_of_a_run(rng: random.Random) -> Iterator[Request]:
    """Make requests to two models. Every third one goes to the expensive one, with a cached prefix."""
    for index in range(REQUESTS):
        element: dict[str, Any] = {"key": index, "prompt": "x" * rng.randint(50, 4_000)}
        if index % 3 == 0:
            element |= {"model": "claude-opus-5-5", "system": [HANDBOOK], "max_tokens": 1_000}
        yield read_request(element, index, DEFAULTS)


def run_once(folder: Path, rng: random.Random, number: int, runs: tuple[Run, ...]) -> Manifest:
    """Run one submission against a simulator of its own, and return its manifest."""
    clock, answers = ManualClock(), dict[str, str]()

    def answer(params: dict[str, Any], n: int, custom_id: str) -> str:
        return answers.setdefault(custom_id, "y" * round(4 * 90 * rng.lognormvariate(-0.18, 0.6)))

    place, scratch = LocalFolder(folder / "submission"), folder / "scratch"
    scratch.mkdir(parents=True)
    simulator = Simulator(clock=clock, batch_seconds=90, answer=answer)
    record, requests = begin_attempt(
        FolderLedgerStore(place),
        place,
        Attempt(submission_id=f"run {number}", try_number=1, generation=0, now=clock.now()),
        lambda file, index: write_requests(requests_of_a_run(rng), file, index),
        scratch,
        reuse_answers=True,
    )
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    with requests, ClaudeClient(config, transport=simulator.transport(), sleep=clock.advance) as client:
        submission = Submission(
            client=client,
            record=record,
            folder=place,
            requests=requests,
            policy=Policy(),
            prices=PriceTable.load(),
            clock=clock.now,
            sleep=clock.advance,
            estimate_client=client,
            earlier_runs=lambda: runs,
        )
        while not isinstance(step := submission.advance(), DoneStep):
            clock.advance(60)
    return step.manifest


def errors_of_a_task(folder: Path, seed: int) -> list[float]:
    """Run a task several times. Return how far each expectation was from the bill, in percent of the bill."""
    rng = random.Random(seed)  # noqa: S311 - no secret, and the same in every measurement
    runs, errors = tuple[Run, ...](), []
    for number in range(RUNS):
        manifest = run_once(folder / f"{number}", rng, number, runs)
        assert manifest.counts["succeeded"] == REQUESTS, manifest.counts
        cost = manifest.cost or {}
        usd = Decimal(cost["usd"])
        errors.append(float(100 * abs(Decimal(cost["estimated_usd"]) - usd) / usd))
        run = run_of(manifest)
        assert run is not None
        runs = add_run(runs, msgspec.structs.replace(run, submission_id=f"run {number}"))
    return errors


def measure(scope: Scope) -> BenchmarkResult:
    """Run all tasks, and compare what was expected with the bills."""
    tasks = scope.of(TASKS)
    with tempfile.TemporaryDirectory(prefix="expectation-") as scratch:
        errors = [errors_of_a_task(Path(scratch, f"{seed}"), seed) for seed in range(tasks)]
    guessed = [task[0] for task in errors]
    expected = [error for task in errors for error in task[2:]]
    return BenchmarkResult(
        f"{tasks} tasks of {RUNS} runs that are alike, {REQUESTS} requests each: two models, one with a cached prefix, "
        "prompts of 50 to 4,000 characters, answers of very different length. How far the expected cost is from the "
        "bill, in percent of the bill. Checked: that every request was answered.",
        (
            Figure("first run, a guess, median", "%", median(guessed)),
            Figure("from the third run on, median", "%", median(expected)),
            Figure("from the third run on, largest", "%", max(expected)).at_most(MOST_PERCENT),
        ),
    )
