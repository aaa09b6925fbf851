"""Decide the state of a submission from its snapshot and the state of its task instance. Pure functions.

The page in Airflow's UI and the command line both show it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from airflow_claude_batch.batch.land.manifest import DRY_RUN, Manifest
from airflow_claude_batch.batch.land.snapshot import PartState, Snapshot, SnapshotPart, SnapshotState
from airflow_claude_batch.batch.quantity import quantity

#: The API ends a message batch within this time.
LONGEST_BATCH: Final = timedelta(hours=24)

_OPEN: Final = (PartState.UNCONFIRMED, PartState.IN_PROGRESS)
_FAILED: Final = frozenset({"failed", "upstream_failed"})
_SKIPPED: Final = frozenset({"skipped", "removed"})
#: States of a task instance before it runs: the first time, after a deferral, or after a clear.
_BEFORE_RUN: Final = frozenset({None, "scheduled", "queued", "restarting"})


class State(StrEnum):
    """What a submission is doing. The values are stable: URLs and the command line's JSON have them."""

    #: The task reads, checks and sends requests, or lands answers.
    WORKING = "working"
    #: A person is asked whether the requests may be sent.
    APPROVAL = "approval"
    #: The task waits for message batches.
    RUNNING = "running"
    #: Everything is sent, and the task has ended: a sensor waits.
    SENT = "sent"
    #: Every request has its row, and the task has succeeded.
    ENDED = "ended"
    #: The task has failed, and no message batch runs.
    FAILED = "failed"
    #: The task was skipped, and no message batch runs.
    SKIPPED = "skipped"
    #: The task has ended while message batches still run and bill.
    STOPPED = "stopped"

    @property
    def label(self) -> str:
        """The state in words."""
        return "waiting for approval" if self is State.APPROVAL else str(self)


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a submission, and how many of its message batches have ended.

    The API counts requests once their batch has ended, so there is no finer progress than this.

    :param note: more about the state, such as ``to be tried again``. Empty if there is nothing to say.
    :param ended_batches: of ``batch_count``.
    :param is_live: the state may change although nobody does anything.
    """

    state: State
    note: str
    ended_batches: int
    batch_count: int
    is_live: bool

    @property
    def open_batches(self) -> int:
        return self.batch_count - self.ended_batches

    @property
    def detail(self) -> str:
        """How many message batches have ended, while that may change, and the note: ``1 of 3 batches ended``."""
        progress = f"{self.ended_batches:,} of {quantity(self.batch_count, 'batch')} ended"
        return "; ".join(filter(None, (progress if self.is_live and self.batch_count else "", self.note)))


def standing_of(
    snapshot: Snapshot | None, manifest: Manifest | None, task_state: str | None, now: datetime
) -> Standing:
    """Decide where a submission stands.

    Example::

        standing = standing_of(found.snapshot, found.manifest, found.state, now)
        print(standing.state.label, standing.detail)  # running 1 of 3 batches ended

    :param snapshot: None if a version before snapshots has run the task. Then the manifest counts.
    :param task_state: the state of the task instance in Airflow. None if it was cleared.
    :param now: aware. Message batches that were created long before it have ended.
    """
    if snapshot is not None:
        ended, count = _batches(snapshot, now)
        state, note = _state(snapshot, task_state, ended, count)
    else:
        ended, count = _batches_of_output(manifest)
        state, note = _state_of_output(manifest, task_state)
    live = state in (State.WORKING, State.APPROVAL, State.RUNNING) or (state is State.SENT and ended < count)
    return Standing(state, note, ended, count, live)


def is_open(part: SnapshotPart, now: datetime) -> bool:
    """Return True if a message batch may still run."""
    if part.state not in _OPEN:
        return False
    if part.expires_at is not None:
        return part.expires_at > now
    return part.created_at is None or now - part.created_at < LONGEST_BATCH


def _state(snapshot: Snapshot, task_state: str | None, ended: int, count: int) -> tuple[State, str]:
    reported = snapshot.state
    if task_state in _FAILED or task_state in _SKIPPED or task_state == "success":
        return _state_after_end(reported, task_state, ended, count)
    if task_state == "up_for_retry":
        return State.RUNNING if ended < count else State.WORKING, "to be tried again"
    if task_state in _BEFORE_RUN and (snapshot.failure or reported in (SnapshotState.ENDED, SnapshotState.SENT)):
        return State.WORKING, "cleared"
    if reported is SnapshotState.APPROVAL:
        return State.APPROVAL, ""
    return State.RUNNING if reported is SnapshotState.WAITING else State.WORKING, ""


def _state_after_end(reported: SnapshotState, task_state: str | None, ended: int, count: int) -> tuple[State, str]:
    """Decide the state of a submission whose task has ended."""
    if task_state == "success" and reported is SnapshotState.SENT:
        return (State.SENT, "") if count else (State.ENDED, "dry run")
    if ended < count and reported is not SnapshotState.ENDED:
        return State.STOPPED, f"{quantity(count - ended, 'batch')} may still run and bill"
    if task_state == "success":
        return State.ENDED, ""
    return (State.FAILED if task_state in _FAILED else State.SKIPPED), ""


def _state_of_output(manifest: Manifest | None, task_state: str | None) -> tuple[State, str]:
    """Decide the state from a task's output. Tasks that fail have none, and a clear removes it."""
    if manifest is None or task_state not in ("success", *_FAILED, *_SKIPPED):
        return State.WORKING, ""
    if manifest.status == DRY_RUN:
        return State.ENDED, "dry run"
    if manifest.status == "ended":
        return (State.FAILED if task_state in _FAILED else State.ENDED), ""
    return State.SENT, ""


def _batches(snapshot: Snapshot, now: datetime) -> tuple[int, int]:
    """Return how many message batches have ended, of how many.

    Those in progress are listed first. If all that are listed are in progress, more of them may be.
    """
    running = sum(is_open(part, now) for part in snapshot.parts)
    count = max(snapshot.part_count, len(snapshot.parts))
    ended = count - running if running < len(snapshot.parts) else min(snapshot.landed_parts, count - running)
    return ended, count


def _batches_of_output(manifest: Manifest | None) -> tuple[int, int]:
    if manifest is None:
        return 0, 0
    count = len(manifest.batch_ids)
    return (count if manifest.status == "ended" else min(len(manifest.landed_batch_ids), count)), count
