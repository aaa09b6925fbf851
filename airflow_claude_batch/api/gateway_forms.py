"""Read message batches in the forms that gateways give them, and turn those into the API's own form.

Gateways write times without an offset or as numbers, null counts, and statuses in another case. Such a batch is real
and may be billed, so it must be readable. Pure functions on decoded JSON.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from airflow_claude_batch.api.headers import http_date
from airflow_claude_batch.api.limits import BATCH_LIFETIME

_COUNTS: Final = ("processing", "succeeded", "errored", "canceled", "expired")
_OPTIONAL_TIMES: Final = ("expires_at", "ended_at", "archived_at", "cancel_initiated_at")
_STATUSES: Final = {
    "inprogress": "in_progress",
    "canceling": "canceling",
    "cancelling": "canceling",
    "ended": "ended",
}
#: Numbers above these are milliseconds, microseconds and nanoseconds since 1970. As seconds they lie after 5138.
_UNITS: Final = ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3))


def normal_status(status: str) -> str:
    """Return a processing status in the API's spelling. An unknown one is returned as it is."""
    return _STATUSES.get(re.sub(r"[^a-z]", "", status.lower()), status)


def normal_batch(value: Any) -> Any:
    """Return a decoded batch in the API's form, as far as it can be understood. Other values are unchanged.

    Example::

        normal_batch({"id": "b:1", "created_at": 1795000000, "request_counts": None, ...})
        # {"id": "b:1", "created_at": "2026-11-18T...+00:00", "request_counts": {"processing": 0, ...}, ...}
    """
    if not isinstance(value, Mapping):
        return value
    times = {name: at for name in _OPTIONAL_TIMES if (at := _time(value.get(name))) is not None}
    created_at = value.get("created_at")
    if created_at is None and "expires_at" in times:
        created_at = times["expires_at"] - BATCH_LIFETIME
    normal = {
        "id": value.get("id"),
        "processing_status": value.get("processing_status"),
        "request_counts": normal_counts(value.get("request_counts")),
        "created_at": _time(created_at),
        **times,
    }
    return {name: item for name, item in normal.items() if item is not None}


def normal_counts(value: Any) -> dict[str, int]:
    """Return request counts as whole numbers. What is missing, null or no number counts as 0."""
    counts = value if isinstance(value, Mapping) else {}
    return {name: _whole_number(counts.get(name)) for name in _COUNTS}


def _whole_number(value: Any) -> int:
    number = _number(value)
    return int(number) if number is not None and number.is_integer() else 0


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _time(value: Any) -> datetime | None:
    """Return an aware time. One without an offset is UTC. None if the value is no time."""
    if isinstance(value, datetime):
        return value
    number = _number(value)
    if number is not None:
        return _since_1970(number)
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return http_date(value)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _since_1970(number: float) -> datetime | None:
    unit = next((unit for least, unit in _UNITS if number >= least), 1.0)
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number / unit)
    except OverflowError:
        return None
