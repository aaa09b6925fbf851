"""Estimate what is left of one rate limit between the responses that report it."""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.api.rate_limits import RateLimit

_SECONDS: Final = 60.0  # in which a limit fills; rate-limits page, 2026-10-08
_MARGIN_SECONDS: Final = 0.2  # between two clocks, and on the way: so much later is early enough
_ROUNDED: Final = 1.0  # the API reports whole numbers
_LONG_RESET: Final = 2.0  # a reset so many times later than the API's is another limit
_ROUNDED_SECONDS: Final = 2.0  # both times of a reset are in whole seconds


class LimitEstimate:
    """One token bucket of the API, as far as it is known from here. Before a response names the limit, nothing is.

    Times are seconds of one clock.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self._per_second = 0.0
        self._left = 0.0
        self._at = 0.0
        #: What was taken in all, less what was given back.
        self.taken = 0.0

    def seconds_until(self, amount: float, now: float) -> float:
        """Return the seconds until there is enough. Who needs more than the whole limit waits for all of it."""
        if self.limit is None:
            return 0.0
        missing = min(amount + _MARGIN_SECONDS * self._per_second, self.limit) - self._level(now)
        return max(0.0, missing / self._per_second)

    def take(self, amount: float, now: float) -> None:
        """Count what a request takes. A negative amount is given back."""
        self.taken += amount
        if self.limit is not None:
            self._set(self._level(now) - amount, now)

    def correct(
        self,
        reported: RateLimit,
        *,
        now: float,
        sent_at: float,
        taken_when_sent: float,
        maybe_later: float = 0.0,
        is_refusal: bool = False,
    ) -> None:
        """Compare the estimate with what a response reports.

        The API does not document whether a report is of the start of the request, or of its end. An estimate between
        the two stays; one outside is moved to the nearer of them. So what others take from the same limit counts, and
        reports that are old or rounded do no harm.

        :param sent_at: when the request of this response was sent.
        :param taken_when_sent: ``taken`` at that time, the request's own share included.
        :param maybe_later: what requests took that were in flight at that time. They may have come later than this one.
        :param is_refusal: of a request above the limit, which is answered at once: there is no more left than it says.
        """
        is_first = self.limit is None
        if reported.limit is None or reported.remaining is None:
            return
        level = 0.0 if is_first else self._level(now)
        self.limit, self._per_second = reported.limit, _refill(reported.limit, reported)
        refilled = (now - sent_at) * self._per_second
        at_end = float(reported.remaining)
        at_start = at_end + refilled - (self.taken - taken_when_sent)
        low, high = min(at_start, at_end) - maybe_later, max(at_start, at_end) + _ROUNDED
        if is_refusal:
            high = at_end
        self._set(low if is_first else min(max(level, low), high), now)

    def share_left(self, now: float) -> float:
        """Return the share of the limit that is left, 1 if it is not known."""
        return self._level(now) / self.limit if self.limit else 1.0

    def _level(self, now: float) -> float:
        return min(float(self.limit or 0), self._left + max(0.0, now - self._at) * self._per_second)

    def _set(self, left: float, now: float) -> None:
        self._left, self._at = min(left, float(self.limit or 0)), now


def _refill(limit: int, reported: RateLimit) -> float:
    """Return what comes back in a second: a sixtieth, or less where a gateway's limit takes longer to fill."""
    missing, seconds = limit - (reported.remaining or 0), reported.reset_seconds
    per_second = limit / _SECONDS
    if missing <= 0 or seconds is None or seconds < _LONG_RESET * missing / per_second + _ROUNDED_SECONDS:
        return per_second
    return missing / seconds
