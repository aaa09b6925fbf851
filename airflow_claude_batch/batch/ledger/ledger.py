"""The durable record of a submission: what was meant to be sent, what was sent, what came back.

Two invariants, each worth money:

* An intent (a part without a batch id) is written before its create call and the batch id before
  anything else happens after the answer. Whatever dies in between leaves a trace to search by.
* A ledger that cannot be read, or comes from a newer version, stops the task. It is never "no ledger".

The ledger holds no requests and no answers: a few hundred bytes a part.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from airflow_claude_batch.api.wire import BatchId, Timestamp, check_year

VERSION = 1

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class AnswerUse(StrEnum):
    """What the answers of a part are good for. The values are the stored ones."""

    #: The part was made from the current input.
    CURRENT = "ours"
    #: The part was made from an earlier input: its indices are not those of the current one.
    PREVIOUS_INPUT = "moved"
    #: The answers are not used at all.
    DISCARD = "unwanted"


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests of one create call: those between ``first`` and ``last`` that had no final answer then."""

    #: Starts every custom_id of the part: what tells our batch from anybody else's.
    token: str
    #: Indices of the first and the last request, and how many they are (not all between need be in it).
    first: Count
    last: Count
    count: Count
    #: Bytes of the create call's body.
    size: Count
    #: The attempt and the round of it that made the part.
    attempt: str
    round: Count
    #: When the intent was written, by the API's clock where it told it.
    intended_at: Timestamp
    #: Newest batch of the workspace at that moment, and when that was made; None in an empty workspace.
    watermark: BatchId | None = None
    watermark_at: Timestamp | None = None
    #: None while this is only an intent.
    batch_id: BatchId | None = None
    created_at: Timestamp | None = None
    expires_at: Timestamp | None = None
    #: The answers are in the landed results.
    landed: bool = False
    #: What the answers of the part are good for.
    answers: AnswerUse = AnswerUse.CURRENT

    def __post_init__(self) -> None:
        if not self.first <= self.last or self.count > self.last - self.first + 1:
            raise ValueError("a part has other requests than it counts")
        check_year(self.intended_at)

    @property
    def is_intent(self) -> bool:
        return self.batch_id is None

    @property
    def is_open(self) -> bool:
        return self.batch_id is not None and not self.landed


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """A submission so far. Frozen: a change is a new ledger, saved before it is acted upon."""

    submission_id: str
    #: Identifies keys, contents and order of the requests that the parts' indices refer to.
    input_digest: str
    #: The attempt that owns the submission now. Another one that finds a stranger's name here stops.
    attempt: str
    #: When this attempt began; its timeout counts from here.
    attempt_began_at: Timestamp
    #: Airflow's number of the try that this attempt is: tells a resumed try from a new one.
    try_number: int = 1
    #: Grows with every clear of the task, not with its retries.
    generation: int = 0
    #: Repair rounds begun in this attempt.
    round: int = 0
    parts: tuple[Part, ...] = ()
    #: Batches whose answers are landed and whose parts are forgotten.
    archived_batch_ids: tuple[BatchId, ...] = msgspec.field(default=(), name="settled")
    #: Batches of which no answer is expected any more: lost, or made for what is not wanted now.
    dropped: tuple[BatchId, ...] = ()
    #: This attempt ran out of time and asked for the cancellation of what was open.
    timed_out: bool = False
    #: First create and last ending of the submission's batches, by the API's clock.
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    #: What the submission was estimated to cost before its first create, as the manifest shows it.
    estimate: dict[str, Any] | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        check_year(self.attempt_began_at)

    @property
    def intents(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_intent)

    @property
    def open_parts(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_open)

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        return tuple(part.batch_id for part in self.parts if part.batch_id and not part.landed)

    @property
    def landed_batch_ids(self) -> frozenset[str]:
        """Those whose answers are in the landed rows."""
        return frozenset(self.archived_batch_ids).union(
            part.batch_id for part in self.parts if part.landed and part.batch_id
        )

    @property
    def closed_batch_ids(self) -> frozenset[str]:
        """Those that nobody need wait for."""
        return self.landed_batch_ids.union(self.dropped)

    @property
    def batch_ids(self) -> tuple[str, ...]:
        """Every batch that was made for this submission, whether its answers are wanted or not."""
        return self.dropped + self.archived_batch_ids + tuple(part.batch_id for part in self.parts if part.batch_id)

    def with_part(self, part: Part) -> Ledger:
        """Add a part, or put it in the place of the one with its token."""
        if any(known.token == part.token for known in self.parts):
            parts = tuple(part if known.token == part.token else known for known in self.parts)
        else:
            parts = (*self.parts, part)
        return msgspec.structs.replace(self, parts=parts)

    def without_part(self, part: Part) -> Ledger:
        """Forget an intent that is known not to have become a batch."""
        return msgspec.structs.replace(self, parts=tuple(known for known in self.parts if known.token != part.token))

    def with_landed(self, batch_ids: Collection[str], ended_at: datetime | None) -> Ledger:
        """Mark the parts whose answers are in the landed results."""
        parts = tuple(
            msgspec.structs.replace(part, landed=True) if part.batch_id in batch_ids else part for part in self.parts
        )
        last = max((at for at in (self.ended_at, ended_at) if at is not None), default=None)
        return msgspec.structs.replace(self, parts=parts, ended_at=last)

    def without_batch(self, batch_id: str) -> Ledger:
        """Expect no answers of this batch any more; it stays in the list of batches."""
        parts = tuple(part for part in self.parts if part.batch_id != batch_id)
        return msgspec.structs.replace(self, parts=parts, dropped=(*self.dropped, batch_id))

    def archive_landed(self) -> Ledger:
        """Keep only the batch ids of landed parts: their rows speak for themselves."""
        landed = tuple(part.batch_id for part in self.parts if part.landed and part.batch_id)
        rest = tuple(part for part in self.parts if not part.landed)
        return msgspec.structs.replace(self, parts=rest, archived_batch_ids=self.archived_batch_ids + landed)


def new_token() -> str:
    """A name for a part or an attempt that nothing else in the workspace has: 12 hexadecimal digits."""
    return secrets.token_hex(6)
