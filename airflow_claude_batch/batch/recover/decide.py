"""Decide what happened to a create call whose response was lost. Pure functions.

The API has no idempotency key and does not list custom_ids. So the search works with what the API does give: the
batches created since the watermark, how many requests each has, and, once one has ended, its first result line.

Invariant: no blind re-send. ``Send`` is returned only when no batch that may be ours exists, and when it is too late
for one to appear. While a batch that may be ours runs, the decision is to wait rather than to pay again. Ages are
computed from the API's own clock, because a wrong clock of the worker must not make an open create call look old.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from airflow_claude_batch.batch.ledger.ledger import Part

#: Time that every create call may take. The client aborts the upload when the create timeout expires.
BASE_CREATE_TIMEOUT = timedelta(seconds=60)
#: Slower uploads than this (4 Mbit/s) are aborted and sent again.
MIN_UPLOAD_BYTES_PER_SECOND = 500_000
#: Time until an accepted batch must be listed: the last bytes of an aborted upload (a write timeout), and the delay of
#: the listing (none was observed).
VISIBILITY_DELAY = timedelta(seconds=120)
#: Time after all that in which a batch may still be ours, because a proxy may hold back a whole upload. Later batches
#: are somebody else's. A busy workspace creates those faster than they end, so the search must not wait for them.
MAX_PROXY_DELAY = timedelta(hours=1)
#: Pause between two searches while no candidate exists. In Airflow each search may be a deferral.
SEARCH_INTERVAL = timedelta(seconds=30)
#: The API sends its clock in whole seconds.
CLOCK_RESOLUTION = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch created since the watermark.

    :param first_custom_id: custom_id of its first result line. None until it was read, empty if the results are gone
        (deleted or archived).
    """

    batch_id: str
    request_count: int
    ended: bool
    created_at: datetime
    first_custom_id: str | None = None


@dataclass(frozen=True, slots=True)
class Adopt:
    """The create call was accepted, and this batch is the part: its custom_ids begin with the part's token."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class Peek:
    """These batches have ended and may be ours. Read the first result line of each, then decide again."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookAgain:
    """It cannot be decided yet. Search again when one of these batches has ended, or at ``until``.

    A running batch hides its custom_ids. Without any candidate, an accepted batch may only be listed later.

    :param until: by the API's clock. None if only the end of a batch helps.
    """

    batch_ids: tuple[str, ...]
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Send:
    """The create call was not accepted: no batch can be ours any more. The part may be sent again."""


@dataclass(frozen=True, slots=True)
class Stop:
    """These batches may be ours, but their results are gone, so nobody can tell. The author or a person decides."""

    batch_ids: tuple[str, ...]


Decision = Adopt | Peek | LookAgain | Send | Stop


def create_timeout(size: int) -> timedelta:
    """Return how long a create call may take before the client aborts it.

    :param size: size of its body in bytes.
    """
    return BASE_CREATE_TIMEOUT + timedelta(seconds=size / MIN_UPLOAD_BYTES_PER_SECOND)


def acceptance_deadline(part: Part) -> datetime:
    """Return when an intent without a listed batch counts as not accepted, by the API's clock."""
    return part.intended_at + create_timeout(part.size) + VISIBILITY_DELAY


def decide(part: Part, listing: Sequence[Candidate], *, known: Collection[str], now: datetime) -> Decision:
    """Decide about an intent, given every batch created since its watermark.

    In this order: adopt a batch with our token, read what has ended, wait for what runs, wait until a batch would be
    listed, stop if unreadable batches are left. Only then send.

    :param known: batches that the ledger records for other parts. They are never candidates.
    :param now: the API's clock at the time of the listing.
    """
    candidates = [
        batch
        for batch in listing
        if batch.request_count == part.count and batch.batch_id not in known and _is_in_time_window(batch, part)
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


def _is_in_time_window(batch: Candidate, part: Part) -> bool:
    if batch.created_at > acceptance_deadline(part) + MAX_PROXY_DELAY:
        return False
    return part.watermark_at is None or batch.created_at >= part.watermark_at


def _ids(batches: Iterable[Candidate]) -> tuple[str, ...]:
    return tuple(batch.batch_id for batch in batches)
