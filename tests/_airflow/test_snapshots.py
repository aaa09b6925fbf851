"""Snapshots: what a task pushes for people to see, and how it is found in Airflow's database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG
from stored_xcoms import stored_xcoms
from workbench import Workbench

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY
from airflow_claude_batch._airflow.states import State, standing_of
from airflow_claude_batch._airflow.submissions import (
    FoundSubmission,
    TaskKey,
    find_submission,
    find_submissions,
    read_output,
)
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.land.snapshot import PartState
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("claude_default")]


def found(dag_id: str, **options: Any) -> list[FoundSubmission]:
    from airflow_claude_batch._airflow.servers import create_session

    with create_session() as session:
        return find_submissions(session, dag_ids=[dag_id], limit=100, **options)


def test_a_task_that_has_ended(bench: Workbench, tmp_path: Any) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    with DAG("snapshot_ended", schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=["a", "b"],
            results_path=str(tmp_path),
            max_tokens=10,
            wait_for_completion=True,
            deferrable=False,
        )
    run = bench.run(dag)

    (submission,) = found("snapshot_ended")
    snapshot = submission.snapshot
    assert snapshot is not None
    assert submission.state == "success"
    assert (snapshot.state, snapshot.request_count, snapshot.part_count, snapshot.landed_parts) == ("ended", 2, 1, 1)
    assert snapshot.parts[0].state is PartState.LANDED
    assert snapshot.root == str(tmp_path)
    assert snapshot.place == Place("snapshot_ended", run.run.run_id, "send")
    assert snapshot.counts["succeeded"] == 2
    with create_session() as session:
        key = TaskKey("snapshot_ended", run.run.run_id, "send")
        manifest = read_output(session, key)
        assert manifest is not None
        assert (snapshot.cost, snapshot.by_model) == (manifest.cost, manifest.by_model)
        assert find_submission(session, key) == submission
        assert find_submission(session, TaskKey("snapshot_ended", run.run.run_id, "other")) is None


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True)
def test_a_task_that_has_stopped_waiting(bench: Workbench, tmp_path: Any) -> None:
    with DAG("snapshot_waiting", schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=["a", "b", "c"],
            results_path=str(tmp_path),
            max_tokens=10,
            wait_for_completion=True,
            deferrable=False,
            timeout=1,
            poll_interval=0.2,
            on_timeout="leave",
        )
    bench.run(dag)

    (submission,) = found("snapshot_waiting")
    snapshot = submission.snapshot
    assert snapshot is not None
    assert submission.state == "failed"
    assert (snapshot.request_count, snapshot.part_count, snapshot.landed_parts) == (3, 1, 0)
    assert snapshot.parts[0].state is PartState.IN_PROGRESS
    assert snapshot.parts[0].requests == 3
    assert snapshot.estimate is not None
    assert snapshot.failure is not None
    assert "timeout" in snapshot.failure


@pytest.mark.parametrize("simulator", [{"batch_seconds": 3600.0}], indirect=True)
def test_batches_of_an_earlier_attempt_when_the_next_one_cannot_begin(
    bench: Workbench, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with DAG("snapshot_again", schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send", messages=["a", "b"], results_path=str(tmp_path), max_tokens=10, wait_for_completion=False
        )
    run = bench.run(dag)
    monkeypatch.delenv("AIRFLOW_CONN_CLAUDE_DEFAULT")
    assert run.again(dag, "send").states == {"send": "failed"}

    (submission,) = found("snapshot_again")
    snapshot = submission.snapshot
    assert snapshot is not None
    assert (snapshot.state, snapshot.request_count, snapshot.part_count) == ("working", 2, 1)
    assert snapshot.parts[0].state is PartState.IN_PROGRESS
    assert snapshot.place == Place("snapshot_again", run.run.run_id, "send")
    assert "There is no connection 'claude_default'" in str(snapshot.failure)
    standing = standing_of(snapshot, None, submission.state, timezone.utcnow())
    assert (standing.state, standing.note) == (State.STOPPED, "1 batch may still run and bill")


def test_two_tasks(bench: Workbench, tmp_path: Any) -> None:
    with DAG("snapshot_two", schedule=None) as dag:
        send = SendMessageBatchOperator(
            task_id="send", messages=["a"], results_path=str(tmp_path), max_tokens=10, wait_for_completion=False
        )
        MessageBatchSensor(task_id="wait", batch=send.output, results_path=str(tmp_path), poke_interval=0.1)
    bench.run(dag)

    waited, sent = found("snapshot_two")
    assert (waited.key.task_id, sent.key.task_id) == ("wait", "send")
    assert waited.snapshot is not None
    assert sent.snapshot is not None
    assert sent.snapshot.state == "sent"
    assert waited.snapshot.state == "ended"
    assert waited.snapshot.submission_id == sent.snapshot.submission_id
    assert waited.snapshot.place == sent.snapshot.place
    assert waited.snapshot.counts["succeeded"] == 1


def test_an_output_of_a_version_before_snapshots(bench: Workbench, tmp_path: Any) -> None:
    from airflow_claude_batch._airflow.servers import create_session

    with DAG("snapshot_old", schedule=None) as dag:
        SendMessageBatchOperator(
            task_id="send",
            messages=["a"],
            results_path=str(tmp_path),
            max_tokens=10,
            wait_for_completion=True,
            deferrable=False,
        )
    bench.run(dag)
    with create_session() as session:
        stored_xcoms(session, dag_id="snapshot_old", key=SNAPSHOT_KEY).delete(synchronize_session=False)

    (submission,) = found("snapshot_old")
    assert submission.snapshot is None
    assert submission.manifest is not None
    assert submission.manifest.counts["succeeded"] == 1


def test_pages_and_days(bench: Workbench, tmp_path: Any) -> None:
    with DAG("snapshot_pages", schedule=None) as dag:
        for task_id in ("first", "second"):
            SendMessageBatchOperator(
                task_id=task_id,
                messages=["a"],
                results_path=str(tmp_path),
                max_tokens=10,
                wait_for_completion=True,
                deferrable=False,
            )
    bench.run(dag)

    newest, oldest = found("snapshot_pages")
    assert newest.pushed_at > oldest.pushed_at
    assert found("snapshot_pages", before=newest.pushed_at) == [oldest]
    assert oldest in found("snapshot_pages", day=oldest.pushed_at.date())
    assert found("snapshot_pages", day=oldest.pushed_at.date() - timedelta(days=1)) == []


def test_an_xcom_that_is_no_snapshot_is_told_once(
    bench: Workbench, tmp_path: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_claude_batch._airflow import submissions
    from airflow_claude_batch._airflow.servers import create_session

    monkeypatch.setattr(submissions, "_WARNED", [])
    with DAG("snapshot_elsewhere", schedule=None) as dag:
        SendMessageBatchOperator(task_id="send", messages=["a"], results_path=str(tmp_path), max_tokens=10)
    bench.run(dag)
    with create_session() as session:
        query = stored_xcoms(session, dag_id="snapshot_elsewhere", key=SNAPSHOT_KEY)
        query.update({"value": "s3://xcoms/1"}, synchronize_session=False)

    assert found("snapshot_elsewhere") == []
    assert found("snapshot_elsewhere") == []
    told = [record.getMessage() for record in caplog.records if record.name == submissions.__name__]
    assert len(told) == 1
    assert "of task send in DAG snapshot_elsewhere" in told[0]
