"""The simulator's time: real by default, or moved by hand so that 24 hours and 29 days take no time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Returns the current time as an aware UTC datetime."""

    def now(self) -> datetime: ...


class RealClock:
    """The computer's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class ManualClock:
    """A clock that stands still until it is advanced.

    ::

        clock = ManualClock(datetime(2026, 11, 22, tzinfo=UTC))
        simulator = Simulator(clock=clock, batch_seconds=3600)
        ...  # submit a batch
        clock.advance(3600)  # the next poll finds it ended

    :param start: the first time it shows, an aware datetime. Default: the current time.
    :raises ValueError: when ``start`` has no time zone.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and start.tzinfo is None:
            raise ValueError(
                f"The start of the clock has no time zone: {start}.\n"
                "Pass an aware datetime, such as datetime(2026, 11, 22, tzinfo=UTC)."
            )
        self._now = (start or datetime.now(UTC)).astimezone(UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._now

    def advance(self, seconds: float) -> datetime:
        """Move forward by ``seconds`` (fractions are allowed) and return the new time.

        :raises ValueError: when ``seconds`` is negative.
        """
        if seconds < 0:
            raise ValueError(f"The clock only moves forward, not by {seconds} seconds.")
        with self._lock:
            self._now += timedelta(seconds=seconds)
            return self._now


def timestamp(moment: datetime | None) -> str | None:
    """Format a time as the API does, with microseconds and a numeric offset. None stays None."""
    return None if moment is None else moment.isoformat(timespec="microseconds")
