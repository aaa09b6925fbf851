"""Decide whether a failed call is sent again, and after which pause."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from airflow_claude_batch.api.evidence import (
    SPEND_LIMIT_CODES,
    Effect,
    ErrorResponse,
    Failure,
    InvalidResponse,
    NoResponse,
    Stage,
    may_resend,
)
from airflow_claude_batch.api.http import CallFailed

log: Final = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS: Final = 0.5  # doubled with every attempt
LONGEST_PAUSE_SECONDS: Final = 30.0

# If the server asks to wait longer, the caller gets the error (with `retry_after`) instead of a long sleep: a task can
# wait without holding a worker.
LONGEST_RETRY_AFTER_SECONDS: Final = 300.0

# The upload was too slow. Nothing was accepted, so a retry is safe; SDK, request_body_timeout_error_details.py.
BODY_TIMEOUT_CODE: Final = "request_body_timeout"


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the call again after this pause."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not send the call again. ``reason`` is for the log."""

    reason: str


def decide(
    failure: Failure, *, effect: Effect, attempt: int, max_retries: int, rng: Callable[[], float]
) -> Retry | GiveUp:
    """Decide what to do after attempt number ``attempt`` failed; the first is 1. Pure function.

    :param max_retries: how often a call may be sent again, 0 for never.
    :param rng: returns a number in [0, 1). It spreads the retries of many callers.
    """
    if not may_resend(failure, effect):
        return GiveUp("the call may have been accepted: look for its batch before sending it again")
    if not _may_help(failure):
        return GiveUp("another try would fail the same way")
    if attempt > max_retries:
        return GiveUp(f"failed {attempt} times")
    retry_after = failure.retry_after_seconds if isinstance(failure, ErrorResponse) else None
    if retry_after is not None and retry_after > LONGEST_RETRY_AFTER_SECONDS:
        return GiveUp(f"the server asks to wait {retry_after:.0f} s")
    return Retry(_pause_seconds(retry_after, attempt, rng()))


class RetryState:
    """Counts the attempts of one call and decides after each failure.

    :param clock: monotonic seconds.
    :param deadline: no attempt begins at or after this time of ``clock``.
    """

    def __init__(
        self,
        max_retries: int,
        clock: Callable[[], float],
        rng: Callable[[], float],
        deadline: float,
    ) -> None:
        self._max_retries = max_retries
        self._clock = clock
        self._rng = rng
        self._deadline = deadline
        self._failed_attempts = 0
        self._maybe_accepted = False

    def pause_after(self, failed: CallFailed) -> float:
        """Return the seconds to sleep before the next attempt.

        :raises APIError: there is no next attempt.
        """
        self._failed_attempts += 1
        self._maybe_accepted |= failed.error.may_have_been_accepted
        decision = decide(
            failed.failure,
            effect=failed.effect,
            attempt=self._failed_attempts,
            max_retries=self._max_retries,
            rng=self._rng,
        )
        if isinstance(decision, GiveUp) or self._is_too_late(decision.after_seconds):
            failed.error.may_have_been_accepted = self._maybe_accepted
            raise failed.error from failed.__cause__
        log.warning("%s Trying again in %.1f s.", failed.error.summary, decision.after_seconds)
        return decision.after_seconds

    def _is_too_late(self, pause: float) -> bool:
        return self._clock() + pause >= self._deadline


def _may_help(failure: Failure) -> bool:
    if isinstance(failure, NoResponse):
        return failure.stage is not Stage.UNTRUSTED
    if isinstance(failure, InvalidResponse) or failure.error_code == BODY_TIMEOUT_CODE:
        return True
    if failure.error_code in SPEND_LIMIT_CODES:
        return False
    if failure.should_retry is not None:
        return failure.should_retry
    return failure.status_code in (408, 409, 429) or failure.status_code >= 500


def _pause_seconds(retry_after: float | None, attempt: int, dice: float) -> float:
    """Return the pause: never shorter than the server asks, and with jitter, so that many callers do not collide."""
    backoff = min(FIRST_PAUSE_SECONDS * 2.0 ** min(attempt - 1, 30), LONGEST_PAUSE_SECONDS)
    jittered = backoff * (1 - 0.5 * dice)
    if not retry_after:
        return jittered
    return retry_after + min(jittered, retry_after * 0.1)
