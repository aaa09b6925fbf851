"""Measure how long ago a create call was sent, by two clocks. Pure functions.

Invariant: no decision from one clock alone. A worker's clock may be set, and the API's comes in the ``Date`` header: a
gateway may leave it out, cache it or be hours off. So the time that counts is the shorter one of the two, and a clock
that is missing makes the search longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch.batch.ledger.part import Part

#: How far the clocks of the API's nodes, or two clocks that count as equal, may differ.
CLOCK_TOLERANCE: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment by both clocks.

    :param worker: this machine's clock.
    :param api: the API's clock, in whole seconds. None if the response did not carry it.
    """

    worker: datetime
    api: datetime | None = None


def elapsed_since_intent(part: Part, now: Moment) -> timedelta:
    """Return how much time has certainly passed since the intent was written. Negative if a clock was set back."""
    by_worker = now.worker - (part.intended_at_worker or part.intended_at)
    if now.api is None:
        return by_worker
    since = part.intended_at if part.intended_at_worker else part.searched_since
    return min(by_worker, now.api - since if since else timedelta())


def latest_intent(part: Part) -> datetime | None:
    """Return when the intent was written at the latest. None if the two clocks contradict, or one was missing."""
    if part.intended_at_worker is None or abs(part.intended_at_worker - part.intended_at) > CLOCK_TOLERANCE:
        return None
    return max(part.intended_at_worker, part.intended_at)


def latest_moment(now: Moment) -> datetime:
    """Return how late it is at most. A time after it is wrong, or of another time zone."""
    return max(now.worker, now.api or now.worker) + CLOCK_TOLERANCE
