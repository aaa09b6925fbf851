"""A world without waiting: the simulator on a clock that only the sender's waits move, and calls that take its time."""

from __future__ import annotations

import heapq
import itertools
import json
from concurrent.futures import Executor, Future
from datetime import UTC, datetime

from airflow_claude_batch.api import endpoints
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.api.evidence import Stage
from airflow_claude_batch.api.http import CallFailed, HTTPResponse
from airflow_claude_batch.api.message_response import read_message_response
from airflow_claude_batch.api.responses import no_response_failure
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.direct.sender import DirectSender
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.simulator import ManualClock, MessageRates, Simulator
from airflow_claude_batch.simulator.http.exchange import Request, TransportFailure

START = datetime(2026, 11, 22, 9, tzinfo=UTC)
MODEL = "claude-haiku-5-5"
_TABLE = PriceTable.load({"batch_factor": "1"})  # full prices
_CONFIG = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1")


def direct_request(index, prompt=None, *, model=MODEL, max_tokens=100):
    text = prompt if prompt is not None else f"question {index}"
    params = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}]}
    return DirectRequest.of(index, json.dumps(params, separators=(",", ":")).encode(), _TABLE)


class VirtualWorld(Executor):
    """Runs a sender on virtual time. It is the executor, the waiter, the clock and the client of the sender.

    :param seconds: virtual seconds from a request to its answer, or a function of the number of the call.
    """

    def __init__(self, *, seconds=1.0, rates=None, headers=True, **options):
        self.seconds = seconds if callable(seconds) else lambda _: seconds
        self.simulator = Simulator(
            clock=ManualClock(START),
            message_seconds=self.seconds(0),
            message_rates=MessageRates(**(rates or {})),
            **options,
        )
        self.headers = headers
        self.statuses = []
        self.most_in_flight = 0
        self.sent_at = []
        self.before = []
        self.answered = {}
        self._calls = itertools.count()
        self._due = []

    def clock(self):
        return (self.simulator.clock.now() - START).total_seconds()

    def submit(self, function, /, *args, **kwargs):
        future = Future()
        number = next(self._calls)
        self.sent_at.append(self.clock())
        try:
            result, error = function(*args, **kwargs), None
        except Exception as raised:
            result, error = None, raised
        heapq.heappush(self._due, (self.clock() + self.seconds(number), number, future, result, error))
        self.most_in_flight = max(self.most_in_flight, len(self._due))
        return future

    def waiter(self, futures, seconds):
        """Let time pass: to the end of the next call, or for so many seconds."""
        until = min([self.clock() + seconds, *(due for due, *_ in self._due[:1])])
        self.simulator.advance(max(0.0, until - self.clock()) + 1e-6)
        while self._due and self._due[0][0] <= self.clock():
            _, _, future, result, error = heapq.heappop(self._due)
            future.set_result(result) if error is None else future.set_exception(error)

    def create_message(self, params, *, seconds):
        call = endpoints.create_message(params, seconds=seconds)
        request = call.request(_CONFIG)
        headers = {**request.headers, "authorization": "Bearer sk-test"}
        try:
            response = self.simulator.handle(Request(method="POST", path="/v1/messages", headers=headers, body=params))
        except TransportFailure:
            raise no_response_failure(request, Stage.WAITING, "lost").error from None
        self.statuses.append(response.status)
        passed = {name.lower(): value for name, value in response.headers.items() if self._passes(name)}
        try:
            return read_message_response(request, HTTPResponse(response.status, passed, response.body))
        except CallFailed as failed:
            raise failed.error from None

    def sender(self, *, concurrency=8, start_until=600.0, **options):
        return DirectSender(
            self,
            _TABLE,
            concurrency=concurrency,
            start_until=start_until,
            clock=self.clock,
            executor=self,
            waiter=self.waiter,
            **options,
        )

    def send(self, requests, *, stop=None, **options):
        return self.sender(**options).send(
            requests, before=lambda request: self.before.append(request.index), answered=self._keep, stop=stop
        )

    @property
    def billed(self):
        return self.simulator.books()["direct"]["billed_requests"]

    def _keep(self, request, result):
        assert request.index not in self.answered
        self.answered[request.index] = result

    def _passes(self, name):
        return self.headers or not name.startswith("anthropic-ratelimit-")
