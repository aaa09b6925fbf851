"""When to look at a message batch again, and what a failed look means: decisions alone, no clock and no sockets.

The watcher of the triggerer and the synchronous wait both ask here, so that the two cannot drift.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from airflow_claude_batch.exceptions import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
)

WaitFor = Literal["all", "any"]
PollError = APIError | ConfigurationError

#: The API's own hint: retrieve answers ``retry-after: 10`` while a batch is in progress (seen since 2025).
QUICKEST_SECONDS = 10.0
#: Nobody gains by asking more often than this, whatever ``poll_interval`` says.
SHORTEST_SECONDS = 1.0
#: The end of a batch is noticed within this share of its age: 5 s of a minute, 5 min of an hour.
SHARE_OF_AGE = 1 / 12
#: Waiting longer than this on the word of one answer would be waiting on a mistake.
LONGEST_RETRY_AFTER_SECONDS = 900.0
#: A 404 on a batch that exists was reported in production, so one is no proof, nor are a few in a minute.
DOUBT_LOOKS = 3
DOUBT_SECONDS = 600.0
#: The smallest documented limit of calls (Start tier, 2026-10-08), until an answer's headers name ours.
CALLS_PER_MINUTE = 1000
#: Of that limit, what waiting may take; sending and landing need the rest.
POLLING_SHARE = 1 / 10


class PollErrorKind(enum.Enum):
    """What a failed look says."""

    OUTAGE = "the API could not be asked; what it was asked about goes on"
    DENIED = "the API does not know this batch, or will not say; believed only when it says so for long"
    UNAUTHORIZED = "the API refuses the credential; a person must mend that, unless it was replaced already"


def classify_error(error: PollError) -> PollErrorKind:
    """Tell a failed look's meaning.

    An answer without the API's own ``error.type`` was written by something on the way (a proxy's page, a load
    balancer without backends) and says nothing about the batch; a 401 is believed from anybody, because nothing
    on the way will start to let us through by itself. A billing limit is waited out: the batch ends all the same.
    """
    if isinstance(error, AuthenticationError | ConfigurationError):
        return PollErrorKind.UNAUTHORIZED
    if not isinstance(error, APIStatusError) or error.error_type is None:
        return PollErrorKind.OUTAGE
    if isinstance(error, PermissionDeniedError):
        return PollErrorKind.UNAUTHORIZED
    if isinstance(error, NotFoundError | BadRequestError):
        return PollErrorKind.DENIED
    return PollErrorKind.OUTAGE


def doubt_is_over(looks: int, seconds: float) -> bool:
    """Whether a batch that was not found is gone, after so many looks in a row over so many seconds."""
    return looks >= DOUBT_LOOKS and seconds >= DOUBT_SECONDS


def lost_ids(gone: Mapping[str, PollError]) -> tuple[str, ...]:
    """Return those of which the API said for so long that there is no such batch, and nothing else.

    Whoever gives up a batch may pay for its requests again, so another refusal must never look like its loss.
    """
    return tuple(
        batch_id
        for batch_id, error in gone.items()
        if isinstance(error, NotFoundError) and error.error_type == "not_found_error"
    )


def interval(age_seconds: float, *, poll_interval: float) -> float:
    """Return the seconds until the next look at a batch of this age.

    Small batches end within minutes, so a young batch is looked at every 10 s; then ever more slowly, but never
    more slowly than ``poll_interval``.
    """
    wanted = max(QUICKEST_SECONDS, age_seconds * SHARE_OF_AGE)
    return max(SHORTEST_SECONDS, min(poll_interval, wanted))


def backoff(failures: int, *, retry_after: float | None, poll_interval: float) -> float:
    """Return the seconds to wait after so many failed looks in a row (at least 1).

    A server that names a time is obeyed, within reason. Else it doubles from 5 s to ``poll_interval`` (10 s if that
    is shorter): the end of an outage is noticed as soon as the end of a batch would be.
    """
    longest = max(QUICKEST_SECONDS, poll_interval)
    doubling = min(longest, QUICKEST_SECONDS / 2 * 2.0 ** min(failures - 1, 16))
    return max(doubling, min(retry_after or 0.0, LONGEST_RETRY_AFTER_SECONDS))


def pace(calls: int, *, calls_per_minute: int | None) -> float:
    """Return the seconds that so many calls must be spread over, so that waiting takes its share and no more."""
    return calls * 60.0 / (max(1, calls_per_minute or CALLS_PER_MINUTE) * POLLING_SHARE)


def early(seconds: float, *, spread: float) -> float:
    """Return a time up to a tenth shorter: ``spread``, from 0 to 1, keeps many triggerers from asking in step."""
    return seconds * (1.0 - 0.1 * spread)


def is_due(until: datetime | None, now: datetime) -> bool:
    """Whether the wait's own end has come."""
    return until is not None and now >= until


def age(created_at: datetime | None, now: datetime) -> timedelta:
    """Return how old a batch is; zero while unknown, or if our clock is behind the API's."""
    return max(timedelta(0), now - created_at) if created_at else timedelta(0)


def utc_now() -> datetime:
    """Return the wall clock's time: the default wherever a clock may be passed in."""
    return datetime.now(UTC)
