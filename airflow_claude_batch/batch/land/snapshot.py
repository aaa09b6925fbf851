"""A snapshot of a submission: where it stands at one moment, small enough for XCom.

Airflow's UI and the command line show it. It has no prompts and no answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.wire import MessageBatch, Timestamp
from airflow_claude_batch.batch.land.manifest import Count, Manifest
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import Part

#: How many message batches a snapshot lists: about 30 kB. A submission has one for each 100,000 requests.
MAX_LISTED_PARTS: Final = 200
SCHEMA_VERSION: Final = 1


class SnapshotState(StrEnum):
    """What a task instance was doing for its submission when the snapshot was taken."""

    #: It reads, checks and sends requests, or lands answers.
    WORKING = "working"
    #: A person is asked whether the requests may be sent.
    APPROVAL = "approval"
    #: It waits for message batches, or for the API.
    WAITING = "waiting"
    #: It has sent everything, and leaves the waiting to a sensor.
    SENT = "sent"
    #: Every request has its row.
    ENDED = "ended"


class PartState(StrEnum):
    """What is known of a message batch."""

    #: The response to its create call is missing, so its id is not known yet.
    UNCONFIRMED = "unconfirmed"
    IN_PROGRESS = "in_progress"
    #: It has ended, and its rows are not in the results yet.
    ENDED = "ended"
    #: It has ended, and its rows are in the results.
    LANDED = "landed"
    #: Its answers are not expected any more.
    DROPPED = "dropped"


class SnapshotPart(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message batch of a submission."""

    state: PartState
    batch_id: str | None = None
    #: Number of its requests, None if that is not known.
    requests: Count | None = None
    created_at: Timestamp | None = None
    expires_at: Timestamp | None = None


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a submission stands.

    Example::

        {"submission_id": "5f0c…", "state": "waiting", "request_count": 332, "part_count": 1, "landed_parts": 0,
         "parts": [{"state": "in_progress", "batch_id": "msgbatch_01…", "requests": 332, …}], …}
    """

    submission_id: str
    state: SnapshotState
    updated_at: Timestamp
    conn_id: str
    #: Path or URI of the folder above all submissions, and the names below it. None if the names cannot be told.
    root: str
    place: Place | None = None
    request_count: Count
    #: All message batches, how many of these are landed, and the first of them: those in progress come first.
    part_count: Count = 0
    landed_parts: Count = 0
    parts: list[SnapshotPart] = []
    #: When the first batch was created, and when the last one ended.
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    #: What the task waits for, in words.
    reason: str | None = None
    #: How long earlier batches of the task took: shortest and longest in seconds, and how many they were.
    usual: tuple[float, float, int] | None = None
    #: The fields of the manifest with these names. ``counts`` and those after it are there once the task has ended.
    estimate: dict[str, Any] | None = None
    approval: dict[str, Any] | None = None
    counts: dict[str, int] = {}
    by_model: dict[str, Any] = {}
    cost: dict[str, Any] | None = None
    reused: dict[str, Any] | None = None
    direct: dict[str, Any] | None = None
    #: First line of the error with which the attempt ended.
    failure: str | None = None
    schema_version: int = SCHEMA_VERSION

    def to_xcom(self) -> dict[str, Any]:
        """Return the snapshot as a dict of JSON values."""
        values: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return values


def read_snapshot(value: Any) -> Snapshot | None:
    """Read a snapshot that came by XCom, of any version. None if the value is none."""
    try:
        return msgspec.convert(value, Snapshot)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError, SystemError):
        return None  # the last one is what older versions of msgspec raise of an int that is no float


def parts_of(ledger: Ledger) -> list[SnapshotPart]:
    """Return the message batches of a submission: those in progress first."""
    return sorted(_parts(ledger), key=lambda part: part.state not in (PartState.UNCONFIRMED, PartState.IN_PROGRESS))


def parts_of_batches(
    batch_ids: Iterable[str],
    running: Collection[str],
    landed: Collection[str],
    batches: Mapping[str, MessageBatch],
    requests: Mapping[str, int],
) -> list[SnapshotPart]:
    """Return the message batches that a sensor waits for: those in progress first.

    :param batches: those that were polled, as the API describes them.
    :param requests: the number of requests of each batch, as its sender wrote it.
    """

    def state_of(id_: str) -> PartState:
        if id_ in landed:
            return PartState.LANDED
        return PartState.IN_PROGRESS if id_ in running else PartState.ENDED

    def part_of(id_: str) -> SnapshotPart:
        part = SnapshotPart(state=state_of(id_), batch_id=id_, requests=requests.get(id_))
        if (batch := batches.get(id_)) is None:
            return part
        return msgspec.structs.replace(
            part,
            requests=part.requests or batch.request_counts.total,
            created_at=batch.created_at,
            expires_at=batch.expires_at,
        )

    parts = [part_of(id_) for id_ in batch_ids]
    return sorted(parts, key=lambda part: part.state is not PartState.IN_PROGRESS)


def with_parts(snapshot: Snapshot, parts: list[SnapshotPart]) -> Snapshot:
    """Return the snapshot with these message batches. It counts all, and lists the first ``MAX_LISTED_PARTS``."""
    landed = sum(part.state is PartState.LANDED for part in parts)
    return msgspec.structs.replace(snapshot, part_count=len(parts), landed_parts=landed, parts=parts[:MAX_LISTED_PARTS])


def with_manifest(snapshot: Snapshot, manifest: Manifest) -> Snapshot:
    """Return the snapshot at the end of an attempt."""
    ended = manifest.status == "ended"
    return msgspec.structs.replace(
        snapshot,
        state=SnapshotState.ENDED if ended else SnapshotState.SENT,
        request_count=manifest.request_count,
        created_at=manifest.created_at,
        ended_at=manifest.ended_at,
        estimate=manifest.estimate,
        approval=manifest.approval or None,
        counts=manifest.counts,
        by_model=manifest.by_model,
        cost=manifest.cost,
        reused=manifest.reused or None,
        direct=manifest.direct or None,
    )


def _parts(ledger: Ledger) -> Iterator[SnapshotPart]:
    for part in ledger.parts:
        yield SnapshotPart(
            state=_state_of(part),
            batch_id=part.batch_id,
            requests=part.count,
            created_at=part.created_at,
            expires_at=part.expires_at,
        )
    for state, ids in ((PartState.LANDED, ledger.archived_batch_ids), (PartState.DROPPED, ledger.dropped)):
        for id_ in ids:
            yield SnapshotPart(state=state, batch_id=id_, requests=ledger.request_count(id_))


def _state_of(part: Part) -> PartState:
    if part.is_intent:
        return PartState.UNCONFIRMED
    return PartState.LANDED if part.landed else PartState.IN_PROGRESS
