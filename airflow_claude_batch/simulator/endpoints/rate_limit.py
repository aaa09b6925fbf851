"""Limits calls per minute: a token bucket on the simulator's clock (rate-limits page: one for all batch calls)."""

from __future__ import annotations

import math
import threading
from datetime import timedelta

from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.http.errors import APIError

START_TIER_CALLS = 1_000  # per minute, rate-limits page of 2026-10-08


class RateLimit:
    """Counts calls and rejects those above the limit.

    :param calls_per_minute: None: no call is rejected, and the headers show the limit of the Start tier.
    """

    def __init__(self, calls_per_minute: int | None, *, clock: Clock) -> None:
        self._clock = clock
        self._enforced = calls_per_minute is not None
        self._limit = calls_per_minute or START_TIER_CALLS
        self._left = float(self._limit)
        self._counted_at = clock.now()
        self._lock = threading.Lock()

    def count(self) -> dict[str, str]:
        """Count one call and return the rate limit headers.

        :raises APIError: 429 with ``retry-after``, when no call is left.
        """
        per_second = self._limit / 60
        with self._lock:
            now = self._clock.now()
            refill = (now - self._counted_at).total_seconds() * per_second
            self._left = min(float(self._limit), self._left + refill)
            self._counted_at = now
            if self._left < 1 and self._enforced:
                wait = math.ceil((1 - self._left) / per_second)
                message = (
                    f"This request would exceed your organization's rate limit of {self._limit} requests per minute."
                )
                raise APIError(429, message, headers={"retry-after": str(wait), **self._headers()})
            self._left = max(0.0, self._left - 1)
            return self._headers()

    def _headers(self) -> dict[str, str]:
        full_in = timedelta(seconds=(self._limit - self._left) * 60 / self._limit)
        return {
            "anthropic-ratelimit-requests-limit": str(self._limit),
            "anthropic-ratelimit-requests-remaining": str(int(self._left)),
            "anthropic-ratelimit-requests-reset": (self._counted_at + full_in).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
