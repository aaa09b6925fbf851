"""Collect message batches that another task or somebody else sent: wait for them and land their rows. Never sends."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.failures import collection_timeout_error, evaluate_outcome, unknown_batches_error
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.download import download_results
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest, load_manifest
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher, RequestMatcher, SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_final
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.steps import OUTAGE_ERRORS, OUTAGE_RETRY_DELAY, DoneStep, WaitStep
from airflow_claude_batch.exceptions import NotFoundError

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
    :param not_found: batches that the API did not find at the last poll, with its message.
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
    not_found: dict[str, str] = field(default_factory=dict)

    def advance(self) -> WaitStep | DoneStep:
        """Poll what is not landed yet. Land everything when all has ended, or what has ended at the deadline.

        :raises BatchTimeoutError: the deadline has passed, and the batches cannot be polled.
        :raises SubmissionUnknownError: the deadline has passed, and the API does not have the batches that are left.
        :raises APIError: the API refuses.
        """
        try:
            step = self._next_step()
        except OUTAGE_ERRORS as error:
            step = self._wait_after_outage(error)
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

    def stop(self) -> None:
        """Do nothing: a collection never sends."""

    def _next_step(self) -> WaitStep | DoneStep:
        known = self._load_manifest()
        landed = frozenset(self._landed_batch_ids(known) if known else ()).intersection(self.batch_ids)
        batches = [batch for id_ in self.batch_ids if id_ not in landed and (batch := self._poll(id_)) is not None]
        ended = [batch for batch in batches if batch.ended]
        open_ = tuple(id_ for id_ in self.batch_ids if id_ not in landed.union(batch.id for batch in ended))
        if open_ and self.clock() < self.deadline:
            oldest = min((batch.created_at for batch in batches if not batch.ended), default=None)
            return WaitStep(open_, "all", self.deadline, self._waiting_reason(open_), submitted_at=oldest)
        return self._land(ended, known, landed, open_)

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

    def _load_manifest(self) -> Manifest | None:
        """Read what was landed before, by this task or another one.

        Rows of batches made elsewhere count only if they are complete: a missing row does not tell its batch.
        """
        known = load_manifest(self.folder)
        if known is None or self.requests is not None:
            return known
        return known if known.status == "ended" and set(known.landed_batch_ids) == set(self.batch_ids) else None

    def _landed_batch_ids(self, known: Manifest) -> Sequence[str]:
        """Return the batches that need no download. If the file of rows is gone, all batches are downloaded."""
        if (file := self.folder.open(RESULTS_FILE)) is not None:
            file.close()
            return known.landed_batch_ids
        return known.landed_batch_ids if known.counts.get("missing") == known.request_count else ()

    def _poll(self, batch_id: str) -> MessageBatch | None:
        """Poll a batch. None if the API does not find it just now: a single 404 proves nothing."""
        try:
            batch = self.client.retrieve_batch(batch_id)
        except NotFoundError as error:
            log.warning("Message batch %s was not found just now; it is polled again. %s", batch_id, error)
            self.not_found[batch_id] = error.summary
            return None
        self.not_found.pop(batch_id, None)
        return batch

    @contextlib.contextmanager
    def _open_matcher(self, ended: Sequence[MessageBatch], known: Manifest | None) -> Iterator[RequestMatcher]:
        if self.requests is None:
            landed = known.request_count if known and not ended else 0
            yield ExternalMatcher(landed + sum(batch.request_counts.total for batch in ended))
            return
        with self.requests() as requests:
            yield SubmissionMatcher(requests, OutputValidator.of(self.folder))

    def _land(
        self, ended: Sequence[MessageBatch], known: Manifest | None, landed: frozenset[str], open_: tuple[str, ...]
    ) -> DoneStep:
        with self._open_matcher(ended, known) as matcher, Landing(matcher, prices=self.prices) as landing:
            if known is not None and (file := self.folder.open(RESULTS_FILE)) is not None:
                with file:
                    landing.restore(file)
            for batch in ended:
                self._download(batch, landing)
            manifest = publish_final(
                landing,
                self.folder,
                self.policy,
                self.client,
                complete=not open_,
                summarize=lambda path: self._summarize(landing, ended, known, landed, path, complete=not open_),
            )
            self._report_durations(ended)
            if denied := {id_: self.not_found[id_] for id_ in open_ if id_ in self.not_found}:
                raise unknown_batches_error(denied)
            if open_:
                return DoneStep(manifest, collection_timeout_error(open_), permanent=False)
            # Permanent, because a retry of the sensor sends nothing. A clear of the operator would.
            return DoneStep(manifest, evaluate_outcome(landing, self.policy, manifest)[0], permanent=True)

    def _summarize(
        self,
        landing: Landing,
        ended: Sequence[MessageBatch],
        known: Manifest | None,
        landed: frozenset[str],
        path: str,
        *,
        complete: bool,
    ) -> Manifest:
        created = [batch.created_at for batch in ended] + [known.created_at if known else None]
        ends = [batch.ended_at for batch in ended] + [known.ended_at if known else None]
        return summarize(
            landing,
            submission_id=self.submission_id,
            status="ended" if complete else "in_progress",
            batch_ids=self.batch_ids,
            landed=landed.union(batch.id for batch in ended),
            results_path=path,
            created_at=min(filter(None, created), default=None),
            ended_at=max(filter(None, ends), default=None),
            estimate=known.estimate if known else None,
        )

    def _download(self, batch: MessageBatch, landing: Landing) -> None:
        try:
            download_results(self.client, batch, landing, sleep=self.sleep)
        except NotFoundError as error:
            raise unknown_batches_error(
                {batch.id: f"it has ended, but its results are gone: {error.summary}"}
            ) from error

    def _report_durations(self, ended: Sequence[MessageBatch]) -> None:
        for batch in ended:
            if batch.ended_at:
                self.observer.batch_ended(batch.ended_at - batch.created_at)
