"""The simulator as one object: how it behaves, how clients reach it, and what it recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch.simulator.accounting import build_books, build_requests
from airflow_claude_batch.simulator.batches.batch import Batch, BatchSettings, OutcomeScript
from airflow_claude_batch.simulator.batches.batches import MessageBatches
from airflow_claude_batch.simulator.clock import Clock, ManualClock, RealClock
from airflow_claude_batch.simulator.control import PREFIX, Control
from airflow_claude_batch.simulator.endpoints.aws import AwsCredentials, AwsPlatform
from airflow_claude_batch.simulator.endpoints.credentials import Credentials, FederationRule, Keys
from airflow_claude_batch.simulator.endpoints.google import GoogleCredentials, GooglePlatform
from airflow_claude_batch.simulator.endpoints.operations import Operations
from airflow_claude_batch.simulator.endpoints.rate_limit import RateLimit
from airflow_claude_batch.simulator.endpoints.routes import BATCH_BODY_BYTES, Routes
from airflow_claude_batch.simulator.faults import OPERATIONS, Fault, FaultScript
from airflow_claude_batch.simulator.http.exchange import Request, Response
from airflow_claude_batch.simulator.http.outages import Outage
from airflow_claude_batch.simulator.http.server import Server
from airflow_claude_batch.simulator.ids import Ids
from airflow_claude_batch.simulator.messages.answers import AnswerScript, AnswerWriter
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer, CannedAnswers, Unmatched
from airflow_claude_batch.simulator.messages.canned_lines import read_answer_dicts, read_answers_file
from airflow_claude_batch.simulator.messages.catalogue import Catalogue
from airflow_claude_batch.simulator.messages.direct_messages import DirectMessages
from airflow_claude_batch.simulator.messages.models import Model
from airflow_claude_batch.simulator.messages.outcomes import EXPIRED, INTERNAL_ERROR
from airflow_claude_batch.simulator.messages.token_buckets import MessageRates, TokenBuckets

if TYPE_CHECKING:
    from airflow_claude_batch.simulator.http.in_process_transport import InProcessTransport


class Simulator:
    """Claude's Message Batches API, simulated in this process.

    Without arguments every batch has ended by the first poll, and every valid request succeeds::

        simulator = Simulator()
        with simulator.serve() as server:
            client = anthropic.Anthropic(api_key="sk-test", base_url=server.url)
            batch = client.messages.batches.create(requests=[...])
        assert simulator.books()["billed_requests"] == 1

    Decide what the requests are answered, and how they end::

        def answer(params, position):
            return json.dumps({"sentiment": "positive"})

        def outcome(custom_id, params, attempt):
            # The first attempt at this request fails, its retry succeeds.
            return "errored:api_error" if attempt == 1 and "row 7" in str(params) else None

        simulator = Simulator(answer=answer, outcome=outcome)

    Or without a function, by the first that matches::

        simulator.add_answers({"prompt": "charged", "text": "billing"}, {"prompt": "(?i)spam", "outcome": "refusal"})

    Let a day pass in no time::

        simulator = Simulator(clock=ManualClock(), batch_seconds=6 * 3600)
        ...  # submit
        simulator.advance(6 * 3600)  # the batch has ended

    Let a call go wrong (see `Fault`)::

        simulator.inject(Fault(do="drop_after_accept", on="create"))

    :param clock: the simulator's time. Default: real time. A `ManualClock` moves only when `advance` is called.
    :param keys: API key to workspace id, or to several ids. None: any key that starts with ``sk-`` is accepted.
    :param batch_seconds: seconds from a batch's creation to its end, or a callable that takes the `Batch` and
        returns them. With 0, the first poll finds the batch ended. Above 24 hours, the unfinished requests expire.
    :param latency_seconds: real seconds added to every response.
    :param queue_limit: most requests in the processing queue. A create call that would exceed it gets a 429.
        None: no limit. (The API's Start tier has 200,000.)
    :param answer: takes ``(params, position in the batch)`` and returns the answer as text, as content blocks, or as
        a dict of message fields such as ``content``, ``stop_reason`` and ``usage``. None means the default answer.
        With a third parameter ``custom_id`` it gets that too. It is called again for each download, so it should
        return the same each time.
    :param answers: canned answers, see `add_answers`: dicts, or the path of a file with a JSON object on each line.
    :param unmatched: what a request gets that no canned answer matches: "default", what it would get without canned
        answers, or "error", an errored row.
    :param default_thinking: whether models that think unless told otherwise do so: their answers begin with a
        thinking block. Requests that ask for thinking get one in any case.
    :param outcome: takes ``(custom_id, params, attempt)`` and returns how the request ends: "succeeded",
        "expired", "canceled", "errored:<type>[:<message>]", "refusal[:<category>]", or a stop reason such as
        "max_tokens". None means succeeded. ``attempt`` counts the batches that contained these very params,
        this one included. It is called once, when the batch ends. Requests with invalid params always error.
    :param shuffle: whether each download returns its rows in another random order.
    :param seed: seed of the row order, of the choice of unfinished requests, and of ids.
    :param ids: "random", or "seed": the ids of batches, messages and calls are the same in every run with that seed.
        Start each run with an empty ``results_path`` then: an old ledger would name new batches.
    :param cancel_seconds: seconds from a cancel call to the end of the batch.
    :param cancel_succeeded_share: share of a canceled batch's requests that succeed before it ends, 0 to 1.
    :param cancel_ended: response to canceling an ended batch: "error" (400) or "unchanged" (200).
    :param unknown_cursor: response to an unknown or deleted cursor of the list: "error" (400) or "empty".
    :param requests_per_minute: calls of batch operations per minute before a 429. None: no limit.
    :param message_seconds: real seconds from a direct request (``POST /v1/messages``) to its answer.
    :param message_rates: limits of direct requests per minute, for each model. Default: more than any tier has.
    :param platform: "anthropic"; or "aws" or an `AwsPlatform`: calls must be signed for Claude Platform on AWS, or
        carry a key, and name a workspace; or "google" or a `GooglePlatform`: calls must carry an access token, and
        their path names project and workspace, as for Claude on Google Cloud.
    :param federation: federation rule id to rule, for ``/v1/oauth/token``. None: any identity is accepted.
    :param results_base_url: start of every ``results_url``. Default: the address that the caller used.
    :param batch_body_bytes: largest body of a create call, in bytes.
    :param models: more models, as ids such as "claude-opus-6" or as `Model`. "*" takes every id.
    :param betas: more values of the ``anthropic-beta`` header. "*" takes every value.
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
        answers: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        unmatched: Unmatched = "default",
        default_thinking: bool = False,
        shuffle: bool = True,
        seed: int = 0,
        ids: Literal["random", "seed"] = "random",
        cancel_seconds: float = 0.0,
        cancel_succeeded_share: float = 0.0,
        cancel_ended: Literal["error", "unchanged"] = "error",
        unknown_cursor: Literal["error", "empty"] = "error",
        requests_per_minute: int | None = None,
        message_seconds: float = 0.0,
        message_rates: MessageRates | None = None,
        platform: Literal["anthropic", "aws", "google"] | AwsPlatform | GooglePlatform = "anthropic",
        federation: Mapping[str, FederationRule] | None = None,
        results_base_url: str | None = None,
        batch_body_bytes: int = BATCH_BODY_BYTES,
        models: Iterable[str | Model] = (),
        betas: Iterable[str] = (),
    ) -> None:
        self.clock: Clock = clock or RealClock()
        self._latency_seconds = latency_seconds
        self._answers = AnswerWriter(answer, default_thinking=default_thinking)
        self._canned = CannedAnswers(unmatched)
        if answers is not None:
            self.add_answers(*([answers] if isinstance(answers, str | Path | Mapping) else answers))
        self._faults = FaultScript()
        made_ids = Ids(seed if ids == "seed" else None)
        self._outage = Outage(made_ids)
        settings = BatchSettings(
            queue_limit=queue_limit,
            cancel_seconds=cancel_seconds,
            cancel_succeeded_share=cancel_succeeded_share,
            cancel_ended=cancel_ended,
            unknown_cursor=unknown_cursor,
            results_base_url=results_base_url,
            shuffle=shuffle,
            seed=seed,
        )
        self._batches = MessageBatches(
            clock=self.clock,
            settings=settings,
            batch_seconds=batch_seconds,
            outcome=outcome,
            canned=self._canned,
            ids=made_ids,
        )
        self._direct = DirectMessages(
            clock=self.clock,
            answers=self._answers,
            canned=self._canned,
            outcome=outcome,
            count_attempt=self._batches.count_attempt,
            cache=self._batches.cache,
            buckets=TokenBuckets(message_rates or MessageRates(), clock=self.clock),
            seconds=message_seconds,
            ids=made_ids,
        )
        credentials = Credentials(clock=self.clock, ids=made_ids, keys=keys, federation=federation)
        self.aws = AwsPlatform() if platform == "aws" else platform if isinstance(platform, AwsPlatform) else None
        self.google = (
            GooglePlatform() if platform == "google" else platform if isinstance(platform, GooglePlatform) else None
        )
        if self.aws is not None:
            credentials = AwsCredentials(self.aws, clock=self.clock, ids=made_ids, keys=keys)
        if self.google is not None:
            credentials = GoogleCredentials(self.google, clock=self.clock, ids=made_ids)
        operations = Operations(
            batches=self._batches,
            credentials=credentials,
            answers=self._answers,
            settings=settings,
            direct=self._direct,
            ids=made_ids,
        )
        self._routes = Routes(
            clock=self.clock,
            credentials=credentials,
            operations=operations,
            faults=self._faults,
            rate_limit=RateLimit(requests_per_minute, clock=self.clock),
            ids=made_ids,
            batch_body_bytes=batch_body_bytes,
            catalogue=Catalogue((models,) if isinstance(models, str | Model) else models),
            betas=(betas,) if isinstance(betas, str) else betas,
        )
        self._control = Control(self)

    def serve(
        self, host: str = "127.0.0.1", port: int = 0, *, names: Sequence[str] = (), tls_folder: Path | None = None
    ) -> Server:
        """Return a server on real sockets, for a ``with`` block.

        Its ``url`` and ``connection()`` are known inside the block. Several servers may serve one simulator.

        ::

            with simulator.serve(tls_folder=tmp_path) as server:
                monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(server.connection()))

        :param host: the address to listen on, or "" for all addresses of this machine.
        :param port: 0 takes a free port.
        :param names: host names or addresses by which clients reach it. The first is the host of ``url``.
        :param tls_folder: serve https. The folder keeps the certificate that clients have to trust, ``ca.pem``.
        :raises ValueError: a name is no host name.
        """
        return Server(
            self.handle,
            body_limit=self._body_limit,
            outage=self._outage,
            host=host,
            port=port,
            names=names,
            tls_folder=tls_folder,
        )

    def transport(self) -> InProcessTransport:
        """Return an httpx transport, for ``httpx.Client`` and ``httpx.AsyncClient`` alike. It opens no socket.

        ::

            client = httpx.Client(transport=simulator.transport(), base_url="http://simulator")
        """
        # Imported here because only callers of this method need httpx.
        from airflow_claude_batch.simulator.http.in_process_transport import InProcessTransport

        return InProcessTransport(self.handle, body_limit=self._body_limit, outage=self._outage)

    def handle(self, request: Request) -> Response:
        """Respond to one call, from the server or from the in-process transport.

        :raises TransportFailure: when the call gets no response.
        """
        if request.path.startswith(PREFIX):
            return self._control.handle(request)
        if self.google is not None:
            request = self.google.inner(request)
        response = self._outage.response() or self._routes.handle(request)
        response.delay_seconds += self._latency_seconds
        if response.date_offset_seconds is not None:
            date = self.clock.now() + timedelta(seconds=response.date_offset_seconds)
            response.headers["date"] = format_datetime(date, usegmt=True)
        return response

    def _body_limit(self, path: str) -> int:
        return self._routes.body_limit(path if self.google is None else self.google.inner_path(path))

    def inject(self, *faults: Fault) -> None:
        """Add faults. Where several could apply to a call, the one injected first does."""
        self._faults.inject(faults)

    def clear_faults(self) -> None:
        """Remove the faults that have not happened yet."""
        self._faults.clear()

    def add_answers(self, *answers: Mapping[str, Any] | str | Path, unmatched: Unmatched | None = None) -> None:
        """Add canned answers. Where several match a request, the one added first is its answer.

        ::

            simulator.add_answers(
                {"prompt": "charged", "text": "billing"},
                {"prompt": "(?i)refund", "attempt": 1, "outcome": "expired"},
                {"index": 7, "json": {"topic": "other"}},
            )
            simulator.add_answers("answers.jsonl", unmatched="error")

        They are looked for when a batch ends, so batches in progress get them too.

        :param answers: each a dict, or the path of a file with a JSON object on each line. It holds one of ``text``,
            ``json``, ``message``, ``outcome`` and ``result``, and the conditions ``custom_id``, ``custom_id_pattern``,
            ``index``, ``prompt`` and ``attempt``, all of which must hold. Without any it is for every request.
        :param unmatched: "default" or "error", from now on. None: as before.
        :raises ValueError: when one cannot be understood, or could never match. None of them is added then.
        """
        dicts = [answer for answer in answers if not isinstance(answer, str | Path)]
        read = iter(read_answer_dicts(dicts))
        found = [
            added
            for answer in answers
            for added in (read_answers_file(answer) if isinstance(answer, str | Path) else [next(read)])
        ]
        self.add_canned_answers(found, unmatched=unmatched)

    def add_canned_answers(self, answers: Sequence[CannedAnswer], *, unmatched: Unmatched | None = None) -> None:
        """Add answers that are read already, see `add_answers`."""
        if unmatched is not None:
            self._canned.set_unmatched(unmatched)
        self._canned.add(answers)

    def clear_answers(self) -> None:
        """Remove the canned answers, for batches that have not ended yet."""
        self._canned.clear()
        self._canned.set_unmatched("default")

    def answers(self) -> list[dict[str, Any]]:
        """Return how many requests each canned answer was for: ``[{"answer": "answers[0]", "matched": 2}, …]``."""
        self._batches.all_batches()  # ends those that are due
        return self._canned.report()

    def outage(self, kind: str, *, seconds: float | None = None) -> None:
        """Let every call fail, in place of any earlier outage.

        :param kind: "refuse" (connections are refused), "hang" (no response), "html" (a proxy's error page)
            or "status:503" (any status from 400 to 599).
        :param seconds: real seconds that it lasts. None: until `end_outage`.
        :raises ValueError: when the kind is unknown.
        """
        self._outage.begin(kind, seconds=seconds)

    def end_outage(self) -> None:
        """Respond to calls again."""
        self._outage.end()

    def pace(self, batch_seconds: float | Callable[[Batch], float]) -> None:
        """Change how long batches take, including the batches in progress."""
        self._batches.set_duration(batch_seconds)

    def advance(self, seconds: float) -> datetime:
        """Move a manual clock forward and return the new time.

        :raises RuntimeError: when the clock is not a `ManualClock`.
        """
        clock = self.clock if isinstance(self.clock, ManualClock) else None
        if clock is None:
            raise RuntimeError(
                "The simulator runs on real time, which cannot be advanced.\n"
                "Create it with Simulator(clock=ManualClock()), or start it with --manual-clock."
            )
        return clock.advance(seconds)

    def end(self, batch_id: str, *, succeeded_share: float = 1.0) -> dict[str, Any]:
        """End a batch now and return its entry of `books`.

        :param succeeded_share: share of the requests that succeed, 0 to 1. The others end with ``api_error``.
        """
        self._batches.end(batch_id, succeeded_share=succeeded_share, unfinished=INTERNAL_ERROR)
        return self._entry(batch_id)

    def expire(self, batch_id: str, *, succeeded_share: float = 0.0) -> dict[str, Any]:
        """End a batch now, as if its 24 hours had passed, and return its entry of `books`.

        :param succeeded_share: share of the requests that succeed, 0 to 1. The others expire.
        """
        self._batches.end(batch_id, succeeded_share=succeeded_share, unfinished=EXPIRED)
        return self._entry(batch_id)

    def calls(self) -> dict[str, int]:
        """Count the calls of each operation, including those that failed."""
        return {**dict.fromkeys(OPERATIONS, 0), **self._routes.calls}

    def books(self, *, detail: bool = True) -> dict[str, Any]:
        """Return what was created and what was billed, over all workspaces.

        ::

            {
                "batches": [
                    {
                        "id": "msgbatch_01…", "workspace": "wrkspc_…", "processing_status": "ended",
                        "created_at": "…", "ended_at": "…", "request_count": 3, "deleted": False,
                        "requests": [
                            {"custom_id": "…", "params_sha256": "…", "outcome": "succeeded", "billed": True,
                             "usage": {…}},
                            …
                        ],
                    }
                ],
                "direct": {
                    "billed_requests": 1,
                    "requests": [
                        {"workspace": "wrkspc_…", "created_at": "…", "params_sha256": "…", "prompt": "…", "usage": {…}},
                        …
                    ],
                    "billed": {"<params_sha256>": 1, …},
                },
                "calls": {"create": 1, "retrieve": 4, …},
                "billed_requests": 3,
                "billed": {"<params_sha256>": 1, …},
            }

        ``params_sha256`` is the SHA-256 of the params as JSON with sorted keys, no spaces, in UTF-8. In ``billed``
        each number says how often these params were billed, so a 2 is a request that was paid for twice.

        ``direct`` has what was answered outside of batches, at full price. It is in no other number: params that are
        ``billed`` here and there were paid for twice, too.

        :param detail: False leaves out ``requests`` and ``billed``, which is fast for large batches.
        """
        return build_books(
            self._batches.all_batches(),
            self._direct.billed(),
            calls=self.calls(),
            answers=self._answers,
            detail=detail,
        )

    def requests(self) -> list[dict[str, Any]]:
        """Return every request of every batch, in the order of creation, over all workspaces.

        ::

            [
                {"batch_id": "msgbatch_01…", "custom_id": "…", "params": {"model": "…", …}, "prompt": "Why …?",
                 "outcome": "succeeded", "billed": True},
                …
            ]

        ``prompt`` is the text of the last user message. ``outcome`` is None until the batch has ended.
        """
        return build_requests(self._batches.all_batches())

    def _entry(self, batch_id: str) -> dict[str, Any]:
        entries = self.books(detail=False)["batches"]
        entry: dict[str, Any] = next(entry for entry in entries if entry["id"] == batch_id)
        return entry
