"""One answer as the answer store holds it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class StoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer that a submission paid for.

    :ivar key: the key of the row that it was landed as, as JSON.
    :ivar body: that row from ``"status":`` to the closing brace.
    :ivar submission_id: the submission that paid for it.
    :ivar answered_at: when it was answered, UTC. Of two answers the newer one counts.
    :ivar model: the model that answered.
    """

    key: bytes
    body: bytes
    submission_id: str
    answered_at: datetime
    model: str


def microseconds(time: datetime) -> int:
    """Return the microseconds from 1970 to a time. What is earlier counts as 1970.

    :raises TypeError: the time has no time zone.
    """
    return max((time - _EPOCH) // _MICROSECOND, 0)


def time_of(microseconds_: int) -> datetime:
    """Return the time, UTC, that is so many microseconds after 1970."""
    return _EPOCH + timedelta(microseconds=microseconds_)
