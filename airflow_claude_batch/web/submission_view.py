"""What the page of a submission shows of its snapshot: parts, outcomes, bill. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from airflow_claude_batch._airflow.snapshot_values import Values, plausible_time, values_of
from airflow_claude_batch._airflow.states import LONGEST_BATCH, Standing, is_open, standing_of
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import count_statuses
from airflow_claude_batch.batch.land.snapshot import MAX_LISTED_PARTS, PartState, Snapshot, SnapshotPart
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.web.bill_view import Bill, EstimatedTokens, bill_of, estimated_tokens

_PART_STATES: Final = {
    PartState.UNCONFIRMED: "not confirmed",
    PartState.IN_PROGRESS: "running",
    PartState.ENDED: "ended",
    PartState.LANDED: "landed",
    PartState.DROPPED: "not used any more",
}
_MAX_TEXT: Final = 2_000


@dataclass(frozen=True, slots=True)
class ShownPart:
    """A message batch for people.

    :param state: in words.
    :param age: since it was created, while it runs.
    :param expires_in: until the API ends it, while it runs.
    """

    batch_id: str
    state: str
    requests: int | None
    created_at: datetime | None
    age: timedelta | None
    expires_in: timedelta | None
    is_open: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows with one status."""

    status: str
    count: int
    left: float
    width: float

    @property
    def words(self) -> str:
        return self.status.replace("_", " ")


@dataclass(frozen=True, slots=True)
class SubmissionView:
    """A submission for people.

    :param counts: rows by status, those that are landed so far if the submission runs.
    :param waiting_for: what the task waits for, in words.
    :param unlisted_parts: the number of message batches that the snapshot does not list.
    """

    found: FoundSubmission
    standing: Standing
    values: Values
    parts: Sequence[ShownPart]
    unlisted_parts: int
    counts: Mapping[str, int]
    outcomes: Sequence[Outcome]
    bill: Bill
    estimated: EstimatedTokens
    now: datetime

    @property
    def snapshot(self) -> Snapshot | None:
        return self.found.snapshot

    @property
    def landed(self) -> int:
        """The number of rows that are landed."""
        return sum(self.counts.values())

    @property
    def failed(self) -> int:
        return self.landed - self.counts.get("succeeded", 0)

    @property
    def age(self) -> timedelta | None:
        """The time since the first batch was created, up to the end."""
        created_at, ended_at = self.values.created_at, self.values.ended_at
        if created_at is None:
            return None
        return max((ended_at or self.now) - created_at, timedelta(0))

    @property
    def expires_in(self) -> timedelta | None:
        """The time until the last open batch expires."""
        return max((part.expires_in for part in self.parts if part.expires_in is not None), default=None)

    @property
    def waiting_for(self) -> str:
        return ((self.snapshot and self.snapshot.reason) or "")[:_MAX_TEXT] if self.standing.is_live else ""

    @property
    def failure(self) -> str:
        """The first line of the error with which the last attempt has ended."""
        return ((self.snapshot and self.snapshot.failure) or "")[:_MAX_TEXT]


def view_of(
    found: FoundSubmission,
    now: datetime,
    *,
    landed: bytes = b"",
    prices: PriceTable | None = None,
    collected: FoundSubmission | None = None,
) -> SubmissionView:
    """Return what the page shows of a submission.

    :param now: aware.
    :param landed: the statuses of the rows that are landed while the submission runs, a byte each.
    :param prices: to tell the cost of each kind of token.
    :param collected: the task that has collected the answers for this one. Outcomes and bill are in its snapshot.
    """
    known = found if collected is None else collected
    values = values_of(known.snapshot, known.manifest)
    source = known.snapshot if known.snapshot is not None else known.manifest
    counts = values.counts or {status: count for status, count in _landed(landed).items() if count}
    parts = _parts(known, now)
    part_count = known.snapshot.part_count if known.snapshot is not None else len(parts)
    return SubmissionView(
        found=found,
        standing=standing_of(found.snapshot, found.manifest, found.state, now),
        values=values,
        parts=parts,
        unlisted_parts=max(part_count - len(parts), 0),
        counts=counts,
        outcomes=outcomes_of(counts, max(values.request_count, sum(counts.values()))),
        bill=bill_of(source.by_model if source is not None else {}, prices),
        estimated=estimated_tokens(source.estimate if source is not None else None),
        now=now,
    )


def outcomes_of(counts: Mapping[str, int], total: int) -> list[Outcome]:
    """Return the segments of a bar of outcomes, in percent.

    :param total: of rows, those that are not landed included.
    """
    outcomes, left = list[Outcome](), 0.0
    for status, count in counts.items():
        width = 100 * count / total if total else 0.0
        outcomes.append(Outcome(status, count, round(left, 3), round(width, 3)))
        left += width
    return outcomes


def _landed(statuses: bytes) -> dict[str, int]:
    counts = count_statuses(statuses)
    return {**counts, "missing": 0}


def _parts(found: FoundSubmission, now: datetime) -> list[ShownPart]:
    if found.snapshot is not None:
        return [_part(part, now) for part in found.snapshot.parts[:MAX_LISTED_PARTS]]
    return [] if found.manifest is None else _parts_of_manifest(found.manifest)


def _part(part: SnapshotPart, now: datetime) -> ShownPart:
    runs = is_open(part, now)
    created_at, expires_at = plausible_time(part.created_at), plausible_time(part.expires_at)
    if expires_at is None and created_at is not None:
        expires_at = created_at + LONGEST_BATCH
    state = _PART_STATES[part.state]
    return ShownPart(
        batch_id=(part.batch_id or "")[:200],
        state="past its 24 h" if part.state is PartState.IN_PROGRESS and not runs else state,
        requests=part.requests,
        created_at=created_at,
        age=max(now - created_at, timedelta(0)) if runs and created_at is not None else None,
        expires_in=max(expires_at - now, timedelta(0)) if runs and expires_at is not None else None,
        is_open=runs,
    )


def _parts_of_manifest(manifest: Manifest) -> list[ShownPart]:
    """Return the batches of a manifest of an earlier version, which knows no more than which have landed."""
    counts: Any = manifest.batch_request_counts or {}
    landed = set(manifest.landed_batch_ids)
    return [
        ShownPart(id_[:200], "landed" if id_ in landed else "sent", counts.get(id_), None, None, None, is_open=False)
        for id_ in manifest.batch_ids[:MAX_LISTED_PARTS]
    ]
