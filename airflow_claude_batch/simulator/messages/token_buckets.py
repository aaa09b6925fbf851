"""Rate limits of the Messages API: requests, input and output tokens per minute, for each model on its own.

Each is a token bucket on the simulator's clock (rate-limits page, 2026-10-08). A request reserves its ``max_tokens``,
and gives back what its answer did not use.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_claude_batch.simulator.clock import Clock
from airflow_claude_batch.simulator.http.errors import APIError


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageRates:
    """The limits per minute. The defaults are above those of the Scale tier."""

    requests: int = 10_000
    input_tokens: int = 10_000_000
    output_tokens: int = 2_000_000

    def __post_init__(self) -> None:
        if min(self.requests, self.input_tokens, self.output_tokens) < 1:
            raise ValueError("A rate limit of messages is below 1.\nSet it to requests or tokens per minute, from 1.")


class TokenBuckets:
    """Counts requests and their tokens, and rejects what is above a limit."""

    def __init__(self, rates: MessageRates, *, clock: Clock) -> None:
        self._clock = clock
        self._limits = {"requests": rates.requests, "input-tokens": rates.input_tokens}
        self._limits["output-tokens"] = rates.output_tokens
        self._buckets: dict[str, dict[str, _Bucket]] = defaultdict(self._full)
        self._lock = threading.Lock()

    def admit(self, model: str, *, input_tokens: int, max_tokens: int) -> None:
        """Take what a request needs from the buckets of a model.

        :raises APIError: 429 with ``retry-after``, when one of the buckets has too little. Nothing is taken then.
        """
        needed = {"requests": 1, "input-tokens": input_tokens, "output-tokens": max_tokens}
        with self._lock:
            now, buckets = self._clock.now(), self._buckets[model]
            waits = {name: buckets[name].seconds_until(amount, now) for name, amount in needed.items()}
            slowest = max(waits, key=lambda name: waits[name])
            if waits[slowest] > 0:
                message = (
                    f"This request would exceed your organization's rate limit of {self._limits[slowest]:,} "
                    f"{slowest.replace('-', ' ')} per minute (model: {model})."
                )
                headers = {"retry-after": str(math.ceil(waits[slowest])), **_headers(buckets, now)}
                raise APIError(429, message, headers=headers)
            for name, amount in needed.items():
                buckets[name].take(amount)

    def give_back(self, model: str, output_tokens: int, *, at: datetime) -> None:
        """Give back output tokens that were reserved and not used, at the time of the answer."""
        with self._lock:
            self._buckets[model]["output-tokens"].give_back(output_tokens, at)

    def headers(self, model: str) -> dict[str, str]:
        """Return the headers that report the limits of a model now."""
        with self._lock:
            return _headers(self._buckets[model], self._clock.now())

    def _full(self) -> dict[str, _Bucket]:
        now = self._clock.now()
        return {name: _Bucket(limit, float(limit), now) for name, limit in self._limits.items()}


@dataclass(slots=True)
class _Bucket:
    """One token bucket. It fills in a minute.

    :param returns: times at which reserved tokens come back, a heap.
    """

    limit: int
    left: float
    counted_at: datetime
    returns: list[tuple[datetime, int]] = field(default_factory=list)

    def seconds_until(self, amount: int, now: datetime) -> float:
        """Return the seconds until there is enough for a request. One that needs more than all waits for all."""
        self._fill(now)
        return max(0.0, (min(amount, self.limit) - self.left) * 60 / self.limit)

    def take(self, amount: int) -> None:
        self.left -= min(amount, self.limit)

    def give_back(self, amount: int, at: datetime) -> None:
        heapq.heappush(self.returns, (at, min(amount, self.limit)))

    def headers(self, name: str, now: datetime) -> dict[str, str]:
        self._fill(now)
        full_at = now + timedelta(seconds=(self.limit - self.left) * 60 / self.limit)
        return {
            f"anthropic-ratelimit-{name}-limit": str(self.limit),
            f"anthropic-ratelimit-{name}-remaining": str(max(0, int(self.left))),
            f"anthropic-ratelimit-{name}-reset": full_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    def _fill(self, now: datetime) -> None:
        refill = (now - self.counted_at).total_seconds() * self.limit / 60
        while self.returns and self.returns[0][0] <= now:
            refill += heapq.heappop(self.returns)[1]
        self.left = min(float(self.limit), self.left + refill)
        self.counted_at = now


def _headers(buckets: dict[str, _Bucket], now: datetime) -> dict[str, str]:
    return {key: value for name, bucket in buckets.items() for key, value in bucket.headers(name, now).items()}
