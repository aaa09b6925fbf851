"""An object store that fails at any one moment: nothing half-written, nothing lost, nothing paid for twice."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from stores import FailingStore, small_disk
from submission_world import TEN, World

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.elements import Defaults
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.batch.storage import ObjectFolder
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.simulator import ManualClock, Simulator

POLICY = Policy(max_requests=4, results_format="parquet")


@dataclass
class StoreWorld(World):
    """A submission whose folder is in an object store."""

    store: Any = None

    @property
    def folder(self) -> Any:
        return ObjectFolder(self.store, "/bucket/run", uri="s3://bucket/run")

    @property
    def rows(self) -> list[dict[str, Any]]:
        data = storage.read(self.folder, "results.jsonl")
        return [json.loads(line) for line in (data or b"").split(b"\n") if line]


def world_of(path: Path, failing: FailingStore, **scripts: Any) -> StoreWorld:
    clock = ManualClock()
    return StoreWorld(path, Simulator(clock=clock, batch_seconds=90, **scripts), clock, store=failing.store())


def calls_of(kind: str, path: Path) -> int:
    """How many such calls a submission makes that meets no failure."""
    counter = FailingStore(kind)
    assert world_of(path, counter).run(TEN, POLICY).failure is None
    return counter.calls


@pytest.mark.parametrize("kind", ["put", "open"])
def test_one_failure_of_the_store_at_any_moment_costs_a_retry_and_no_money(kind: str, tmp_path: Path) -> None:
    for number in range(1, calls_of(kind, tmp_path) + 1):
        path = tmp_path / str(number)
        path.mkdir()
        world = world_of(path, FailingStore(kind, {number}))
        done: DoneStep | None = None
        for _ in range(3):
            try:
                done = world.run(TEN, POLICY)
            except (ClaudeBatchError, OSError) as error:
                assert f"call {number} has failed" in str(error)  # noqa: PT017  # it may be sat out as well
                assert [row["index"] for row in world.rows] == sorted({row["index"] for row in world.rows})
            else:
                break

        assert done is not None
        assert done.failure is None
        assert [row["text"] is not None for row in world.rows] == [True] * 10
        assert world.billed == 10
        assert done.manifest.results_path == "s3://bucket/run/results.parquet"


def test_store_that_stays_down_while_answers_are_landed_is_waited_for_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingStore("put")
    world = world_of(tmp_path, failing)
    with world.attempt(TEN, POLICY) as submission:
        submission.advance()
        failing.failing = set(range(failing.calls, 1000))
        world.clock.advance(100)
        before = world.rows
        step = submission.advance()

        assert not isinstance(step, DoneStep)
        assert step.until - world.clock.now() <= POLICY.timeout
        assert world.rows == before == []
        assert re.search(r"(?s)s3://bucket/run/results\.jsonl could not be written .* pays nothing", caplog.text)

        failing.failing = set()
        assert world.finish(submission).failure is None
    assert [row["index"] for row in world.rows] == list(range(10))
    assert world.billed == 10


@pytest.mark.parametrize(
    ("outcome", "failure", "sent"),
    [("succeeded", "None", [1, 9]), ("errored:invalid_request_error", "sent first (canary=True) was refused", [1])],
)
def test_canary_whose_answer_could_not_be_landed_at_first_is_not_sent_again(
    outcome: str, failure: str, sent: list[int], tmp_path: Path
) -> None:
    failing = FailingStore("put")
    world = world_of(tmp_path, failing, outcome=lambda *_: outcome)
    with world.attempt(TEN, Policy(canary=True)) as submission:
        submission.advance()
        failing.failing = {failing.calls + 1, failing.calls + 2}
        world.clock.advance(100)
        assert not isinstance(submission.advance(), DoneStep)

        done = world.finish(submission)

    assert failure in str(done.failure)
    assert [batch["request_count"] for batch in world.simulator.books()["batches"]] == sent
    assert world.billed == len(world.rows) * (failure == "None")


def test_full_temporary_folder_is_waited_for_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = world_of(tmp_path, FailingStore(""), answer=lambda params, n: "word " * 4000)
    with world.attempt(TEN, Policy(), defaults=Defaults(model="claude-haiku-5-5", max_tokens=8192)) as submission:
        submission.advance()
        world.clock.advance(100)
        with small_disk(100_000):
            step = submission.advance()

        assert not isinstance(step, DoneStep)
        assert world.rows == []
        assert re.search(r"(?s)temporary folder .* pays nothing.*TMPDIR", caplog.text)

        assert world.finish(submission).failure is None
    assert [len(row["text"]) for row in world.rows] == [20_000] * 10
    assert world.billed == 10
