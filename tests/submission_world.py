"""Submission run against the simulator without Airflow, from attempt to attempt, with a manual clock."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import msgspec

from airflow_claude_batch.api.client import ClaudeClient, ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.output_schema import OutputSchema
from airflow_claude_batch.batch.input.request_index import RequestIndexWriter
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.start import begin_attempt
from airflow_claude_batch.batch.steps import AskStep, DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import ManualClock, Simulator

TEN = [f"question {number}" for number in range(10)]
DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=64)


@dataclass
class World:
    """One task instance, its folder and a simulator.

    ``url``: calls the simulator over a socket, at this URL. ``day_budget`` limits what submissions cost.
    """

    path: Path
    simulator: Simulator
    clock: ManualClock
    try_number: int = 0
    generation: int = 0
    steps: list[WaitStep | AskStep | DoneStep] = field(default_factory=list)
    submission_id: str = "s"
    url: str | None = None
    day_budget: DayBudget | None = None
    #: Earlier runs of the task.
    runs: tuple[Run, ...] = ()

    def another(self, name: str) -> World:
        """Return another task instance with the same simulator, clock and answer store."""
        path = self.path.parent / name
        path.mkdir()
        return World(path, self.simulator, self.clock, submission_id=name)

    @property
    def store_path(self) -> Path:
        return self.path.parent / "answers"

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
        kept: Sequence[dict[str, Any]] | None = None,
        store: dict[str, Any] | None = None,
    ) -> Iterator[Submission]:
        """Begin a try of the task and yield its submission.

        :param store: arguments of its answer store, empty for the usual one. None without a store.
        """
        self.try_number += 1
        self.generation += int(clear)
        scratch = self.path / f"scratch-{self.try_number}"
        scratch.mkdir()
        folder = self.folder
        if output_schema is not None:
            defaults = replace(defaults, output_format=output_schema.format)
        requests = (_request(message, index, defaults, kept) for index, message in enumerate(messages))

        def write(file: IO[bytes], index: RequestIndexWriter) -> int:
            if index.kept is not None and kept:
                index.kept.types = dict.fromkeys(kept[0], "json")
            return write_requests(requests, file, index, deduplicate=deduplicate, may_be_empty=may_be_empty)

        record, opened = begin_attempt(
            FolderLedgerStore(folder),
            folder,
            Attempt(
                submission_id=self.submission_id,
                try_number=self.try_number,
                generation=self.generation,
                now=self.clock.now(),
            ),
            write,
            scratch,
            reuse_answers=reuse_answers,
            output_schema=output_schema,
        )
        url = self.url or "http://127.0.0.1:1"
        config = ClientConfig(credentials=ApiKey("sk-test"), base_url=url, max_retries=0)
        transport = None if self.url else self.simulator.transport()
        with opened, ClaudeClient(config, transport=transport, sleep=lambda _: None) as client:
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
                answers=None if store is None else self.answer_reuse(**{"looks_up": reuse_answers, **store}),
                day_budget=self.day_budget,
                earlier_runs=lambda: self.runs,
            )

    def answer_reuse(self, **choices: Any) -> AnswerReuse:
        """Return the answer store, beside the folders of all tasks."""
        path = self.store_path
        return AnswerReuse(
            path=str(path),
            **{
                "open_folder": lambda name: LocalFolder(path / name),
                "connection": "claude_default",
                "clock": self.clock.now,
                **choices,
            },
        )

    def finish(self, submission: Submission, *, most: int = 100) -> DoneStep:
        """Advance until done. Waiting moves the clock. Nobody may be asked."""
        step = self.advance(submission, most=most)
        assert isinstance(step, DoneStep), step
        return step

    def advance(self, submission: Submission, *, most: int = 100) -> AskStep | DoneStep:
        """Advance until a person must be asked, or until done. Waiting moves the clock."""
        for _ in range(most):
            step = submission.advance()
            self.steps.append(step)
            if not isinstance(step, WaitStep):
                return step
            self.clock.advance(min(60.0, max(1.0, (step.until - self.clock.now()) / timedelta(seconds=1))))
        raise AssertionError(f"not done after {most} steps: {step}")

    def run(self, messages: list[Any], policy: Policy, **how: Any) -> DoneStep:
        """Run one whole try of the task."""
        with self.attempt(messages, policy, **how) as submission:
            return self.finish(submission)


def _request(message: Any, index: int, defaults: Defaults, kept: Sequence[dict[str, Any]] | None) -> Request:
    request = read_request(message, index, defaults)
    return msgspec.structs.replace(request, kept=None if kept is None else msgspec.json.encode(kept[index]))


def same_answer(params: dict[str, Any], n: int) -> str:
    """Answer the same to the same, wherever it stands in its batch."""
    return f"answer to {params['messages'][-1]['content']}"


def new_world(path: Path, **options: Any) -> World:
    """Make a world in a folder of its own, which gives equal answers to equal requests."""
    (path / "one").mkdir()
    return make_world(path / "one", **{"answer": same_answer, **options})


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
