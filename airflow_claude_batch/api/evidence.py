"""What to do after a call that failed: pure policy, no clock, no socket.

Two questions, kept apart. *May it have been accepted?* decides about money: a message batch is created by a call
that has no idempotency key, so a create that may have been accepted is never sent again from here. *Is it worth
another try?* decides about time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.5  # doubled with every attempt
LONGEST_PAUSE_SECONDS: Final = 30.0

# When the server asks for more than this, the caller gets the error (with `retry_after`) instead of a long sleep:
# upstairs a task can wait without holding a worker.
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

LONGEST_SENSIBLE_SECONDS: Final = 366 * 86_400.0  # what asks for more asks for nothing

# 429s and others that only a person or the next month ends; SDK, _error_classes.py and rate-limits, 2026-10.
SPEND_LIMIT_CODES: Final = frozenset(
    {
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "linked_organization_spend_limit_reached",
        "linked_organization_billing_unavailable",
    }
)

# The upload was too slow, nothing was done, and sending again is safe; SDK, request_body_timeout_error_details.py.
BODY_TIMEOUT_CODE: Final = "request_body_timeout"


class Effect(Enum):
    """What sending a call twice does."""

    READ_ONLY = "reads, and changes nothing"
    IDEMPOTENT = "changes something, twice as once: cancel, delete"
    NOT_IDEMPOTENT = "does it again, and bills it again: create"


class Stage(Enum):
    """How far a call came that got no answer."""

    CONNECTING = "no byte of the call left: name lookup, connect, proxy, TLS, waiting for a free connection"
    UNTRUSTED = "as CONNECTING, and no later try will do better: the server's certificate is not trusted"
    SENDING = "some of it left"
    WAITING = "all of it left, the answer did not come whole"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No answer arrived, or only a part of one."""

    stage: Stage


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An answer that is no success.

    ``retry_after_seconds`` is what the answer asked for, None if nothing. ``should_retry`` is the API's own opinion
    (``x-should-retry``), None if it has none.
    """

    status_code: int
    error_code: str | None = None
    retry_after_seconds: float | None = None
    should_retry: bool | None = None


@dataclass(frozen=True, slots=True)
class InvalidResponse:
    """A success by its status, but the body is not the API's."""


Failure = NoResponse | ErrorResponse | InvalidResponse


@dataclass(frozen=True, slots=True)
class Retry:
    """Send it again after so many seconds."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not send it again; ``reason`` is for the log."""

    reason: str


def may_have_been_accepted(failure: Failure, effect: Effect) -> bool:
    """Whether the call may have taken effect although it failed. Reading has no effect to take."""
    if effect is Effect.READ_ONLY:
        return False
    if isinstance(failure, NoResponse):
        # A server that honours content-length cannot accept a body cut short, so SENDING looks safe. But the part that
        # we failed to send may be none (the error came after the last byte), and a proxy may have the whole body
        # already. Looking costs one call, being wrong costs a batch.
        return failure.stage in (Stage.SENDING, Stage.WAITING)
    return isinstance(failure, InvalidResponse) or _status_may_hide_acceptance(failure.status_code)


def _status_may_hide_acceptance(status_code: int) -> bool:
    """The statuses with which something on the way may speak for an API that did its work.

    303 is how a server points to the outcome of a finished POST. 408, and 499 in some proxies' words, is a timeout
    of somebody in the middle. 409 refuses this call, but the only thing a create can conflict with is a copy of
    itself. 529 is the API's refusal to begin. Other 5xx are said by proxies that lost the answer.
    """
    if 500 <= status_code < 600:
        return status_code != 529
    return status_code in (303, 408, 409, 499) or not 300 <= status_code < 500


def may_resend(failure: Failure, effect: Effect) -> bool:
    """Whether sending again cannot do, or bill, the same thing twice."""
    return effect is not Effect.NOT_IDEMPOTENT or not may_have_been_accepted(failure, effect)


def decide(
    failure: Failure, *, effect: Effect, attempt: int, max_retries: int, rng: Callable[[], float]
) -> Retry | GiveUp:
    """Say what to do after attempt number ``attempt`` (the first is 1) failed.

    :param max_retries: how often a call may be sent again, 0 for never.
    :param rng: gives a number in [0, 1), to keep many callers from coming back at once.
    """
    if not may_resend(failure, effect):
        return GiveUp("the call may have been accepted: look before sending it again")
    if not _worth_another_try(failure):
        return GiveUp("another try would fail the same way")
    if attempt > max_retries:
        return GiveUp(f"failed {attempt} times")
    asked = failure.retry_after_seconds if isinstance(failure, ErrorResponse) else None
    if asked is not None and asked > LONGEST_RETRY_AFTER_SECONDS:
        return GiveUp(f"the server asks to wait {asked:.0f} s")
    return Retry(_pause_seconds(asked, attempt, rng()))


def _worth_another_try(failure: Failure) -> bool:
    if isinstance(failure, NoResponse):
        return failure.stage is not Stage.UNTRUSTED
    if isinstance(failure, InvalidResponse) or failure.error_code == BODY_TIMEOUT_CODE:
        return True
    if failure.error_code in SPEND_LIMIT_CODES:
        return False
    if failure.should_retry is not None:
        return failure.should_retry
    return failure.status_code in (408, 409, 429) or failure.status_code >= 500


def _pause_seconds(asked: float | None, attempt: int, dice: float) -> float:
    """Never earlier than asked, and spread: a thousand tasks that were all told "10" must not come back together."""
    longest = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_PAUSE_SECONDS)
    jittered = longest * (1 - 0.5 * dice)
    if not asked:
        return jittered
    return asked + min(jittered, asked * 0.1)


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None) -> float | None:
    """Read how long an answer asks to wait, from ``retry-after-ms`` or ``retry-after``.

    :param headers: with lower-case names.
    :param now: the server's time, for the form of the header that is a date; None if unknown, which leaves it out.
    """
    milliseconds = _number(headers.get("retry-after-ms"), at_most=LONGEST_SENSIBLE_SECONDS * 1000)
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value, at_most=LONGEST_SENSIBLE_SECONDS)
    if seconds is not None:
        return seconds
    at = http_date(value)
    return min(max((at - now).total_seconds(), 0.0), LONGEST_SENSIBLE_SECONDS) if at and now else None


def _number(text: str | None, *, at_most: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number <= at_most else None


def http_date(text: str | None) -> datetime | None:
    """Read a date as HTTP headers have it, such as ``Sun, 22 Nov 2026 09:00:00 GMT``; None if it is none."""
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError, TypeError, IndexError):  # of the standard library, by the oddness of the text
        return None
    if not 2000 <= at.year < 3000:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)
