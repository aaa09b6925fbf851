"""The simulator as one object: its knobs, its doors, its books."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch.simulator.batches import Batch, MessageBatches, OutcomeScript, Rules
from airflow_claude_batch.simulator.books import books
from airflow_claude_batch.simulator.clock import Clock, ManualClock, RealClock
from airflow_claude_batch.simulator.control import PREFIX, Control
from airflow_claude_batch.simulator.credentials import Credentials, FederationRule, Keys
from airflow_claude_batch.simulator.exchange import Answer, Request
from airflow_claude_batch.simulator.faults import OPERATIONS, Fault, FaultScript
from airflow_claude_batch.simulator.operations import Operations
from airflow_claude_batch.simulator.outages import Outage
from airflow_claude_batch.simulator.outcomes import EXPIRED, INTERNAL_ERROR
from airflow_claude_batch.simulator.ratelimit import RateLimit
from airflow_claude_batch.simulator.replies import AnswerScript, Replies
from airflow_claude_batch.simulator.routes import BATCH_BODY_BYTES, Routes
from airflow_claude_batch.simulator.server import Server

if TYPE_CHECKING:
    from airflow_claude_batch.simulator.door import Door


class Simulator:
    """Claude's Message Batches API in this process, reached over sockets or in process.

    :param clock: default: real time; a `ManualClock` moves by hand.
    :param keys: API key to workspace id, or to several; None: any key that starts with ``sk-``.
    :param batch_seconds: seconds from a batch's creation to its end, or a callable that gives them for a
        `Batch`; 0: the next look sees it ended; above 24 h: the rest expires.
    :param latency_seconds: real seconds added to every answer.
    :param queue_limit: requests in the processing queue; a create beyond it gets 429. The Start tier has 200,000.
    :param answer: gives the answer to ``(params, position in the batch)`` as text or as a dict of message
        fields; see `replies.Replies`.
    :param outcome: gives the ending of ``(custom_id, params, attempt)`` as text: "succeeded", "expired",
        "canceled", "errored:<type>[:<message>]", "refusal[:<category>]", "max_tokens" or another stop reason;
        None: succeeded. The attempt says in how many batches these very params have been by now. It is asked
        once, when the batch ends. Requests with invalid params are errored whatever it says.
    :param shuffle: whether results come in another order than requests, by ``seed``, and anew for each download.
    :param cancel_seconds: from a cancel to the end of the batch.
    :param cancel_succeeded_share: how much of a canceled batch had been answered by then.
    :param cancel_ended: what canceling an ended batch gives: "error" (400) or "unchanged" (200).
    :param unknown_cursor: what an unknown or deleted cursor of the list gives: "error" (400) or "empty".
    :param requests_per_minute: calls of batch operations before a 429; None: no limit.
    :param federation: federation rule id to rule, for ``/v1/oauth/token``; None: any identity is accepted.
    :param results_base_url: what ``results_url`` starts with; default: the address by which the caller came.
    :param batch_body_bytes: the largest body of a create.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        keys: Keys | None = None,
        batch_seconds: float | Callable[[Batch], float] = 0.0,
        latency_seconds: float = 0.0,
        queue_limit: int | None = None,
        answer: AnswerScript | None = None,
        outcome: OutcomeScript | None = None,
        shuffle: bool = True,
        seed: int = 0,
        cancel_seconds: float = 0.0,
        cancel_succeeded_share: float = 0.0,
        cancel_ended: Literal["error", "unchanged"] = "error",
        unknown_cursor: Literal["error", "empty"] = "error",
        requests_per_minute: int | None = None,
        federation: Mapping[str, FederationRule] | None = None,
        results_base_url: str | None = None,
        batch_body_bytes: int = BATCH_BODY_BYTES,
    ) -> None:
        self.clock: Clock = clock or RealClock()
        self._latency_seconds = latency_seconds
        self._replies = Replies(answer)
        self._faults = FaultScript()
        self._outage = Outage()
        rules = Rules(
            queue_limit=queue_limit,
            cancel_seconds=cancel_seconds,
            cancel_succeeded_share=cancel_succeeded_share,
            cancel_ended=cancel_ended,
            unknown_cursor=unknown_cursor,
            results_base_url=results_base_url,
            shuffle=shuffle,
            seed=seed,
        )
        self._batches = MessageBatches(clock=self.clock, rules=rules, pace=batch_seconds, outcome=outcome)
        credentials = Credentials(clock=self.clock, keys=keys, federation=federation)
        operations = Operations(batches=self._batches, credentials=credentials, replies=self._replies, rules=rules)
        self._routes = Routes(
            clock=self.clock,
            credentials=credentials,
            operations=operations,
            faults=self._faults,
            rate_limit=RateLimit(requests_per_minute, clock=self.clock),
            batch_body_bytes=batch_body_bytes,
        )
        self._control = Control(self)

    def serve(self, host: str = "127.0.0.1", port: int = 0) -> Server:
        """A server for a ``with`` block; its ``url`` is known inside. Port 0 takes a free one."""
        return Server(self.handle, body_limit=self._routes.body_limit, outage=self._outage, host=host, port=port)

    def transport(self) -> Door:
        """An httpx transport, for ``httpx.Client`` and ``httpx.AsyncClient`` alike, without any socket."""
        # Only those who use this door need httpx.
        from airflow_claude_batch.simulator.door import Door

        return Door(self.handle, body_limit=self._routes.body_limit, outage=self._outage)

    def handle(self, request: Request) -> Answer:
        """Answer one call, however it came.

        :raises Misfortune: if it is to get no answer.
        """
        if request.path.startswith(PREFIX):
            return self._control.handle(request)
        answer = self._outage.answer() or self._routes.handle(request)
        answer.delay_seconds += self._latency_seconds
        answer.headers["date"] = format_datetime(self.clock.now(), usegmt=True)
        return answer

    def inject(self, *faults: Fault) -> None:
        """Script faults, to strike in this order."""
        self._faults.inject(faults)

    def clear_faults(self) -> None:
        self._faults.clear()

    def outage(self, kind: str, *, seconds: float | None = None) -> None:
        """Be out of order: "refuse", "hang", "html" or "status:503".

        :param seconds: of real time; None: until `end_outage`.
        """
        self._outage.begin(kind, seconds=seconds)

    def end_outage(self) -> None:
        self._outage.end()

    def pace(self, batch_seconds: float | Callable[[Batch], float]) -> None:
        """Change how long batches take, those under way included."""
        self._batches.set_pace(batch_seconds)

    def advance(self, seconds: float) -> datetime:
        """Move a manual clock and return the new time.

        :raises RuntimeError: the clock is not a `ManualClock`.
        """
        clock = self.clock if isinstance(self.clock, ManualClock) else None
        if clock is None:
            raise RuntimeError("the clock is real; start the simulator with a ManualClock (--manual-clock)")
        return clock.advance(seconds)

    def end(self, batch_id: str, *, succeeded_share: float = 1.0) -> dict[str, Any]:
        """End a batch now and return its books entry; the share that does not succeed errors with ``api_error``."""
        self._batches.end(batch_id, succeeded_share=succeeded_share, unfinished=INTERNAL_ERROR)
        return self._entry(batch_id)

    def expire(self, batch_id: str, *, succeeded_share: float = 0.0) -> dict[str, Any]:
        """End a batch now as if its 24 hours were over, and return its books entry."""
        self._batches.end(batch_id, succeeded_share=succeeded_share, unfinished=EXPIRED)
        return self._entry(batch_id)

    def calls(self) -> dict[str, int]:
        """How often each operation was called, answered or not."""
        return {**dict.fromkeys(OPERATIONS, 0), **self._routes.calls}

    def books(self, *, detail: bool = True) -> dict[str, Any]:
        """What was created and billed; see the README for its shape.

        :param detail: with every request; without is quick for large batches.
        """
        return books(self._batches.everything(), calls=self.calls(), replies=self._replies, detail=detail)

    def _entry(self, batch_id: str) -> dict[str, Any]:
        entries = self.books(detail=False)["batches"]
        entry: dict[str, Any] = next(entry for entry in entries if entry["id"] == batch_id)
        return entry
