"""Settling an intent: a create that was begun and of which nobody here knows the end."""

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
from airflow_claude_batch.batch.recover import search
from airflow_claude_batch.batch.recover.decide import Adopt, Candidate, LookAgain, Peek, Stop, decide
from airflow_claude_batch.exceptions import SubmissionUnknownError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OpenCreate:
    """A create call whose outcome is not known yet.

    ``batch_ids``: message batches that it may have become; look again when one of them has ended, or at ``until``.
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
    """Give every intent its batch, or forget it as never arrived; None when that is done.

    :raises SubmissionUnknownError: the API gives no way to know, and the author did not say to send again.
    """
    for part in record.ledger.intents:
        wait = _settle(part, record, client, policy, clock=clock, deadline=deadline, observer=observer)
        if wait is not None:
            return wait
    return None


def _settle(
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
    candidates = listing.batches
    decision = decide(part, candidates, known=record.ledger.batch_ids, now=listing.now)
    if isinstance(decision, Peek):
        candidates = _peeked(candidates, decision.batch_ids, client)
        decision = decide(part, candidates, known=record.ledger.batch_ids, now=listing.now)
    match decision:
        case Adopt(batch_id):
            log.info("Found the batch of a create whose answer was lost: %s", batch_id)
            record.add_batch(part, listing.found[batch_id])  # as listed: a look-up may meet a blip
            observer.recovered("adopted")
        case LookAgain(batch_ids, until):
            # ``until`` is by the API's clock; a duration carries it over to ours.
            ours = deadline if until is None else clock() + (until - listing.now)
            _log_wait(part, batch_ids)
            return OpenCreate(batch_ids, ours)
        case Stop(batch_ids) if policy.on_lost == "stop":
            raise SubmissionUnknownError(_unknown(part, batch_ids))
        case _:
            log.info("A create of %d requests never arrived; they may be sent", part.count)
            record.save(record.ledger.without_part(part))
            observer.recovered("sent_again")
    return None


def _peeked(
    candidates: tuple[Candidate, ...], batch_ids: tuple[str, ...], client: ClaudeClient
) -> tuple[Candidate, ...]:
    return tuple(
        dataclasses.replace(batch, first_custom_id=search.first_custom_id(client, batch.batch_id))
        if batch.batch_id in batch_ids
        else batch
        for batch in candidates
    )


def _log_wait(part: Part, batch_ids: tuple[str, ...]) -> None:
    log.info(
        "A create of %d requests, begun %s, has no known answer. Its batch may be: %s",
        part.count,
        part.intended_at,
        ", ".join(batch_ids) or "none that is listed yet",
    )


def unknown_create_error(part: Part) -> SubmissionUnknownError:
    """What to say when the time is over before a create could be settled."""
    return SubmissionUnknownError(_unknown(part, ()))


def _unknown(part: Part, batch_ids: tuple[str, ...]) -> str:
    return (
        f"A create of {part.count} requests, begun {part.intended_at:%Y-%m-%d %H:%M:%S} UTC, has no known answer, "
        "and the API gives no way to tell what became of it. Batches that it may have become: "
        f"{', '.join(batch_ids) or 'none listed'} (custom_ids would begin with {part.token}). Nothing was sent "
        "again. A retry looks again; on_lost='resend' sends these requests again and may pay for them twice."
    )
