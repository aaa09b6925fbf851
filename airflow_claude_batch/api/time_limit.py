"""Bound how long a call takes in all, not only between two bytes: a server that drips would hold it for ever.

A limit is set for the code of a ``with`` block. Every call in it keeps within the limit, and the narrowest limit wins.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

#: Results that arrive more slowly than this count as a stalled download. A modem of 1993 was faster.
MIN_BYTES_PER_SECOND: Final = 1024

#: What a call may take whose caller has less time left: long enough for one that succeeds, with retries.
MIN_CALL_SECONDS: Final = 30.0

_calls_end_at: ContextVar[float] = ContextVar("calls_end_at", default=math.inf)  # on time.monotonic
_ends_at: ContextVar[float] = ContextVar("ends_at", default=math.inf)  # on time.monotonic
_rate: ContextVar[ReadRate | None] = ContextVar("rate", default=None)


class TooSlow(Exception):  # noqa: N818  (the transport catches it and raises an APIError)
    """The time for a call is up. The message says so in words that complete an error message."""


@contextmanager
def time_limit(seconds: float, *, shielded: bool = False) -> Iterator[None]:
    """Let no call in this block take longer than this from now on. Bodies of results are included.

    :param shielded: ignore the limits of outer blocks. For calls that must not be cut off once they are sent.

    Example::

        with time_limit(30):
            batch = client.retrieve_batch("msgbatch_01AbCd")  # with all of its retries
    """
    own = time.monotonic() + seconds
    token = _ends_at.set(own if shielded else min(own, _ends_at.get()))
    try:
        yield
    finally:
        _ends_at.reset(token)


@contextmanager
def calls_until(seconds: float) -> Iterator[None]:
    """Let each call in this block end this long from now, or within :data:`MIN_CALL_SECONDS` if less is left.

    Create calls and the bodies of results are not cut off: they have bounds of their own. But results that stand still
    are given up in this time.
    """
    token = _calls_end_at.set(min(time.monotonic() + seconds, _calls_end_at.get()))
    try:
        yield
    finally:
        _calls_end_at.reset(token)


def call_seconds() -> float:
    """Return how long a call that begins now may take with all of its retries."""
    return max(MIN_CALL_SECONDS, _calls_end_at.get() - time.monotonic())


def is_time_up() -> bool:
    """Tell whether the time of :func:`calls_until` is over."""
    return _calls_end_at.get() <= time.monotonic()


def seconds_left() -> float:
    """Return the seconds that are left of the narrowest limit, infinity without one."""
    return _ends_at.get() - time.monotonic()


@dataclass(slots=True)
class ReadRate:
    """Raises if a download brings too few bytes. Only the time of waiting for bytes counts, not the reader's own.

    :param window_seconds: how long a download may bring less than :data:`MIN_BYTES_PER_SECOND`.
    """

    window_seconds: float
    _received: int = 0
    _waited: float = 0.0

    def add(self, received: int, waited: float) -> None:
        """Count bytes, and the seconds in which they came.

        :raises TooSlow: a whole window had too few.
        """
        self._received += received
        self._waited += waited
        if self._waited < self.window_seconds:
            return
        if self._received < self._waited * MIN_BYTES_PER_SECOND:
            raise TooSlow(f"only {self._received:,} bytes arrived in {self._waited:.0f} s")
        self._received, self._waited = 0, 0.0

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply this rate to what the block reads."""
        token = _rate.set(self)
        try:
            yield
        finally:
            _rate.reset(token)


def limit_reads(stream: Any) -> None:
    """Let a network stream of httpcore keep to the limits. Its own timeout bounds only a single read."""
    read = stream.read

    def limited(max_bytes: int, timeout: float | None = None) -> bytes:
        left = seconds_left()
        if left <= 0:
            raise TooSlow("the response was not complete in time")
        began = time.monotonic()
        narrowest = left if timeout is None else min(left, timeout)
        if (rate := _rate.get()) is not None:
            narrowest = min(narrowest, rate.window_seconds)
        data: bytes = read(max_bytes, timeout=None if math.isinf(narrowest) else narrowest)
        if rate is not None:
            rate.add(len(data), time.monotonic() - began)
        return data

    stream.read = limited
