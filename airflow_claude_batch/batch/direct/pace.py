"""Decide when the next direct request may start: a pure decision, without I/O, and with the time passed in.

At most ``concurrency`` requests are in flight. Each starts when the limits of its model have room for its prompt and
for all of its ``max_tokens``, which the API reserves. The limits are those that the latest responses report. Where none
are reported, or others use them too, requests are refused nevertheless: each refusal cuts the rate of the starts, and
each answer raises it a little. An overload or a lost response halves the number of requests in flight, and each answer
adds one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from airflow_claude_batch.api.rate_limits import RateLimits
from airflow_claude_batch.batch.direct.limit_estimate import LimitEstimate
from airflow_claude_batch.batch.direct.request import Demand

RATE_CUT: Final = 0.8  # of the starts, after a refusal without headers
RATE_GROWTH: Final = 0.005  # with each answer: so that one in fifty requests is refused
LEAST_RATE: Final = 1 / 60  # starts in a second

FIRST_PAUSE_SECONDS: Final = 1.0  # after a refusal that names no time, doubled with each that follows
LONGEST_PAUSE_SECONDS: Final = 30.0


class _Taken(NamedTuple):
    """What one request takes of the three limits."""

    requests: float
    input_tokens: float
    output_tokens: float

    def plus(self, other: _Taken, times: int = 1) -> _Taken:
        return _Taken(*(mine + times * its for mine, its in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class Sent:
    """A request in flight.

    :param taken: what it took of the limits.
    :param taken_when_sent: what had been taken in all when it was sent, its own share included.
    :param others: what requests took that were in flight at that time.
    """

    demand: Demand
    at: float
    taken: _Taken
    taken_when_sent: _Taken
    others: _Taken


class _Model:
    """The limits of one model, and how many tokens its prompts have for each one that was estimated."""

    def __init__(self) -> None:
        self.limits = (LimitEstimate(), LimitEstimate(), LimitEstimate())
        self.in_flight = _Taken(0.0, 0.0, 0.0)
        self._estimated = 0
        self._billed = 0

    @property
    def is_known(self) -> bool:
        return any(limit.limit is not None for limit in self.limits)

    def is_roomy(self, now: float) -> bool:
        """Tell whether at least half of every limit is left. Nobody knows, if none is reported."""
        return self.is_known and all(limit.share_left(now) >= 0.5 for limit in self.limits)

    @property
    def taken(self) -> _Taken:
        return _Taken(*(limit.taken for limit in self.limits))

    def needs(self, demand: Demand) -> _Taken:
        ratio = self._billed / self._estimated if self._estimated else 1.0
        return _Taken(1.0, max(1.0, demand.input_tokens * ratio), float(demand.max_tokens))

    def learn(self, demand: Demand, input_tokens: int) -> None:
        self._estimated += demand.input_tokens
        self._billed += input_tokens


class Pace:
    """Says when the next request may start, from what is in flight and what the responses report.

    Times are seconds of one clock, which the caller reads.

    >>> pace = Pace(concurrency=8, start_until=1800.0)
    >>> demand = Demand("claude-haiku-5-5", 500, 1024)
    >>> pace.seconds_until_start(demand, now=0.0)
    0.0

    :param concurrency: the most requests in flight.
    :param start_until: no request starts at this time or later.
    """

    def __init__(self, *, concurrency: int, start_until: float) -> None:
        self._concurrency = concurrency
        self.start_until = start_until
        self._in_flight = 0
        self._window = 1.0  # most requests in flight now; no limit is known yet
        self._hold_until = -math.inf
        self._failures = 0  # in a row
        self._failed_at = -math.inf
        self._is_narrowed = False
        self._rate: float | None = None  # starts in a second; None while nothing limits them
        self._first_at: float | None = None
        self._last_at = -math.inf
        self._starts = 0
        self._models: dict[str, _Model] = {}

    @property
    def in_flight(self) -> int:
        """The number of requests that were sent and have no answer yet."""
        return self._in_flight

    def pause_left(self, now: float) -> float:
        """Return the seconds that are left of a pause after refusals, whatever the limits are. 0 without one."""
        return max(0.0, self._hold_until - now)

    def seconds_until_start(self, demand: Demand, now: float) -> float | None:
        """Return the seconds until a request may start: 0 for now, infinity for "after the next answer".

        Return None if it cannot start in time any more.
        """
        if max(now, self._hold_until) >= self.start_until:
            return None
        if self._in_flight >= int(self._window):
            return math.inf
        model = self._model(demand)
        waits = (
            limit.seconds_until(amount, now) for limit, amount in zip(model.limits, model.needs(demand), strict=True)
        )
        spaced = 0.0 if self._rate is None else self._last_at + 1 / self._rate - now
        seconds = max(0.0, self._hold_until - now, spaced, *waits)
        if now + seconds < self.start_until:
            return seconds
        return math.inf if self._in_flight else None  # an answer may give back what it did not use

    def sent(self, demand: Demand, now: float) -> Sent:
        """Count a request that starts now."""
        model = self._model(demand)
        taken = model.needs(demand)
        for limit, amount in zip(model.limits, taken, strict=True):
            limit.take(amount, now)
        self._in_flight += 1
        self._starts += 1
        self._first_at = now if self._first_at is None else self._first_at
        self._last_at = now
        others, model.in_flight = model.in_flight, model.in_flight.plus(taken)
        return Sent(demand, now, taken, model.taken, others)

    def answered(self, sent: Sent, limits: RateLimits, now: float, *, input_tokens: int, output_tokens: int) -> None:
        """Count an answer, and give back what it did not use.

        :param input_tokens: that count for the limit: without those that were read from the cache.
        """
        model = self._model(sent.demand)
        model.learn(sent.demand, input_tokens)
        self._give_back(sent, now, _Taken(1.0, input_tokens, output_tokens))
        self._end(sent, limits, now)
        self._failures = 0
        self._rate = None if self._rate is None or model.is_roomy(now) else self._rate * (1 + RATE_GROWTH)
        if model.is_known and not self._is_narrowed:
            self._window = float(self._concurrency)
        else:
            self._window = min(float(self._concurrency), self._window + 1.0)

    def refused(self, sent: Sent, limits: RateLimits, now: float) -> None:
        """Count a request that the API refuses for good, such as one with invalid params."""
        self._give_back(sent, now, _Taken(1.0, 0.0, 0.0))
        self._end(sent, limits, now)

    def held_back(
        self, sent: Sent, limits: RateLimits, now: float, *, retry_after: float | None, is_overload: bool
    ) -> None:
        """Count a request that was not accepted and may be asked again. All others wait, too.

        :param retry_after: seconds that the API asks to wait. None if it does not ask.
        :param is_overload: the API is overloaded or was not reached, whatever its limits are.
        """
        self._give_back(sent, now, _Taken(0.0, 0.0, 0.0))
        self._end(sent, limits, now, is_refusal=not is_overload)
        if not is_overload and sent.at > self._failed_at:
            self._slow_down(now)
        self._hold(sent, now, retry_after, narrow=is_overload)

    def lost(self, sent: Sent, now: float) -> None:
        """Count a request whose response was lost. It may have taken all that it could, and others may be lost, too."""
        self._leave(sent)
        self._hold(sent, now, None, narrow=True)

    def _hold(self, sent: Sent, now: float, retry_after: float | None, *, narrow: bool) -> None:
        """Let nothing start for a while. Requests that were in flight together fail together, which counts once."""
        if sent.at > self._failed_at:
            self._failures += 1
            self._failed_at = now
            if narrow:
                self._window = max(1.0, self._window / 2)
                self._is_narrowed = True
        pause = min(FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 30), LONGEST_PAUSE_SECONDS)
        self._hold_until = max(self._hold_until, now + (pause if retry_after is None else retry_after))

    def _slow_down(self, now: float) -> None:
        """Cut the rate of the starts. The first time, it is what it has been so far."""
        so_far = self._starts / max(now - (self._first_at or 0.0), 1.0)
        self._rate = max(LEAST_RATE, RATE_CUT * (self._rate or so_far))

    def _model(self, demand: Demand) -> _Model:
        return self._models.setdefault(demand.model, _Model())

    def _give_back(self, sent: Sent, now: float, used: _Taken) -> None:
        for limit, taken, amount in zip(self._model(sent.demand).limits, sent.taken, used, strict=True):
            limit.take(amount - taken, now)

    def _end(self, sent: Sent, limits: RateLimits, now: float, *, is_refusal: bool = False) -> None:
        self._leave(sent)
        reported = (limits.requests, limits.input_tokens, limits.output_tokens)
        estimates = self._model(sent.demand).limits
        for estimate, report, taken, others in zip(estimates, reported, sent.taken_when_sent, sent.others, strict=True):
            estimate.correct(
                report,
                now=now,
                sent_at=sent.at,
                taken_when_sent=taken,
                maybe_later=others,
                is_refusal=is_refusal,
            )

    def _leave(self, sent: Sent) -> None:
        self._in_flight -= 1
        model = self._model(sent.demand)
        model.in_flight = model.in_flight.plus(sent.taken, -1)
