"""Change a ledger so that the next attempt lands the answers of a message batch. Pure functions.

Invariant: what is brought in is matched by the content of each request, never by its position. So the answers of
somebody else, or to requests that are not asked any more, never become rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part


class Standing(Enum):
    """What a ledger knows of a message batch."""

    LANDED = "its rows are in the results"
    EXPECTED = "the next attempt lands it"
    DISCARDED = "its answers are not used: its input was replaced, or it was found to be lost"
    INTENDED = "it is the batch of a create call without a response"
    UNKNOWN = "the ledger does not know it"


def standing_of(known: Ledger | None, batch_id: str, tokens: Collection[str] = ()) -> Standing:
    """Return what a ledger knows of a batch.

    :param known: None if there is no ledger.
    :param tokens: those that begin the batch's custom_ids.
    """
    if known is None:
        return Standing.UNKNOWN
    if batch_id in known.landed_batch_ids:
        return Standing.LANDED
    parts = [part for part in known.parts if part.batch_id == batch_id]
    if any(part.answers != AnswerUse.DISCARD for part in parts):
        return Standing.EXPECTED
    if parts or batch_id in known.dropped:
        return Standing.DISCARDED
    return Standing.INTENDED if _intent_of(known, tokens) else Standing.UNKNOWN


def with_adopted(known: Ledger, batch: MessageBatch, tokens: Collection[str], *, now: datetime) -> Ledger:
    """Return the ledger with a batch whose answers the next attempt lands, under a new owner.

    :param batch: it is not landed, and not expected yet; see :func:`standing_of`.
    :param tokens: those that begin its custom_ids.
    """
    intent = _intent_of(known, tokens)
    ledger = known.with_part(_part_of_intent(intent, batch) if intent else _new_part(known, batch, now))
    others = tuple(
        part for part in ledger.parts if not (part.batch_id == batch.id and part.answers == AnswerUse.DISCARD)
    )
    return msgspec.structs.replace(
        ledger,
        attempt=new_token(),
        try_number=0,  # no try of the task continues this attempt: the next one begins anew
        parts=others,
        dropped=tuple(id_ for id_ in known.dropped if id_ != batch.id),
        adopted=(*known.adopted_open, batch.id),
        created_at=min(at for at in (known.created_at, batch.created_at) if at is not None),
    )


def empty_ledger(submission_id: str, input_digest: str, now: datetime) -> Ledger:
    """Return a ledger for a submission whose own is lost.

    :param input_digest: identifies the requests. Empty if they are lost, too.
    """
    return Ledger(
        submission_id=submission_id,
        input_digest=input_digest,
        attempt=new_token(),
        attempt_began_at=now,
        try_number=0,
    )


def with_expected(known: Ledger, landed: Sequence[str], open_ids: Sequence[str], *, now: datetime) -> Ledger:
    """Return the ledger with batches whose rows are landed, and batches that are still to be landed."""
    parts = (_part(id_, known, count=0, now=now) for id_ in open_ids)
    archived = (*known.archived_batch_ids, *landed)
    return msgspec.structs.replace(known, parts=(*known.parts, *parts), archived_batch_ids=archived)


def _intent_of(known: Ledger, tokens: Collection[str]) -> Part | None:
    return next((part for part in known.intents if part.token in tokens), None)


def _part_of_intent(intent: Part, batch: MessageBatch) -> Part:
    """Give an intent its batch. The answers are used even if those of its input were to be discarded."""
    use = AnswerUse.PREVIOUS_INPUT if intent.answers == AnswerUse.DISCARD else intent.answers
    return msgspec.structs.replace(intent.with_batch(batch), answers=use)


def _new_part(known: Ledger, batch: MessageBatch, now: datetime) -> Part:
    part = _part(batch.id, known, count=batch.request_counts.total, now=now)
    return msgspec.structs.replace(part, created_at=batch.created_at, expires_at=batch.expires_at)


def _part(batch_id: str, known: Ledger, *, count: int, now: datetime) -> Part:
    """Return a part whose answers are matched by content. Its indices mean nothing."""
    return Part(
        token=new_token(),
        first=0,
        last=max(count - 1, 0),
        count=count,
        size=0,
        attempt=known.attempt,
        round=known.round,
        intended_at=now,
        batch_id=batch_id,
        answers=AnswerUse.PREVIOUS_INPUT,
    )
