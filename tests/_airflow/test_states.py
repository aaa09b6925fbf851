"""The state of a submission: what its snapshot says beside what Airflow says of its task instance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from airflow_claude_batch._airflow.states import State, standing_of
from airflow_claude_batch.batch.land.manifest import read_manifest
from airflow_claude_batch.batch.land.snapshot import MAX_LISTED_PARTS, PartState, Snapshot, SnapshotPart, SnapshotState

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
RUNNING = SnapshotPart(state=PartState.IN_PROGRESS, batch_id="msgbatch_1", created_at=NOW - timedelta(hours=1))
LANDED = SnapshotPart(state=PartState.LANDED, batch_id="msgbatch_2")


def snapshot(state: SnapshotState, *parts: SnapshotPart, **fields: Any) -> Snapshot:
    values: dict[str, Any] = {"part_count": len(parts), "landed_parts": parts.count(LANDED), **fields}
    return Snapshot(
        submission_id="s",
        state=state,
        updated_at=NOW,
        conn_id="claude_default",
        root="/results",
        request_count=3,
        parts=list(parts),
        **values,
    )


@pytest.mark.parametrize(
    ("reported", "task_state", "parts", "state", "detail"),
    [
        ("working", "running", (), State.WORKING, ""),
        ("approval", "deferred", (), State.APPROVAL, ""),
        ("approval", "awaiting_input", (), State.APPROVAL, ""),
        ("waiting", "deferred", (RUNNING, LANDED), State.RUNNING, "1 of 2 batches ended"),
        ("waiting", "queued", (RUNNING,), State.RUNNING, "0 of 1 batch ended"),
        ("waiting", "up_for_reschedule", (RUNNING,), State.RUNNING, "0 of 1 batch ended"),
        ("waiting", "up_for_retry", (RUNNING,), State.RUNNING, "0 of 1 batch ended; to be tried again"),
        ("working", "up_for_retry", (), State.WORKING, "to be tried again"),
        ("sent", "success", (RUNNING,), State.SENT, "0 of 1 batch ended"),
        ("sent", "success", (), State.ENDED, "dry run"),
        ("ended", "success", (LANDED,), State.ENDED, ""),
        ("ended", "failed", (LANDED,), State.FAILED, ""),
        ("ended", None, (LANDED,), State.WORKING, "1 of 1 batch ended; cleared"),
        ("waiting", "failed", (RUNNING, LANDED), State.STOPPED, "1 batch may still run and bill"),
        ("waiting", "success", (RUNNING,), State.STOPPED, "1 batch may still run and bill"),
        ("waiting", "skipped", (LANDED,), State.SKIPPED, ""),
        ("approval", "skipped", (), State.SKIPPED, ""),
        ("working", "a state of a later Airflow", (), State.WORKING, ""),
    ],
)
def test_a_snapshot(
    reported: str, task_state: str | None, parts: tuple[SnapshotPart, ...], state: State, detail: str
) -> None:
    standing = standing_of(snapshot(SnapshotState(reported), *parts), None, task_state, NOW)
    assert (standing.state, standing.detail) == (state, detail)


def test_batches_that_were_created_a_day_ago_do_not_run_any_more() -> None:
    left = snapshot(SnapshotState.WAITING, RUNNING)
    assert standing_of(left, None, "failed", NOW + timedelta(hours=22)).state is State.STOPPED
    assert standing_of(left, None, "failed", NOW + timedelta(hours=24)).state is State.FAILED


def test_more_batches_than_are_listed() -> None:
    parts = [RUNNING] * MAX_LISTED_PARTS
    many = snapshot(SnapshotState.WAITING, *parts, part_count=500, landed_parts=40)
    standing = standing_of(many, None, "deferred", NOW)
    assert (standing.ended_batches, standing.batch_count, standing.open_batches) == (40, 500, 460)


def test_counts_of_a_snapshot_that_contradict_each_other() -> None:
    odd = snapshot(SnapshotState.WAITING, RUNNING, part_count=0, landed_parts=9)
    standing = standing_of(odd, None, "deferred", NOW)
    assert (standing.ended_batches, standing.batch_count) == (0, 1)


@pytest.mark.parametrize(
    ("status", "task_state", "state"),
    [
        ("ended", "success", State.ENDED),
        ("in_progress", "success", State.SENT),
        ("dry_run", "success", State.ENDED),
        ("ended", None, State.WORKING),
    ],
)
def test_the_output_of_a_version_before_snapshots(status: str, task_state: str | None, state: State) -> None:
    manifest = read_manifest(
        {
            "submission_id": "s",
            "status": status,
            "batch_ids": ["msgbatch_1"],
            "request_count": 1,
            "counts": {},
            "results_path": None,
        }
    )
    assert standing_of(None, manifest, task_state, NOW).state is state


def test_only_what_may_change_by_itself_is_live() -> None:
    live = {
        reported: standing_of(snapshot(SnapshotState(reported), *parts), None, task_state, NOW).is_live
        for reported, task_state, parts in (
            ("waiting", "deferred", (RUNNING,)),
            ("sent", "success", (RUNNING,)),
            ("ended", "success", (LANDED,)),
        )
    }
    assert live == {"waiting": True, "sent": True, "ended": False}
