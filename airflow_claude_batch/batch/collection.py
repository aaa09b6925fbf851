"""Collect message batches that another task or somebody else sent: wait for them and land their rows. Never sends."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api.time_limit import calls_until
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.collection_landing import CollectionLanding
from airflow_claude_batch.batch.failures import (
    collection_timeout_error,
    unknown_batches_error,
    unread_results_error,
)
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landed_before import LandedBefore
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.snapshot import SnapshotPart, parts_of_batches
from airflow_claude_batch.batch.land.unread import UnreadBatches, is_gone, load_unread, next_read_at, save_unread
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.steps import (
    OUTAGE_RETRY_DELAY,
    SHORTEST_PAUSE,
    DoneStep,
    WaitStep,
    is_outage,
    is_refusal,
)
from airflow_claude_batch.exceptions import APIError, ResultsError, SubmissionUnknownError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Collection:
    """Message batches to wait for and to land. Call ``advance()`` until it returns a ``DoneStep``.

    Example::

        collection = Collection(client=client, batch_ids=["msgbatch_…"], folder=folder, requests=None, ...)
        while isinstance(step := collection.advance(), WaitStep):
            wait_for_batches(client, step.batch_ids, wait_for=step.wait_for, until=step.until)
        print(step.manifest.counts)

    :param submission_id: names the collection in its manifest.
    :param folder: where the rows and the manifest are published.
    :param requests: opens the requests of the submission that sent the batches. Called once everything has ended. Then
        the rows come in input order under the author's keys. None for batches made elsewhere: their rows come in order
        of arrival, with their custom_ids as keys.
    :param deadline: when to stop waiting.
    :param settle: called with the bill once everything has ended and was read. For the budget of the day.
    :param answers: where the answers of batches that this package has sent are stored. None for no store.
    :param in_contact: an earlier look reached the API. Then a refused credential is waited out: a key may be rotated.
    """

    client: ClaudeClient
    submission_id: str
    batch_ids: Sequence[str]
    folder: storage.Folder
    requests: Callable[[], RequestFile] | None
    policy: Policy
    prices: PriceTable
    deadline: datetime
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    observer: Observer = field(default_factory=NullObserver)
    settle: Callable[[Bill], None] | None = None
    answers: AnswerReuse | None = None
    in_contact: bool = False
    refusal: APIError | None = field(default=None, init=False)
    #: Everything had been landed when this process began.
    _is_old: bool = field(default=True, init=False)
    _unread: UnreadBatches = field(init=False)
    #: Batches that ran, and those whose rows were there, at the last poll.
    _running: tuple[str, ...] = field(default=(), init=False)
    _landed: frozenset[str] = field(default=frozenset(), init=False)
    _batches: dict[str, MessageBatch] = field(default_factory=dict, init=False)
    _request_count: int = field(default=0, init=False)
    #: The manifest in the folder at the last poll: the one of the task that sent the batches, or of an earlier landing.
    _manifest: Manifest | None = field(default=None, init=False)
    #: Batches without a row for every request, as the API's counts agree or because custom_ids were changed on the way.
    #: They are not listed as landed: the operator would send the requests without a row again.
    _agreed: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._unread = UnreadBatches((), clock=self.clock, deadline=self.deadline)

    def advance(self) -> WaitStep | DoneStep:
        """Poll what is not landed yet. Land everything when all has ended, or what has ended at the deadline.

        :raises BatchTimeoutError: the deadline has passed, and the batches cannot be polled.
        :raises SubmissionUnknownError: the API has denied a batch for long, or at the deadline.
        :raises APIError: the API refuses.
        """
        try:
            with calls_until((self.deadline - self.clock()).total_seconds()):
                step = self._next_step()
        except APIError as error:
            if is_refusal(error) and self.in_contact:
                step = self._wait_after_refusal(error)
            elif is_outage(error):
                step = self._wait_after_outage(error)
            else:
                raise
        except ResultsError as error:
            if isinstance(error, DamagedPartError):
                error.part.drop()
            step = self._wait_after_outage(error)
        else:
            self.in_contact, self.refusal = True, None
        if isinstance(step, DoneStep):
            return step
        return dataclasses.replace(step, open_batch_ids=self.open_batch_ids)

    def mark_lost(self, batch_id: str, reason: str) -> None:
        """Fail, because a batch is gone at the API and a sensor cannot send anything again.

        :raises SubmissionUnknownError: always.
        """
        raise unknown_batches_error({batch_id: reason})

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        """All batches. The API refuses to cancel those that have ended."""
        return tuple(self.batch_ids)

    @property
    def request_count(self) -> int:
        """The number of requests, 0 before the first poll."""
        return self._request_count

    @property
    def estimate(self) -> dict[str, object] | None:
        """The estimate of the task that has sent the batches, None before the first poll and if there is none."""
        return self._manifest.estimate if self._manifest is not None else None

    def parts(self) -> list[SnapshotPart]:
        """Return the message batches: those in progress first."""
        sizes = self._manifest.batch_request_counts if self._manifest is not None else None
        return parts_of_batches(self.batch_ids, self._running, self._landed, self._batches, sizes or {})

    @property
    def not_found(self) -> dict[str, str]:
        """Batches that the API did not find at the last poll, with its message."""
        return {batch.batch_id: batch.reason for batch in self._unread if batch.trouble == Trouble.NO_BATCH}

    def stop(self) -> None:
        """Do nothing: a collection never sends."""

    def _next_step(self) -> WaitStep | DoneStep:
        before = LandedBefore.read(self.folder, self.batch_ids, is_external=self.requests is None)
        noted = load_unread(self.folder)
        self._unread = UnreadBatches(noted, clock=self.clock, deadline=self.deadline)
        step: WaitStep | DoneStep | None = None
        try:
            step = self._poll_and_land(before)
        except SubmissionUnknownError:
            self._unread.clear()
            raise
        finally:
            if isinstance(step, DoneStep):
                self._unread.clear()  # a clear of the task looks at once
            if tuple(self._unread) != noted:
                save_unread(self.folder, self._unread)
        return step

    def _poll_and_land(self, before: LandedBefore) -> WaitStep | DoneStep:
        landed = before.landed_batch_ids()
        polled = [self._unread.retrieve(self.client, id_) for id_ in self.batch_ids if id_ not in landed]
        batches = [batch for batch in polled if batch is not None]
        ended = [batch for batch in batches if batch.ended]
        open_ = tuple(id_ for id_ in self.batch_ids if id_ not in landed.union(batch.id for batch in ended))
        self._running, self._landed, self._manifest = open_, landed, before.manifest
        self._batches |= {batch.id: batch for batch in batches}
        counted = sum(batch.request_counts.total for batch in batches)
        self._request_count = before.manifest.request_count if before.manifest is not None else counted
        if gone := {
            batch.batch_id: batch.reason for batch in self._unread if batch.batch_id in open_ and is_gone(batch)
        }:
            if ended:
                self._landing(before).land(ended, complete=False)
            raise unknown_batches_error(gone)
        self._is_old &= not (open_ or ended)
        if self.clock() < self.deadline:
            if open_:
                return self._wait_for(open_, batches, before)
            if ended and not any(self._unread.is_due(batch.id) for batch in ended):
                return self._wait_for_rows()
        return self._land_and_evaluate(ended, before, open_)

    def _wait_for(self, open_: tuple[str, ...], batches: Sequence[MessageBatch], before: LandedBefore) -> WaitStep:
        """Wait for batches that run. After a second 404 in a row, a timer decides when to look again."""
        oldest = min((batch.created_at for batch in batches if not batch.ended), default=None)
        timed = [batch for batch in self._unread if batch.batch_id in open_ and batch.polls > 1]
        running = tuple(id_ for id_ in open_ if id_ not in {batch.batch_id for batch in timed})
        landed = before.manifest.result_count if before.manifest is not None else 0
        return WaitStep(
            running,
            "all",
            self._next_reading(timed),
            self._waiting_reason(open_),
            submitted_at=oldest,
            ended_batches=len(self.batch_ids) - len(open_),
            ended_requests=landed + sum(batch.request_counts.total for batch in batches if batch.ended),
        )

    def _wait_for_rows(self) -> WaitStep:
        unread = self._incomplete
        ids = ", ".join(batch.batch_id for batch in unread)
        return WaitStep((), "any", self._next_reading(unread), f"the results of {ids} are incomplete; read again later")

    @property
    def _incomplete(self) -> list[UnreadBatch]:
        """Ended batches whose results could not be read whole."""
        return [batch for batch in self._unread if batch.trouble != Trouble.NO_BATCH]

    def _next_reading(self, unread: Sequence[UnreadBatch]) -> datetime:
        soonest = min(map(next_read_at, unread), default=self.deadline)
        return min(max(soonest, self.clock() + SHORTEST_PAUSE), self.deadline)

    def _waiting_reason(self, open_: tuple[str, ...]) -> str:
        batches, is_one = quantity(len(open_), "message batch"), len(open_) == 1
        if self.not_found:
            return f"{batches} {'has' if is_one else 'have'} not ended or {'was' if is_one else 'were'} not found"
        return f"{batches} {'is' if is_one else 'are'} in progress"

    def _wait_after_outage(self, error: Exception) -> WaitStep:
        if self.clock() >= self.deadline:
            raise collection_timeout_error(self.batch_ids, error) from error
        log.warning("An outage stops the collection for now; it continues in %s. %s", OUTAGE_RETRY_DELAY, error)
        until = min(self.clock() + OUTAGE_RETRY_DELAY, self.deadline)
        return WaitStep((), "any", until, "the API or the storage cannot be reached")

    def _wait_after_refusal(self, error: APIError) -> WaitStep:
        """Wait for the batches once more: the wait reads the connection again, and fails if the refusal lasts."""
        self.refusal = error
        if self.clock() >= self.deadline:
            raise collection_timeout_error(self.batch_ids, error) from error
        log.warning("The API rejects the connection's credential. The batches go on, and are waited for. %s", error)
        reason = "the API rejects the connection's credential"
        return WaitStep(tuple(self.batch_ids), "all", self.deadline, reason, read_connection=True)

    # ------------------------------------------------------------------ landing

    def _land_and_evaluate(
        self, ended: Sequence[MessageBatch], before: LandedBefore, open_: tuple[str, ...]
    ) -> WaitStep | DoneStep:
        """Land what has ended. While rows are missing and there is time, wait for them."""
        manifest, error = self._landing(before).land(ended, complete=not open_)
        if gone := {batch.batch_id: _gone_reason(batch) for batch in self._incomplete if is_gone(batch)}:
            raise unknown_batches_error(gone)
        if self._incomplete and self.clock() < self.deadline:
            return self._wait_for_rows()
        if denied := {id_: self.not_found[id_] for id_ in open_ if id_ in self.not_found}:
            raise unknown_batches_error(denied)
        if open_:
            return DoneStep(manifest, collection_timeout_error(open_), permanent=False)
        if self._incomplete:
            return DoneStep(manifest, unread_results_error(self._incomplete), permanent=False)
        # Permanent, because a retry of the sensor sends nothing. A clear of the operator would.
        return DoneStep(manifest, error, permanent=True, is_old=self._is_old)

    def _landing(self, before: LandedBefore) -> CollectionLanding:
        return CollectionLanding(
            client=self.client,
            submission_id=self.submission_id,
            batch_ids=self.batch_ids,
            folder=self.folder,
            requests=self.requests,
            policy=self.policy,
            prices=self.prices,
            sleep=self.sleep,
            observer=self.observer,
            settle=self.settle,
            answers=self.answers,
            before=before,
            landed=self._landed,
            unread=self._unread,
            agreed=self._agreed,
        )


def _gone_reason(batch: UnreadBatch) -> str:
    return f"it has ended, but its results are gone: {batch.reason}"
