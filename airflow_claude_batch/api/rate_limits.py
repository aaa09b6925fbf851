"""Read the rate limits that a response of the Messages API reports in its headers (API reference, "Rate limits")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_PREFIX: Final = "anthropic-ratelimit-"
_MOST_DIGITS: Final = 15  # a larger number is no limit of the API
_LONGEST_RESET_SECONDS: Final = 86_400.0  # limits are per minute; a later reset is not believed


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """One limit, as a response reports it. What the response does not say is None.

    :param limit: requests or tokens per minute.
    :param remaining: how many of them were left. The API may round tokens to thousands.
    :param reset_seconds: seconds from the response until the limit is full again.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """The limits of a model, as one response reports them."""

    requests: RateLimit = RateLimit()
    input_tokens: RateLimit = RateLimit()
    output_tokens: RateLimit = RateLimit()


def read_rate_limits(headers: Mapping[str, str], *, now: datetime | None) -> RateLimits:
    """Read the rate limits of a response. A value that the API would not send is ignored.

    :param headers: with lower-case names.
    :param now: the server's time. If None, the times of the resets are ignored.
    """
    return RateLimits(
        requests=_read(headers, "requests", now),
        input_tokens=_read(headers, "input-tokens", now),
        output_tokens=_read(headers, "output-tokens", now),
    )


def _read(headers: Mapping[str, str], name: str, now: datetime | None) -> RateLimit:
    limit = _count(headers.get(f"{_PREFIX}{name}-limit", ""))
    remaining = _count(headers.get(f"{_PREFIX}{name}-remaining", ""))
    return RateLimit(
        limit=limit or None,
        remaining=remaining if limit is None or remaining is None else min(remaining, limit),
        reset_seconds=_seconds_until(headers.get(f"{_PREFIX}{name}-reset", ""), now),
    )


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _seconds_until(text: str, now: datetime | None) -> float | None:
    """Return the seconds until a time in RFC 3339, such as ``2026-11-22T09:00:00Z``."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    if now is None or at.tzinfo is None or not 2000 <= at.year < 3000:
        return None
    seconds = (at.astimezone(UTC) - now).total_seconds()
    return max(seconds, 0.0) if seconds <= _LONGEST_RESET_SECONDS else None
