"""Submission run against the simulator without Airflow, from attempt to attempt, with a manual clock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.output_schema import OutputSchema
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.start import Attempt, begin_attempt
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import ManualClock, Simulator

TEN = [f"question {number}" for number in range(10)]
DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64)


@dataclass
class World:
    """One task instance, its folder and a simulator."""

    path: Path
    simulator: Simulator
    clock: ManualClock
    try_number: int = 0
    generation: int = 0
    steps: list[WaitStep | DoneStep] = field(default_factory=list)

    @property
    def folder(self) -> LocalFolder:
        return LocalFolder(self.path / "submission")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What is landed so far."""
        with landed_lines(self.folder) as lines:
            assert lines is not None
            return [json.loads(line) for line in lines]

    @property
    def billed(self) -> int:
        count: int = self.simulator.books()["billed_requests"]
        return count

    @contextlib.contextmanager
    def attempt(
        self,
        messages: list[Any],
        policy: Policy,
        *,
        clear: bool = False,
        reuse_answers: bool = True,
        deduplicate: bool = False,
        defaults: Defaults = DEFAULTS,
        output_schema: OutputSchema | None = None,
        may_be_empty: bool = False,
    ) -> Iterator[Submission]:
        """Begin a try of the task and yield its submission."""
        self.try_number += 1
        self.generation += int(clear)
        scratch = self.path / f"scratch-{self.try_number}"
        scratch.mkdir()
        folder = self.folder
        if output_schema is not None:
            defaults = replace(defaults, output_format=output_schema.format)
        requests = (read_request(message, index, defaults) for index, message in enumerate(messages))
        record, opened = begin_attempt(
            FolderLedgerStore(folder),
            folder,
            Attempt(submission_id="s", try_number=self.try_number, generation=self.generation, now=self.clock.now()),
            lambda file, index: write_requests(
                requests, file, index, deduplicate=deduplicate, may_be_empty=may_be_empty
            ),
            scratch,
            reuse_answers=reuse_answers,
            output_schema=output_schema,
        )
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
        with opened, ClaudeClient(config, transport=self.simulator.transport(), sleep=lambda _: None) as client:
            yield Submission(
                client=client,
                record=record,
                folder=folder,
                requests=opened,
                policy=policy,
                prices=PriceTable.load(),
                clock=self.clock.now,
                sleep=lambda _: None,
                estimate_client=client,
            )

    def finish(self, submission: Submission, *, most: int = 100) -> DoneStep:
        """Advance until done. Waiting moves the clock."""
        for _ in range(most):
            step = submission.advance()
            self.steps.append(step)
            if isinstance(step, DoneStep):
                return step
            self.clock.advance(min(60.0, max(1.0, (step.until - self.clock.now()) / timedelta(seconds=1))))
        raise AssertionError(f"not done after {most} steps: {step}")

    def run(self, messages: list[Any], policy: Policy, **how: Any) -> DoneStep:
        """Run one whole try of the task."""
        with self.attempt(messages, policy, **how) as submission:
            return self.finish(submission)


def make_world(path: Path, **options: Any) -> World:
    clock = ManualClock()
    options.setdefault("batch_seconds", 90)
    return World(path, Simulator(clock=clock, **options), clock)


def fails_first(times: int, outcome: str, *indices: int) -> Any:
    """Return an outcome function: these requests end with ``outcome`` the first ``times`` times that they are sent."""
    sent: dict[str, int] = {}

    def decide(custom_id: str, params: dict[str, Any], attempt_no: int) -> str:
        text = params["messages"][-1]["content"]
        sent[text] = sent.get(text, 0) + 1
        return outcome if int(text.split()[-1]) in indices and sent[text] <= times else "succeeded"

    return decide
