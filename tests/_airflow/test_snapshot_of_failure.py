"""What a task pushes when it fails: all that may run and bill, and nothing that logs would not show."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch._airflow.compat import AirflowException, mask_secret
from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY, Snapshots
from airflow_claude_batch.batch.land.snapshot import PartState, SnapshotPart
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import SubmissionError, SubmissionTakenOverError

pytestmark = pytest.mark.airflow


@dataclass
class TaskInstance:
    """Keeps what is pushed to XCom."""

    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "send"
    map_index: int = -1
    pushed: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@dataclass
class Run:
    ti: TaskInstance = field(default_factory=TaskInstance)


@dataclass
class Work:
    """A submission whose batches are those in ``sent``."""

    folder: LocalFolder
    sent: list[str] = field(default_factory=list)
    submission_id: str = "s"
    request_count: int = 2
    estimate: dict[str, object] | None = None
    is_damaged: bool = False

    def parts(self) -> list[SnapshotPart]:
        if self.is_damaged:
            raise KeyError("damaged")
        return [SnapshotPart(state=PartState.IN_PROGRESS, batch_id=id_) for id_ in self.sent]


def pushed_after(error: Exception, path: Path) -> dict[str, Any]:
    """Return the snapshot of a step that sends a batch and then fails."""
    work, run = Work(LocalFolder(path)), Run()

    def step() -> None:
        with Snapshots(work, run, conn_id="c") as snapshots:  # type: ignore[arg-type]  # the part that is used
            snapshots.push()
            work.sent.append("msgbatch_1")
            raise error

    with pytest.raises(type(error)):
        step()
    return dict(run.ti.pushed[SNAPSHOT_KEY])


@pytest.mark.parametrize("error", [SubmissionError("No budget is left."), ValueError("a prompt"), OSError(28, "full")])
def test_batches_of_the_step_that_failed_are_in_the_snapshot(error: Exception, tmp_path: Path) -> None:
    assert [part["batch_id"] for part in pushed_after(error, tmp_path)["parts"]] == ["msgbatch_1"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (SubmissionError("No budget is left.", "Nothing was sent."), "No budget is left."),
        (
            AirflowException("The database says: wrong password tulip-7719-mauve"),
            "The database says: wrong password ***",
        ),
        (AirflowException("postgresql://user:tulip@host/db is away\nsecond line"), "postgresql://***host/db is away"),
        (AirflowException(""), "AirflowException"),
        (ValueError("no JSON: Dear Dr. House, my knee"), "ValueError"),
    ],
)
def test_the_failure_has_no_secrets_and_no_answers(error: Exception, failure: str, tmp_path: Path) -> None:
    mask_secret("tulip-7719-mauve")
    assert pushed_after(error, tmp_path)["failure"] == failure


def test_an_attempt_that_was_overtaken_leaves_the_snapshot_of_the_newer_one(tmp_path: Path) -> None:
    assert "failure" not in pushed_after(SubmissionTakenOverError("Another attempt owns it."), tmp_path)


def test_a_long_failure_is_cut(tmp_path: Path) -> None:
    assert len(pushed_after(AirflowException("x" * 1_000_000), tmp_path)["failure"]) == 500


def test_no_task_fails_because_of_its_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = Run()
    with Snapshots(Work(LocalFolder(tmp_path), is_damaged=True), run, conn_id="c") as snapshots:  # type: ignore[arg-type]  # the part that is used
        snapshots.push()
        snapshots.push()
    assert run.ti.pushed == {}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "The page in Airflow's UI does not show where the submission stands now: its XCom could not be pushed "
        "(KeyError). The submission itself goes on."
    ]
