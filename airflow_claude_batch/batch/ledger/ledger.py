"""Durable record of a submission: what was about to be sent, what was sent, what came back.

Two invariants, each worth money:

* Intent before money. A part is written without a batch id (an *intent*) before its create call. The batch id is
  written before anything else happens after the response. Whatever dies in between leaves a trace to search by.
* A ledger that cannot be read, or that a newer release wrote, stops the task. It never counts as "no ledger".

The ledger holds no requests and no answers: a few hundred bytes a part.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from airflow_claude_batch.api.evidence import has_lasted
from airflow_claude_batch.api.wire import BatchId, Timestamp, check_year
from airflow_claude_batch.batch.ledger.approval import Approval, ApprovalState
from airflow_claude_batch.batch.ledger.count import Count
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.ledger.unread_batch import UnreadBatch

#: The rules of ``batch.input.precedence``.
PRECEDENCE = 2
VERSION = 1


class RepeatedAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer that is believed only if it lasts, such as a 404. It is stored, so that a deferral loses no count."""

    #: The call and its object, such as ``results of msgbatch_…``.
    call: str
    #: When the answer came first, by the worker's clock, and how often it came since, without another one in between.
    since: Timestamp
    count: Count = 1

    def has_lasted(self, now: datetime) -> bool:
        """Return whether the answer came often and long enough to be believed.

        :param now: the worker's clock.
        """
        return has_lasted(self.count, now - self.since)


class DirectRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the submission asks through the Messages API, because its timeout is near."""

    #: When that began. None if the attempt that began it has ended as it should.
    began_at: Timestamp | None = None
    #: Attempts whose journals count.
    attempts: tuple[str, ...] = ()
    #: custom_ids of requests that were in flight when a process ended. They may have been answered and paid for without
    #: anybody having the answer, and are asked again.
    unseen: tuple[str, ...] = ()
    #: Indices of requests whose response this attempt has lost. It does not ask them again.
    lost: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.began_at is not None:
            check_year(self.began_at)


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """State of a submission. Immutable: a change makes a new ledger, which is saved before anybody acts on it."""

    submission_id: str
    #: Identifies keys, contents and order of the requests that the parts' indices refer to.
    input_digest: str
    #: Attempt that owns the submission now. An attempt that finds another name here stops.
    attempt: str
    #: When this attempt began. Its timeout counts from here.
    attempt_began_at: Timestamp
    #: Airflow's try number of this attempt. It tells a resumed try from a new one.
    try_number: int = 1
    #: Number that grows with most clears of the task, but not with its retries.
    generation: int = 0
    #: Current round of this attempt: 0, then one more for each repair round.
    round: int = 0
    parts: tuple[Part, ...] = ()
    #: Landed batches whose parts are no longer kept. Stored as "settled".
    archived_batch_ids: tuple[BatchId, ...] = msgspec.field(default=(), name="settled")
    #: Batches whose answers are not expected any more: lost, or made for an input that was replaced.
    dropped: tuple[BatchId, ...] = ()
    #: This attempt has passed its timeout and has asked the API to cancel the open batches.
    timed_out: bool = False
    #: When it asked. Not stored before that.
    canceled_at: Timestamp | msgspec.UnsetType = msgspec.UNSET
    #: Creation of the first batch and end of the last one, by the API's clock.
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    #: Estimate made before the first create call, as the manifest shows it.
    estimate: dict[str, Any] | None = None
    #: The first estimate of an earlier attempt at the same requests. Not stored if there is none.
    earlier_estimate: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    #: What changes with every clear, but not with a retry: kind, space, value. Some versions of Airflow have none.
    clear_mark: str | msgspec.UnsetType = msgspec.UNSET
    #: The rules of precedence that all requests were built by. Not stored by versions before these rules.
    precedence: Count | msgspec.UnsetType = msgspec.UNSET
    #: Answers to this attempt's calls that are not believed yet. Not stored while there are none.
    repeated: tuple[RepeatedAnswer, ...] | msgspec.UnsetType = msgspec.UNSET
    #: Batches whose results could not be read whole so far. Not stored while there are none.
    unread_batches: tuple[UnreadBatch, ...] | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="unread")
    #: Number of requests in archived batches. Not stored while there are none.
    archived_counts: dict[BatchId, Count] | msgspec.UnsetType = msgspec.UNSET
    #: Batches that this task has deleted at the API. Not stored while there are none.
    deleted: tuple[BatchId, ...] | msgspec.UnsetType = msgspec.UNSET
    #: The question whether the requests may be sent, and its answer. Not stored if nobody has to be asked.
    approval: Approval | msgspec.UnsetType = msgspec.UNSET
    #: This attempt has looked its requests up in the answer store. Not stored before that.
    answers_looked_up: bool | msgspec.UnsetType = msgspec.UNSET
    #: Batches that a person has brought in: the next attempt lands their answers, whatever ``reuse_answers`` says. Not
    #: stored if there are none.
    adopted: tuple[BatchId, ...] | msgspec.UnsetType = msgspec.UNSET
    #: What is asked through the Messages API. Not stored if nothing was.
    direct: DirectRecord | msgspec.UnsetType = msgspec.UNSET
    version: int = VERSION

    def __post_init__(self) -> None:
        check_year(self.attempt_began_at)

    @property
    def first_estimate(self) -> dict[str, Any] | None:
        """The estimate that was made before anything was sent."""
        return self.earlier_estimate or self.estimate

    @property
    def has_sent(self) -> bool:
        """True if this attempt has sent requests that are not archived yet."""
        return any(part.attempt == self.attempt for part in self.parts)

    @property
    def asks_directly(self) -> bool:
        """True once requests are asked through the Messages API. Then nothing more is sent in message batches."""
        return bool(self.direct and self.direct.began_at)

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
    def adopted_open(self) -> tuple[str, ...]:
        """Batches that a person has brought in, and whose answers are not landed yet."""
        return tuple(id_ for id_ in self.adopted or () if id_ in self.open_batch_ids)

    @property
    def landed_batch_ids(self) -> frozenset[str]:
        """Batches whose rows are published."""
        return frozenset(self.archived_batch_ids).union(
            part.batch_id for part in self.parts if part.landed and part.batch_id
        )

    @property
    def closed_batch_ids(self) -> frozenset[str]:
        """Batches that need no waiting: landed or dropped."""
        return self.landed_batch_ids.union(self.dropped)

    @property
    def batch_ids(self) -> tuple[str, ...]:
        """Every batch that was ever created for this submission."""
        return self.dropped + self.archived_batch_ids + tuple(part.batch_id for part in self.parts if part.batch_id)

    def request_count(self, batch_id: str) -> int | None:
        """Return how many requests a batch has, None if that is not known."""
        parts = (part.count for part in self.parts if part.batch_id == batch_id and part.count)
        return next(parts, None) or (self.archived_counts or {}).get(batch_id)

    def indices_of(self, batch_id: str) -> Sequence[int]:
        """Return the requests that may be in a batch. Empty if they are not indices of this input."""
        parts = (part for part in self.parts if part.batch_id == batch_id and part.answers == AnswerUse.CURRENT)
        return next((part.indices for part in parts), range(0))

    @property
    def sample_part(self) -> Part | None:
        """The part of the sample whose end is not noted yet, None if there is none."""
        if self.approval:
            return None
        return next((part for part in self.parts if part.sample and part.answers == AnswerUse.CURRENT), None)

    def with_sample_ended(self) -> Ledger:
        """Note that the sample has ended, if there is one that is landed. Then the rest is asked for."""
        part = self.sample_part
        if part is None or not part.landed:
            return self
        approval = Approval(input=self.input_digest, state=ApprovalState.SAMPLED, sampled=part.count)
        return msgspec.structs.replace(self, approval=approval)

    @property
    def unread(self) -> tuple[UnreadBatch, ...]:
        """Batches whose results could not be read whole so far."""
        return self.unread_batches or ()

    def with_unread(self, batches: Iterable[UnreadBatch]) -> Ledger:
        """Replace the batches whose results could not be read whole."""
        return msgspec.structs.replace(self, unread_batches=tuple(batches) or msgspec.UNSET)

    def with_part(self, part: Part) -> Ledger:
        """Add a part, or replace the one with the same token."""
        if any(other.token == part.token for other in self.parts):
            parts = tuple(part if other.token == part.token else other for other in self.parts)
        else:
            parts = (*self.parts, part)
        return msgspec.structs.replace(self, parts=parts)

    def without_part(self, part: Part) -> Ledger:
        """Remove an intent that did not become a batch."""
        return msgspec.structs.replace(self, parts=tuple(other for other in self.parts if other.token != part.token))

    def with_landed(
        self, batch_ids: Collection[str], ended_at: datetime | None, *, missing: Mapping[str, int] | None = None
    ) -> Ledger:
        """Mark the parts of these batches as landed.

        :param ended_at: when the last of them ended, None if unknown.
        :param missing: number of requests without a row, by batch. They are not sent again.
        """
        counts = missing or {}
        parts = tuple(
            msgspec.structs.replace(part, landed=True, missing=counts.get(part.batch_id or "", part.missing))
            if part.batch_id in batch_ids
            else part
            for part in self.parts
        )
        last_end = max((at for at in (self.ended_at, ended_at) if at is not None), default=None)
        return msgspec.structs.replace(self, parts=parts, ended_at=last_end)

    def without_batch(self, batch_id: str) -> Ledger:
        """Move a batch from the parts to ``dropped``: no answers of it are expected any more."""
        parts = tuple(part for part in self.parts if part.batch_id != batch_id)
        unread = (batch for batch in self.unread if batch.batch_id != batch_id)
        return msgspec.structs.replace(self, parts=parts, dropped=(*self.dropped, batch_id)).with_unread(unread)

    def repeated_answer(self, call: str) -> RepeatedAnswer | None:
        """Return how often the call got its answer that is not believed yet. None if it got another one last."""
        return next((answer for answer in self.repeated or () if answer.call == call), None)

    def with_repeated(self, call: str, now: datetime) -> Ledger:
        """Count one more answer to the call that is believed only if it lasts.

        :param now: the worker's clock.
        """
        known = self.repeated_answer(call)
        count, since = (known.count + 1, min(known.since, now)) if known else (1, now)
        answer = RepeatedAnswer(call=call, since=since, count=count)
        return msgspec.structs.replace(self, repeated=(*self._repeated_others(call), answer))

    def without_repeated(self, call: str) -> Ledger:
        """Forget such answers to the call, because it got another one."""
        if self.repeated_answer(call) is None:
            return self
        return msgspec.structs.replace(self, repeated=self._repeated_others(call) or msgspec.UNSET)

    def _repeated_others(self, call: str) -> tuple[RepeatedAnswer, ...]:
        return tuple(answer for answer in self.repeated or () if answer.call != call)

    def archive_landed(self, *, keep_missing: bool = True) -> Ledger:
        """Keep only the batch ids of landed parts. Their rows tell the rest.

        :param keep_missing: keep parts with missing rows. Their requests without a row are not sent again.
        """

        def is_kept(part: Part) -> bool:
            return not part.landed or (keep_missing and part.missing > 0)

        landed = {part.batch_id: part.count for part in self.parts if part.batch_id and not is_kept(part)}
        counts = {id_: count for id_, count in landed.items() if count}
        return msgspec.structs.replace(
            self,
            parts=tuple(part for part in self.parts if is_kept(part)),
            archived_batch_ids=(*self.archived_batch_ids, *landed),
            archived_counts={**(self.archived_counts or {}), **counts} or msgspec.UNSET,
        )


def new_token() -> str:
    """Return a unique name for a part or an attempt: 12 random hexadecimal digits."""
    return secrets.token_hex(6)
