"""Decide what happened to a create call whose response was lost. Pure functions.

The API has no idempotency key and does not list custom_ids. So the search works with what the API does give: the
batches created since the watermark, how many requests each has, and, once one has ended, its first result lines.

Invariant: no blind re-send. ``Send`` is returned only when no batch that may be ours exists, and when it is too late
for one to appear, by both clocks. While a batch that may be ours runs, the decision is to wait rather than to pay
again. What cannot be trusted, such as a clock, a count or a listing, makes the search longer, never shorter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from airflow_claude_batch.batch.input.custom_id import has_token
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE
from airflow_claude_batch.batch.recover.clocks import (
    CLOCK_TOLERANCE,
    Moment,
    elapsed_since_intent,
    latest_intent,
    latest_moment,
)

#: Time that every create call may take. The client aborts the upload when the create timeout expires.
BASE_CREATE_TIMEOUT = timedelta(seconds=60)
#: Slower uploads than this (4 Mbit/s) are aborted and sent again.
MIN_UPLOAD_BYTES_PER_SECOND = 500_000
#: Batches that are created this long after the grace are somebody else's. A busy workspace creates batches faster than
#: they end, so the search must not wait for them.
MAX_PROXY_DELAY = timedelta(hours=1)
#: Pauses between two searches: they grow with the time that has passed. In Airflow each search may be a deferral.
SEARCH_INTERVAL = timedelta(seconds=30)
LONGEST_SEARCH_INTERVAL = timedelta(minutes=5)
#: The API sends its clock in whole seconds.
CLOCK_RESOLUTION = timedelta(seconds=1)


class Trust(Enum):
    """How far a listing can be trusted to have every batch since the watermark."""

    WHOLE = "it reaches back to the watermark"
    UNPROVEN = "it is empty although there was a watermark, which may have been deleted"
    CONTRADICTED = "it lacks batches that exist: a cache or a slow node of the API"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A batch created since the watermark.

    :param first_custom_id: custom_id of its first readable result line. None until it was read, empty if the results
        are gone (deleted or archived) and have been for long enough.
    :param is_unreadable: its results could not be read just now.
    :param succeeded: how many of its requests were answered.
    :param is_listed_newer: the API lists it as newer than the watermark, whatever its ``created_at`` says.
    """

    batch_id: str
    request_count: int
    ended: bool
    created_at: datetime
    first_custom_id: str | None = None
    is_unreadable: bool = False
    succeeded: int = 0
    is_listed_newer: bool = False


@dataclass(frozen=True, slots=True)
class Adopt:
    """The create call was accepted, and this batch is the part: its custom_ids begin with the part's token.

    :param copies: other batches of the same create call: something on the way has sent its body more than once.
    """

    batch_id: str
    copies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Peek:
    """These batches have ended and may be ours. Read the first result lines of each, then decide again."""

    batch_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LookAgain:
    """It cannot be decided yet. Search again when one of these batches has ended, or after a pause.

    A running batch hides its custom_ids. Without any candidate, an accepted batch may only be listed later.

    :param pause: until the next search. None if only the end of a batch helps.
    """

    batch_ids: tuple[str, ...]
    pause: timedelta | None


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


def search_time(part: Part, grace: timedelta) -> timedelta:
    """Return how long after its intent a create call's batch may still appear."""
    return timedelta() if part.refused else create_timeout(part.size) + grace


def is_too_late(part: Part, now: Moment, grace: timedelta, trust: Trust) -> bool:
    """Return whether so much time has passed that a batch which is not listed yet cannot be the part's.

    Without the API's clock, or with a listing that may have lost the batch, twice the time must pass.
    """
    if trust is Trust.CONTRADICTED:
        return False
    is_sure = now.api is not None and trust is Trust.WHOLE
    return elapsed_since_intent(part, now) >= search_time(part, grace) * (1 if is_sure else 2)


def decide(
    part: Part,
    listing: Sequence[Candidate],
    *,
    known: Collection[str],
    now: Moment,
    grace: timedelta = LOST_CREATE_GRACE,
    trust: Trust = Trust.WHOLE,
) -> Decision:
    """Decide about an intent, given every batch created since its watermark.

    In this order: adopt a batch with our token, read what has ended, wait for what runs or cannot be read now, wait
    until a batch would be listed, stop if unreadable batches are left. Only then send.

    :param known: batches that the ledger records for other parts. They are never candidates.
    :param now: the time of the listing.
    """
    candidates = possible_batches(part, listing, known=known, now=now, grace=grace)
    if ours := [
        batch for batch in candidates if batch.first_custom_id and has_token(batch.first_custom_id, part.token)
    ]:
        best = max(ours, key=lambda batch: (batch.succeeded, -batch.created_at.timestamp()))
        return Adopt(best.batch_id, _ids(batch for batch in ours if batch is not best))
    if unread := _ids(b for b in candidates if b.ended and b.first_custom_id is None and not b.is_unreadable):
        return Peek(unread)
    has_unreadable = any(batch.is_unreadable for batch in candidates)
    pause = _pause(part, now, grace) if has_unreadable or not is_too_late(part, now, grace, trust) else None
    if running := _ids(batch for batch in candidates if not batch.ended and not batch.first_custom_id):
        return LookAgain(running, pause)
    if pause is not None:
        return LookAgain((), pause)
    if gone := _ids(batch for batch in candidates if batch.first_custom_id == ""):
        return Stop(gone)
    return Send()


def possible_batches(
    part: Part, listing: Sequence[Candidate], *, known: Collection[str], now: Moment, grace: timedelta
) -> list[Candidate]:
    """Return the batches that the part may have become, by what is known without their results."""
    others = {*known, *part.foreign, *part.listed_before}
    return [
        batch
        for batch in listing
        if batch.batch_id not in others
        and (
            batch.batch_id in part.odd_candidates
            or (
                (batch.batch_id in part.candidates or not part.has_all_candidates)
                and _may_have_count(batch, part)
                and _is_in_time_window(batch, part, grace, now)
            )
        )
    ]


def oldest_creation(watermark_at: datetime) -> datetime:
    """Return how early a batch may claim to be created that was created after the watermark: nodes' clocks differ."""
    return watermark_at - CLOCK_TOLERANCE


def _may_have_count(batch: Candidate, part: Part) -> bool:
    """Tell whether the batch's count may be the part's. Gateways send none, or count twice."""
    return batch.request_count <= 0 or batch.request_count in (part.count, 2 * part.count)


def _is_in_time_window(batch: Candidate, part: Part, grace: timedelta, now: Moment) -> bool:
    """Tell whether the batch may be created by the part's call. A creation time that is still to come tells nothing."""
    latest, is_plausible = latest_intent(part), batch.created_at <= latest_moment(now)
    if latest and is_plausible and batch.created_at > latest + create_timeout(part.size) + grace + MAX_PROXY_DELAY:
        return False
    return batch.is_listed_newer or part.watermark_at is None or batch.created_at >= oldest_creation(part.watermark_at)


def _pause(part: Part, now: Moment, grace: timedelta) -> timedelta:
    elapsed = elapsed_since_intent(part, now)
    pause = min(max(abs(elapsed) / 4, SEARCH_INTERVAL), LONGEST_SEARCH_INTERVAL)
    left = search_time(part, grace) - elapsed
    return min(pause, left + CLOCK_RESOLUTION) if left > timedelta() else pause


def _ids(batches: Iterable[Candidate]) -> tuple[str, ...]:
    return tuple(batch.batch_id for batch in batches)
