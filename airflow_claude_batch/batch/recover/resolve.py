"""Resolve open create calls: intents in the ledger for which no batch is known.

Searches the workspace, asks ``decide``, and records the decision. Only here is an intent given a batch or removed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.batch.ledger.ledger import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.recover import search
from airflow_claude_batch.batch.recover.decide import Adopt, Candidate, LookAgain, Peek, Stop, decide
from airflow_claude_batch.exceptions import SubmissionUnknownError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenCreate:
    """A create call about which nothing can be decided yet.

    :param batch_ids: message batches that it may have become.
    :param until: when to search again, unless one of them ends before.
    """

    batch_ids: tuple[str, ...]
    until: datetime


def resolve_open_creates(
    record: LedgerRecord,
    client: ClaudeClient,
    policy: Policy,
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
    observer: Observer,
) -> OpenCreate | None:
    """Give every intent its batch, or remove it if it was not accepted. Return what must be waited for, if anything.

    :param deadline: longest wait for a batch that may be ours, by the worker's clock.
    :raises SubmissionUnknownError: the API cannot tell what happened, and ``on_lost`` is ``stop``.
    """
    for part in record.ledger.intents:
        open_create = _resolve(part, record, client, policy, clock=clock, deadline=deadline, observer=observer)
        if open_create is not None:
            return open_create
    return None


def _resolve(
    part: Part,
    record: LedgerRecord,
    client: ClaudeClient,
    policy: Policy,
    *,
    clock: Callable[[], datetime],
    deadline: datetime,
    observer: Observer,
) -> OpenCreate | None:
    record.check_ownership()
    listing = search.list_batches_since(client, part, clock=clock)
    decision = decide(part, listing.batches, known=record.ledger.batch_ids, now=listing.now)
    if isinstance(decision, Peek):
        candidates = _with_first_custom_ids(listing.batches, decision.batch_ids, client)
        decision = decide(part, candidates, known=record.ledger.batch_ids, now=listing.now)
    match decision:
        case Adopt(batch_id):
            record.add_batch(part, listing.by_id[batch_id])  # as listed: another call may get a 404 for a moment
            log.info("Found message batch %s of a create call that got no response. It is not sent again.", batch_id)
            observer.recovered("adopted")
        case LookAgain(batch_ids, until):
            # ``until`` is by the API's clock. The duration is the same by ours.
            search_at = deadline if until is None else clock() + (until - listing.now)
            _log_search(part, batch_ids)
            return OpenCreate(batch_ids, search_at)
        case Stop(batch_ids) if policy.on_lost == "stop":
            raise unknown_create_error(part, batch_ids)
        case _:
            record.save(record.ledger.without_part(part))
            log.info("A create call of %s was not accepted; it is sent again.", quantity(part.count, "request"))
            observer.recovered("sent_again")
    return None


def _with_first_custom_ids(
    candidates: tuple[Candidate, ...], batch_ids: tuple[str, ...], client: ClaudeClient
) -> tuple[Candidate, ...]:
    return tuple(
        dataclasses.replace(batch, first_custom_id=search.read_first_custom_id(client, batch.batch_id))
        if batch.batch_id in batch_ids
        else batch
        for batch in candidates
    )


def _log_search(part: Part, batch_ids: tuple[str, ...]) -> None:
    log.info(
        "A create call of %s, begun at %s, got no response. Message batches that it may have become: %s.",
        quantity(part.count, "request"),
        f"{part.intended_at:%Y-%m-%d %H:%M:%S} UTC",
        ", ".join(batch_ids) or "none is listed yet",
    )


def unknown_create_error(part: Part, batch_ids: tuple[str, ...] = ()) -> SubmissionUnknownError:
    """Build the error for a create call about which nothing can be decided any more.

    :param batch_ids: message batches that it may have become.
    """
    return SubmissionUnknownError(
        f"It is unknown whether the API accepted a create call of {quantity(part.count, 'request')}, begun at "
        f"{part.intended_at:%Y-%m-%d %H:%M:%S} UTC.",
        f"Message batches that it may have become: {', '.join(batch_ids) or 'none is listed'}. Its custom_ids begin "
        f"with {part.token}.",
        "If it was accepted, its batch runs and is billed. Nothing was sent again.",
        "Retry the task to search again. Or set on_lost='resend' to send these requests again and perhaps pay twice.",
    )
