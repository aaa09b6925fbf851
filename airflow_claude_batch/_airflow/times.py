"""Format times for people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch.batch.quantity import quantity

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY
#: Units, their seconds, and the seconds from which a larger unit is used. So 25 hours are not written as 1 day.
_UNITS: Final = (
    ("second", 1, 2 * _MINUTE),
    ("minute", _MINUTE, 2 * _HOUR),
    ("hour", _HOUR, 2 * _DAY),
    ("day", _DAY, 2 * _YEAR),
)


def time_in_words(time: datetime) -> str:
    """Return a time in UTC and how far away it is.

    >>> time_in_words(datetime(2026, 11, 23, 9, tzinfo=UTC))  # doctest: +SKIP
    '2026-11-23 09:00:00 UTC (in 23 hours)'
    """
    try:
        seconds = time.timestamp() - timezone.utcnow().timestamp()
        return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({_distance(seconds)})"
    except (OverflowError, ValueError):  # at the ends of datetime's range
        return time.isoformat()


def _distance(seconds: float) -> str:
    """Write a distance from now, rounded to its unit: ``in 24 hours``, ``3 minutes ago``."""
    unit, length = "year", _YEAR
    for smaller, its_seconds, end in _UNITS:
        if round(abs(seconds) / its_seconds) * its_seconds < end:
            unit, length = smaller, its_seconds
            break
    distance = quantity(round(abs(seconds) / length), unit)
    return f"in {distance}" if seconds >= 0 else f"{distance} ago"
