"""Read response headers that hold times."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

#: A header that asks to wait longer than a year is ignored.
MAX_RETRY_AFTER_SECONDS: Final = 366 * 86_400.0


def retry_after_seconds(headers: Mapping[str, str], *, now: datetime | None) -> float | None:
    """Return the seconds that a response asks to wait, from ``retry-after-ms`` or ``retry-after``.

    :param headers: with lower-case names.
    :param now: the server's time. If None, a ``retry-after`` that is a date is ignored.
    """
    milliseconds = _number(headers.get("retry-after-ms"), at_most=MAX_RETRY_AFTER_SECONDS * 1000)
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value, at_most=MAX_RETRY_AFTER_SECONDS)
    if seconds is not None:
        return seconds
    at = http_date(value)
    return min(max((at - now).total_seconds(), 0.0), MAX_RETRY_AFTER_SECONDS) if at and now else None


def http_date(text: str | None) -> datetime | None:
    """Parse a date as HTTP headers write it, such as ``Sun, 22 Nov 2026 09:00:00 GMT``. None if it is not one."""
    try:
        at = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError, TypeError, IndexError):  # the standard library raises all of these
        return None
    if not 2000 <= at.year < 3000:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _number(text: str | None, *, at_most: float) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number <= at_most else None
