"""Decide when to poll a message batch again, and what a failed poll means.

Pure functions without a clock or sockets. The watcher in the triggerer and the blocking wait both use them, so that
the two cannot drift apart.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from airflow_claude_batch.api.evidence import LASTING, LASTING_POLLS, Proof, has_lasted, proof_of
from airflow_claude_batch.exceptions import APIError, AuthenticationError, ConfigurationError, PermissionDeniedError

WaitFor = Literal["all", "any"]
PollError = APIError | ConfigurationError

#: The API's own hint: retrieve responds with ``retry-after: 10`` while a batch is in progress (seen since 2025).
BASE_INTERVAL_SECONDS: Final = 10.0
#: The lower limit of every interval, whatever ``poll_interval`` says: nobody gains by polling faster.
MIN_INTERVAL_SECONDS: Final = 1.0
#: The end of a batch is noticed within this share of its age: 5 s after a minute, 5 min after an hour.
INTERVAL_SHARE_OF_AGE: Final = 1 / 12
#: The upper limit of ``retry-after``: a single response may be a mistake.
MAX_RETRY_AFTER_SECONDS: Final = 900.0
#: For how long the API must say that a batch does not exist until it counts as lost. Single 404s for batches that
#: exist were reported from production, so neither one nor a few within a minute are proof.
NOT_FOUND_CONFIRM_SECONDS: Final = LASTING.total_seconds()
#: For how long the API must reject the credential, or Airflow fail to read the connection, until the waits fail. A key
#: that is rotated is rejected for seconds or minutes; a secrets back end restarts as slowly.
REFUSAL_CONFIRM_SECONDS: Final = LASTING.total_seconds()
LONGEST_REFUSAL_PAUSE_SECONDS: Final = 60.0
#: The pauses of the listing after it failed where single calls did not.
FIRST_LISTING_PAUSE_SECONDS: Final = 15.0
LONGEST_LISTING_PAUSE_SECONDS: Final = 900.0
#: A batch that only the listing has shown for this long is retrieved by itself: a gateway may cache the listing.
LISTING_CHECK_SECONDS: Final = 600.0
#: How often a task's log says that its batches still run.
LOG_INTERVAL_SECONDS: Final = 3600.0
#: The smallest documented rate limit (Start tier, 2026-10-08), used until a response's headers name the real one.
DEFAULT_CALLS_PER_MINUTE: Final = 1000
#: The share of the rate limit that polling may use. Sending and downloading need the rest.
POLLING_SHARE_OF_RATE_LIMIT: Final = 1 / 10


class PollErrorKind(enum.Enum):
    """The meaning of a failed poll."""

    OUTAGE = "the API is unavailable; its message batches keep running"
    DENIED = "the API does not know this batch or will not show it; believed only after NOT_FOUND_CONFIRM_SECONDS"
    UNAUTHORIZED = "the API rejects the credential; believed only after REFUSAL_CONFIRM_SECONDS"


def classify_error(error: PollError) -> PollErrorKind:
    """Classify the error of a failed poll by what it proves.

    A page of a proxy or load balancer proves nothing, whatever its status: it is an outage. So is a spending limit: the
    batch ends all the same.
    """
    if isinstance(error, ConfigurationError):
        return PollErrorKind.UNAUTHORIZED
    proof = proof_of(error)
    if proof in (Proof.DOES_NOT_EXIST, Proof.REFUSED):
        return PollErrorKind.DENIED
    if proof is Proof.NOT_ACCEPTED and isinstance(error, AuthenticationError | PermissionDeniedError):
        return PollErrorKind.UNAUTHORIZED
    return PollErrorKind.OUTAGE


def is_not_found_confirmed(polls: int, seconds: float) -> bool:
    """Return True once a batch was not found in enough consecutive polls over a long enough time."""
    return has_lasted(polls, timedelta(seconds=seconds))


def seconds_until_confirmed(polls: int, seconds: float, *, interval: float) -> float:
    """Return after how many more seconds a batch counts as lost, if no poll finds it until then.

    :param polls: how often it was not found in a row, at least 1.
    :param seconds: the time since the first of these polls.
    :param interval: the seconds between two polls.
    """
    by_time = math.ceil((NOT_FOUND_CONFIRM_SECONDS - seconds) / interval)
    return interval * max(LASTING_POLLS - polls, by_time, 0)


def is_refusal_confirmed(tries: int, seconds: float) -> bool:
    """Return True once a credential was rejected, or a connection unreadable, often and long enough to be believed."""
    return has_lasted(tries, timedelta(seconds=seconds))


def refusal_pause(tries: int) -> float:
    """Return the seconds until a rejected credential, or an unreadable connection, is tried again.

    The first time is at once: the key may have been rotated long ago. Then the pauses grow from 5 s to a minute.
    """
    return 0.0 if tries <= 1 else backoff(tries - 1, retry_after=None, poll_interval=LONGEST_REFUSAL_PAUSE_SECONDS)


def listing_pause(failures: int) -> float:
    """Return the seconds without listing calls after this many failed ones in a row (at least 1)."""
    return min(LONGEST_LISTING_PAUSE_SECONDS, FIRST_LISTING_PAUSE_SECONDS * 2.0 ** min(failures - 1, 16))


def not_found_ids(denials: Mapping[str, PollError]) -> tuple[str, ...]:
    """Return the batches that the API itself says do not exist.

    Requests of a lost batch may be paid for again, so no other refusal may ever count as a loss.
    """
    return tuple(batch_id for batch_id, error in denials.items() if proof_of(error) is Proof.DOES_NOT_EXIST)


def interval(age_seconds: float, *, poll_interval: float) -> float:
    """Return the seconds until the next poll of a batch of this age.

    Small batches end within minutes, so a young batch is polled every 10 s. The interval grows with the batch's age up
    to ``poll_interval``.
    """
    wanted = max(BASE_INTERVAL_SECONDS, age_seconds * INTERVAL_SHARE_OF_AGE)
    return max(MIN_INTERVAL_SECONDS, min(poll_interval, wanted))


def backoff(failures: int, *, retry_after: float | None, poll_interval: float) -> float:
    """Return the seconds to wait after this many consecutive failed polls (at least 1).

    The delay doubles from 5 s to ``poll_interval`` (10 s if that is shorter), so the end of an outage is noticed as
    soon as the end of a batch would be. A longer ``retry_after`` wins, up to :data:`MAX_RETRY_AFTER_SECONDS`.
    """
    longest = max(BASE_INTERVAL_SECONDS, poll_interval)
    doubling = min(longest, BASE_INTERVAL_SECONDS / 2 * 2.0 ** min(failures - 1, 16))
    return max(doubling, min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS))


def rate_limit_interval(calls: int, *, calls_per_minute: int | None) -> float:
    """Return the seconds over which this many calls must be spread to stay within polling's share of the rate limit.

    :param calls_per_minute: the rate limit; None if no response has named it yet.
    """
    return calls * 60.0 / (max(1, calls_per_minute or DEFAULT_CALLS_PER_MINUTE) * POLLING_SHARE_OF_RATE_LIMIT)


def with_jitter(seconds: float, *, jitter: float) -> float:
    """Return an interval shortened by up to a tenth, so that many triggerers do not poll in step.

    :param jitter: from 0 (not shortened) to 1 (by a tenth).
    """
    return seconds * (1.0 - 0.1 * jitter)


def is_due(until: datetime | None, now: datetime) -> bool:
    """Return True once the deadline has passed. Without a deadline, never."""
    return until is not None and now >= until


def batch_age(created_at: datetime | None, now: datetime) -> timedelta:
    """Return the age of a batch: zero while unknown, or if our clock is behind the API's."""
    return max(timedelta(0), now - created_at) if created_at else timedelta(0)


def utc_now() -> datetime:
    """Return the current time. The default wherever a clock can be passed."""
    return datetime.now(UTC)
