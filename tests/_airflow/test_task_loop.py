"""The loop that the operator and the sensor share."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from airflow_claude_batch._airflow.compat import TaskDeferred
from airflow_claude_batch._airflow.task_loop import run_until_done
from airflow_claude_batch.api.wire import MessageBatch, RequestCounts
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult

pytestmark = pytest.mark.airflow

NOW = datetime.now(UTC)
ENDED, RUNNING = BatchState("ended"), BatchState("in_progress")


class Options:
    """The options that the loop reads."""

    task_id = "ask"
    claude_conn_id = "claude_default"
    poll_interval = 60.0
    cancel_on_kill = False

    def __init__(self, *, deferrable: bool) -> None:
        self.deferrable = deferrable


class Contradictory:
    """A client that says at every other look that the batch has ended."""

    calls_per_minute: ClassVar[None] = None

    def __init__(self, looks: Iterator[str]) -> None:
        self._looks = looks

    def retrieve_batch(self, batch_id: str) -> MessageBatch:
        counts = RequestCounts(processing=1)
        return MessageBatch(id=batch_id, processing_status=next(self._looks), request_counts=counts, created_at=NOW)


class Work:
    """Waits for one batch as long as its own look says that it runs."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def advance(self) -> WaitStep | DoneStep:
        if self.client.retrieve_batch("msgbatch_1").ended:
            raise LookupError("done")
        return WaitStep(("msgbatch_1",), "all", NOW + timedelta(hours=25), "it is in progress")

    def mark_lost(self, batch_id: str, reason: str) -> None: ...


class Shown:
    """Keeps what is pushed for Airflow's UI."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def push(self, step: Any = None) -> None:
        self.steps.append(step)


class Run:
    """Makes a trigger of its arguments."""

    def make_trigger(self, claude_conn_id: str, **arguments: Any) -> dict[str, Any]:
        return arguments


def test_a_worker_pauses_between_looks_that_contradict_each_other() -> None:
    pauses: list[float] = []
    work = Work(Contradictory(iter(["in_progress", "ended"] * 20 + ["ended"])))

    with pytest.raises(LookupError):
        run_until_done(work, Options(deferrable=False), Run(), sleep=pauses.append, snapshots=Shown())  # type: ignore[arg-type]  # fakes

    assert sum(pause >= 10 for pause in pauses) == 19


@pytest.mark.parametrize(
    ("waited", "unconfirmed"),
    [
        pytest.param(None, [], id="the first wait"),
        pytest.param(WaitResult("due", {"msgbatch_1": RUNNING}), [], id="the deadline passed"),
        pytest.param(WaitResult("ended", {"msgbatch_9": ENDED}), [], id="another batch ended"),
        pytest.param(WaitResult("ended", {"msgbatch_1": ENDED}), ["msgbatch_1"], id="it was said to have ended"),
    ],
)
def test_a_trigger_is_told_of_batches_that_were_said_to_have_ended(
    waited: WaitResult | None, unconfirmed: list[str]
) -> None:
    work = Work(Contradictory(iter(["in_progress"])))

    with pytest.raises(TaskDeferred) as deferred:
        run_until_done(work, Options(deferrable=True), Run(), waited=waited, snapshots=Shown())  # type: ignore[arg-type]  # fakes

    assert deferred.value.trigger["unconfirmed_batch_ids"] == unconfirmed  # type: ignore[index]  # the fake's
