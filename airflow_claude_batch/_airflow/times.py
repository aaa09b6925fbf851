"""Format times for people."""

from __future__ import annotations

from datetime import UTC, datetime

import pendulum


def time_in_words(time: datetime) -> str:
    """Return a time in UTC and how far away it is.

    >>> time_in_words(datetime(2026, 11, 23, 9, tzinfo=UTC))  # doctest: +SKIP
    '2026-11-23 09:00:00 UTC (in 23 hours)'
    """
    try:
        in_utc = pendulum.instance(time.astimezone(UTC))
        return f"{in_utc:%Y-%m-%d %H:%M:%S} UTC ({in_utc.diff_for_humans()})"
    except (OverflowError, ValueError):  # at the ends of datetime's range
        return time.isoformat()
