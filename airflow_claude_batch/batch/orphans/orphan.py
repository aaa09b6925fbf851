"""Decide what an unknown message batch is. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.input.custom_id import is_like_ours
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.orphans.inspect import Inspection
from airflow_claude_batch.batch.orphans.known import KnownBatches
from airflow_claude_batch.batch.recover.clocks import CLOCK_TOLERANCE

#: A task may not have recorded a batch yet that is this young.
YOUNG: Final = timedelta(minutes=15)


class Sender(StrEnum):
    """Who has sent a batch that no submission knows. The values are those of ``-o json``."""

    #: This package: perhaps another Airflow, or a task whose ledger is lost.
    OURS = "ours"
    #: A create call of a task of this Airflow. A retry of the task finds the batch by itself.
    OPEN_CREATE = "open_create"
    #: Another program: its custom_ids have another form.
    STRANGER = "stranger"
    #: Nobody can tell before it has ended.
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A message batch that no ledger, manifest or snapshot of this Airflow names.

    :param owner: the task instance whose create call it may be of, or whose part has the same token.
    :param usd: what its answers cost, so far as they are read. 0 if none was answered. None if that is not known.
    :param is_exact: False if the cost is projected from the first answers.
    :param problem: why its results could not be read.
    :param is_young: a task may be about to record it.
    """

    batch: MessageBatch
    sender: Sender
    owner: str | None = None
    usd: str | None = None
    is_exact: bool = True
    problem: str | None = None
    is_young: bool = False


def judge(batch: MessageBatch, inspection: Inspection | None, known: KnownBatches, *, now: datetime) -> Orphan:
    """Tell what an unknown batch is.

    :param inspection: what its first results say. None if it has not ended, or was not read.
    """
    sender, owner = _sender(batch, inspection, known)
    usd, is_exact = _usd(batch, inspection)
    return Orphan(
        batch=batch,
        sender=sender,
        owner=owner,
        usd=usd,
        is_exact=is_exact,
        problem=inspection.problem if inspection else None,
        is_young=now - batch.created_at < YOUNG,
    )


def _sender(batch: MessageBatch, inspection: Inspection | None, known: KnownBatches) -> tuple[Sender, str | None]:
    if inspection is not None and inspection.token is not None:
        if (owner := known.tokens.get(inspection.token)) is None:
            return Sender.OURS, None
        is_open = any(create.token == inspection.token for create in known.open_creates)
        return (Sender.OPEN_CREATE if is_open else Sender.OURS), owner
    if inspection is not None and inspection.custom_id is not None:
        return (Sender.OURS if is_like_ours(inspection.custom_id) else Sender.STRANGER), None
    for create in known.open_creates:
        is_later = batch.created_at >= create.intended_at - CLOCK_TOLERANCE
        if is_later and batch.request_counts.total == create.count:
            return Sender.UNKNOWN, create.owner
    return Sender.UNKNOWN, None


def _usd(batch: MessageBatch, inspection: Inspection | None) -> tuple[str | None, bool]:
    if batch.ended and not batch.request_counts.succeeded and batch.request_counts.total:
        return "0", True
    if inspection is None or inspection.usd is None:
        return None, False
    return exact_usd(inspection.usd), inspection.is_exact
