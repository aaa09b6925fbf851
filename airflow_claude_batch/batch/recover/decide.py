"""What became of a create whose answer we do not have: a pure decision.

The API has no idempotency key and does not list custom_ids, so the search works on what it does give:
the batches made since the watermark, how many requests each has, and, once one has ended, its first
result line. Ages are computed from the API's own clock, so that a worker's wrong clock cannot make an
open create look old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_claude_batch.batch.ledger.ledger import Part

#: The longest that a create call may take is bounded by us (the client aborts the upload after it).
BASE_CREATE_TIMEOUT = timedelta(seconds=60)
#: Slower uploads than this are aborted and sent again: 4 Mbit/s.
MIN_UPLOAD_BYTES_PER_SECOND = 500_000
#: The last bytes of an aborted upload (a write timeout), and the time until an accepted batch is listed (seen: none).
VISIBILITY_DELAY = timedelta(seconds=120)
#: How long after all that a batch may still be ours: a proxy may hold a whole upload back. Later ones are others', of
#: which a busy workspace makes new ones faster than they end.
MAX_PROXY_DELAY = timedelta(hours=1)
#: How soon to look again while nothing is there; in Airflow, each look may be a deferral.
SEARCH_INTERVAL = timedelta(seconds=30)
#: The API tells its clock in whole seconds.
CLOCK_RESOLUTION = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch made since the watermark.

    ``first_custom_id`` is that of its first result line: None until it was peeked at, empty if the results
    could not be had (deleted, archived).
    """

    batch_id: str
    request_count: int
    ended: bool
    created_at: datetime
    first_custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class Adopt:
    """This batch is the part."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Peek:
    """Read the first result line of these batches, then decide again."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookAgain:
    """It cannot be told yet: wait until one of these batches has ended, or until ``until``."""

    batch_ids: tuple[str, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Send:
    """The create never arrived: the part may be sent."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The API gives no way to know; a person decides."""

    batch_ids: tuple[str, ...]


Decision = Adopt | Peek | LookAgain | Send | Stop


def create_timeout(size: int) -> timedelta:
    """How long a create call with a body of ``size`` bytes may take before we abort it."""
    return BASE_CREATE_TIMEOUT + timedelta(seconds=size / MIN_UPLOAD_BYTES_PER_SECOND)


def acceptance_deadline(part: Part) -> datetime:
    """From when on an intent without a batch is known not to have arrived."""
    return part.intended_at + create_timeout(part.size) + VISIBILITY_DELAY


def decide(part: Part, listing: Sequence[Candidate], *, known: Collection[str], now: datetime) -> Decision:
    """Decide about an intent, given every batch made since its watermark.

    :param known: batches that the ledger accounts for otherwise; never candidates.
    :param now: the API's clock at the time of the listing.
    """
    candidates = [
        batch
        for batch in listing
        if batch.request_count == part.count and batch.batch_id not in known and _is_of_its_time(batch, part)
    ]
    for batch in candidates:
        if batch.first_custom_id and batch.first_custom_id.startswith(f"{part.token}-"):
            return Adopt(batch.batch_id)
    if unread := _ids(batch for batch in candidates if batch.ended and batch.first_custom_id is None):
        return Peek(unread)
    if running := _ids(batch for batch in candidates if not batch.ended):
        return LookAgain(running, until=None)
    if now < acceptance_deadline(part):
        return LookAgain((), until=min(now + SEARCH_INTERVAL, acceptance_deadline(part) + CLOCK_RESOLUTION))
    if unreadable := _ids(batch for batch in candidates if batch.first_custom_id == ""):
        return Stop(unreadable)
    return Send()


def _is_of_its_time(batch: Candidate, part: Part) -> bool:
    if batch.created_at > acceptance_deadline(part) + MAX_PROXY_DELAY:
        return False
    return part.watermark_at is None or batch.created_at >= part.watermark_at


def _ids(batches: Iterable[Candidate]) -> tuple[str, ...]:
    return tuple(batch.batch_id for batch in batches)
