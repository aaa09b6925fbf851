"""Whether one call is tried again, and when."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from airflow_claude_batch.api.evidence import GiveUp, decide
from airflow_claude_batch.api.http import CallFailed

log: Final = logging.getLogger(__name__)


class Attempts:
    """The attempts of one call: counts them, and asks the policy about each that failed."""

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
        self._failed = 0
        self._maybe_accepted = False

    def pause_after(self, failed: CallFailed) -> float:
        """Give the seconds until the next attempt.

        :raises APIError: there will be none.
        """
        self._failed += 1
        self._maybe_accepted |= failed.error.may_have_been_accepted
        verdict = decide(
            failed.failure,
            effect=failed.effect,
            attempt=self._failed,
            max_retries=self._max_retries,
            rng=self._rng,
        )
        if isinstance(verdict, GiveUp) or self._is_too_late(verdict.after_seconds):
            failed.error.may_have_been_accepted = self._maybe_accepted
            raise failed.error from failed.__cause__
        log.warning("%s Trying again in %.1f s.", failed.error, verdict.after_seconds)
        return verdict.after_seconds

    def _is_too_late(self, pause: float) -> bool:
        return self._clock() + pause >= self._deadline
