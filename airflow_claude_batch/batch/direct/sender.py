"""Ask requests directly, several at the same time, as fast as the limits allow."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from decimal import Decimal
from typing import Final, NamedTuple

from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.api.rate_limits import RateLimits
from airflow_claude_batch.batch.direct.budget import DirectBudget, answer_cost, answer_usage
from airflow_claude_batch.batch.direct.call import CallEnd, DirectResult, EndedCall, MessageClient, RequestAsker
from airflow_claude_batch.batch.direct.pace import Pace, Sent
from airflow_claude_batch.batch.direct.report import DirectReport, NotAsked
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import APIError, APIStatusError, RateLimitError

log: Final = logging.getLogger(__name__)

#: Seconds between two looks at the event that stops everything.
LOOK_SECONDS: Final = 0.5
_LATEST: Final = 50  # answers whose time tells how long the next one may take
_LOG_SECONDS: Final = 30.0  # between two lines about refusals

Waiter = Callable[[set["Future[EndedCall]"], float], object]


class DirectSender:
    """Asks requests directly.

    Two functions of the caller make it durable. ``before`` is called with a request before it is first asked, and
    ``answered`` with its result before its slot asks another. Both are called in threads, several at a time. If one of
    them raises, nothing more is asked. The requests in flight still get their answers, and then the error is raised.

    A request that was certainly not accepted is asked again. One whose response was lost is not, unless
    ``may_ask_again`` says so, because it may have been answered and billed.

    :param client: asks one request, from several threads.
    :param prices: the full ones, not those of message batches.
    :param concurrency: the most requests in flight. A kill may lose, and pay twice, that many.
    :param start_until: no request starts at this time of ``clock`` or later.
    :param answer_until: no answer is waited for longer. What is in flight then may be billed and is lost. So no request
        starts that would take too long, if it takes as long as the slowest of the last answers.
    :param hand_back_at: no request starts at this time of ``clock`` or later, because the caller has other things to do
        before it goes on with the rest.
    :param patience_seconds: a longer pause after refusals is not waited for here, but handed back.
    :param pace: of an earlier run in the same process, so that this one goes on at its pace and keeps its pauses.
    :param room: USD that the requests may cost in all. None: no limit.
    :param may_ask_again: is asked about a request whose response was lost. It may be paid twice.
    :param clock: monotonic seconds.
    :param executor: runs the calls, for tests.
    :param waiter: waits until one of the calls has ended, or for some seconds, for tests.
    """

    def __init__(
        self,
        client: MessageClient,
        prices: PriceTable,
        *,
        concurrency: int,
        start_until: float,
        answer_until: float = math.inf,
        hand_back_at: float = math.inf,
        patience_seconds: float = math.inf,
        pace: Pace | None = None,
        room: Decimal | None = None,
        may_ask_again: Callable[[DirectRequest, APIError], bool] = lambda request, error: False,
        clock: Callable[[], float] = time.monotonic,
        executor: Executor | None = None,
        waiter: Waiter | None = None,
    ) -> None:
        self._client = client
        self._prices = prices
        self._concurrency = concurrency
        self._answer_until = answer_until
        self._hand_back_at = hand_back_at
        self._patience_seconds = patience_seconds
        self._pace = pace or Pace(concurrency=concurrency, start_until=start_until)
        self._pace.start_until = start_until
        self._room = room
        self._may_ask_again = may_ask_again
        self._clock = clock
        self._executor = executor
        self._waiter = waiter

    def send(
        self,
        requests: Iterable[DirectRequest],
        *,
        before: Callable[[DirectRequest], object],
        answered: Callable[[DirectRequest, DirectResult], object],
        stop: threading.Event | None = None,
    ) -> DirectReport:
        """Ask the requests, and return what became of them.

        :param requests: are taken one by one, when there is room for the next.
        :param stop: once it is set, nothing more is asked. What is in flight is waited for.
        """
        asker = RequestAsker(self._client, before, answered, self._may_ask_again, self._answer_until, self._clock)
        budget = DirectBudget(self._room)
        stop = stop or threading.Event()
        waiter = self._waiter or _wait_for_any
        with self._executor or ThreadPoolExecutor(self._concurrency, thread_name_prefix="claude-direct") as executor:
            run = _Run(
                asker=asker,
                pace=self._pace,
                budget=budget,
                prices=self._prices,
                requests=iter(requests),
                executor=executor,
                stop=stop,
                waiter=waiter,
                clock=self._clock,
                answer_until=self._answer_until,
                hand_back_at=self._hand_back_at,
                patience_seconds=self._patience_seconds,
            )
            try:
                return run.run()
            finally:
                asker.halt.set()


class _Flight(NamedTuple):
    request: DirectRequest
    sent: Sent


class _Run:
    """One run of a sender: what is in flight, and what waits. Only the calls run in other threads."""

    def __init__(
        self,
        *,
        asker: RequestAsker,
        pace: Pace,
        budget: DirectBudget,
        prices: PriceTable,
        requests: Iterator[DirectRequest],
        executor: Executor,
        stop: threading.Event,
        waiter: Waiter,
        clock: Callable[[], float],
        answer_until: float,
        hand_back_at: float,
        patience_seconds: float,
    ) -> None:
        self._answer_until = answer_until
        self._latest_seconds: deque[float] = deque(maxlen=_LATEST)
        self._hand_back_at = hand_back_at
        self._patience_seconds = patience_seconds
        self._asker = asker
        self._pace = pace
        self._budget = budget
        self._prices = prices
        self._requests = requests
        self._executor = executor
        self._stop = stop
        self._waiter = waiter
        self._clock = clock
        self._in_flight: dict[Future[EndedCall], _Flight] = {}
        self._waiting: deque[DirectRequest] = deque()
        self._asked: set[int] = set()  # that wait to be asked again
        self._failure: BaseException | None = None
        self._logged_at = -math.inf
        self._report = DirectReport()

    def run(self) -> DirectReport:
        while self._advance() or self._in_flight:
            for future in [each for each in self._in_flight if each.done()]:
                self._collect(future, self._in_flight.pop(future))
        reason = self._report.stopped or NotAsked.STOPPED
        self._report.not_asked.update((request.index, reason) for request in self._waiting)
        self._report.spent = self._budget.spent
        if self._failure is not None:
            raise self._failure
        return self._report

    def _advance(self) -> bool:
        """Start the next request, or wait. Return False when no more are to be started."""
        request = None if self._is_stopped() else self._next()
        if request is None:
            if self._in_flight:
                self._wait(LOOK_SECONDS)
            return False
        if not self._budget.fits(request.bound):
            if self._in_flight:  # an answer may cost less than its bound
                self._wait(LOOK_SECONDS)
            else:
                self._waiting.popleft()
                self._report.not_asked[request.index] = NotAsked.TOO_COSTLY
            return True
        seconds = self._pace.seconds_until_start(request.demand, self._clock())
        if seconds is None or self._would_be_late():
            self._report.stopped = NotAsked.TOO_LATE
        elif not self._in_flight and (pause := self._pace.pause_left(self._clock())) > self._patience_seconds:
            self._report.stopped, self._report.resume_in = NotAsked.HANDED_BACK, pause
        elif seconds > 0:
            self._wait(min(seconds, LOOK_SECONDS))
        else:
            self._start(self._waiting.popleft())
        return True

    def _would_be_late(self) -> bool:
        return self._clock() + max(self._latest_seconds, default=0.0) >= self._answer_until

    def _is_stopped(self) -> bool:
        if self._stop.is_set() and self._report.stopped is None:
            self._report.stopped = NotAsked.STOPPED
            self._asker.halt.set()
        elif self._clock() >= self._hand_back_at and self._report.stopped is None:
            self._report.stopped = NotAsked.HANDED_BACK
        return self._report.stopped is not None or self._failure is not None

    def _next(self) -> DirectRequest | None:
        """Return the request that is next, which stays the first of those that wait."""
        if not self._waiting:
            try:
                self._waiting.extend([next(self._requests)])
            except StopIteration:
                return None
            except Exception as error:  # raised when the answers in flight are saved
                self._failure = error
                return None
        return self._waiting[0]

    def _wait(self, seconds: float) -> None:
        self._waiter(set(self._in_flight), seconds)

    def _start(self, request: DirectRequest) -> None:
        is_first = request.index not in self._asked
        self._budget.reserve(request.index, request.bound)
        sent = self._pace.sent(request.demand, self._clock())
        self._in_flight[self._executor.submit(self._asker.ask, request, is_first=is_first)] = _Flight(request, sent)

    def _collect(self, future: Future[EndedCall], flight: _Flight) -> None:
        request, sent = flight
        now, report = self._clock(), self._report
        self._asked.discard(request.index)
        if (failure := future.exception()) is not None:
            self._failure = self._failure or failure
            self._asker.halt.set()
            self._pace.lost(sent, now)
            self._budget.settle(request.index, None)
            return
        end, result = future.result()
        limits = result.rate_limits if isinstance(result, MessageResponse) else RateLimits()
        if end is CallEnd.ANSWERED and isinstance(result, MessageResponse):
            report.answered += 1
            self._latest_seconds.append(now - sent.at)
            self._count_answer(flight, result, now)
        elif end is CallEnd.REFUSED:
            report.refused += 1
            self._budget.release(request.index)
            self._pace.refused(sent, limits, now)
        elif end in (CallEnd.LOST, CallEnd.MAY_ASK_AGAIN):
            report.lost += 1
            self._budget.settle(request.index, None)
            self._pace.lost(sent, now)
        else:
            self._budget.release(request.index)
            self._hold_back(flight, end, result, now)
        if end in (CallEnd.MAY_ASK_AGAIN, CallEnd.HELD_BACK, CallEnd.REFUSED_TO_ALL, CallEnd.NOT_SENT):
            self._asked.add(request.index)
            self._waiting.appendleft(request)

    def _count_answer(self, flight: _Flight, response: MessageResponse, now: float) -> None:
        request, sent = flight
        self._budget.settle(request.index, answer_cost(response.result, self._prices))
        input_tokens, output_tokens = request.demand.input_tokens, request.demand.max_tokens
        if (found := answer_usage(response.result)) is not None:
            usage = found[1]
            input_tokens, output_tokens = (
                usage.input_tokens + (usage.cache_creation_input_tokens or 0),
                usage.output_tokens,
            )
        self._pace.answered(sent, response.rate_limits, now, input_tokens=input_tokens, output_tokens=output_tokens)

    def _hold_back(self, flight: _Flight, end: CallEnd, result: DirectResult | None, now: float) -> None:
        error = result.error if isinstance(result, MessageResponse) else result
        limits = result.rate_limits if isinstance(result, MessageResponse) else RateLimits()
        if end is CallEnd.REFUSED_TO_ALL:
            self._report.stopped, self._report.error = NotAsked.REFUSED_TO_ALL, error
        elif end is CallEnd.NOT_SENT:
            self._report.stopped = self._report.stopped or NotAsked.TOO_LATE
        else:
            self._report.held_back += 1
            self._report.held_back_by = error
            self._log(error, now)
        retry_after = error.retry_after if isinstance(error, APIStatusError) else None
        self._pace.held_back(
            flight.sent,
            limits,
            now,
            retry_after=retry_after,
            is_overload=not isinstance(error, RateLimitError),
        )

    def _log(self, error: APIError | None, now: float) -> None:
        if error is not None and now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            log.info("%s The request was not accepted, and is asked again.", error.summary)


def _wait_for_any(futures: set[Future[EndedCall]], seconds: float) -> None:
    if futures:
        wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
    else:
        time.sleep(seconds)
