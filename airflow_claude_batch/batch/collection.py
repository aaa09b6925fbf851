"""Batches that somebody else sent: waits for them and lands their answers. Never sends."""

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
from airflow_claude_batch.batch.steps import OUTAGE_ERRORS, OUTAGE_RETRY_DELAY, DoneStep, WaitStep
from airflow_claude_batch.exceptions import NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Collection:
    """Message batches to wait for and to land.

    ``requests`` opens those of the submission that the batches are of, whose rows then come in input order under the
    author's keys; it is called once everything has ended. None for batches made elsewhere: their rows come in order of
    arrival, their custom_ids as keys.
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
        """Look once at what is not landed yet, and land it all when everything has ended or the time is over.

        :raises BatchTimeoutError: the time is over, and the batches cannot be looked at.
        :raises SubmissionUnknownError: the time is over, and the API denies the batches that are left.
        :raises APIError: the API refuses.
        """
        try:
            step = self._step()
        except OUTAGE_ERRORS as error:
            if self.clock() >= self.deadline:
                raise collection_timeout_error(self.batch_ids, error) from error
            log.warning("Could not go on just now, trying again in %s: %s", OUTAGE_RETRY_DELAY, error)
            until = min(self.clock() + OUTAGE_RETRY_DELAY, self.deadline)
            step = WaitStep((), "any", until, "the API cannot be reached, or not all of the answers")
        if isinstance(step, DoneStep):
            return step
        return dataclasses.replace(step, open_batch_ids=self.open_batch_ids)

    def mark_lost(self, batch_id: str, reason: str) -> None:
        """Take note that a batch cannot be found although looked for again and again.

        :raises SubmissionUnknownError: always: a sensor cannot send anything again.
        """
        raise unknown_batches_error({batch_id: reason})

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        """All: those that have ended refuse to be canceled."""
        return tuple(self.batch_ids)

    def stop(self) -> None:
        """Nothing is ever sent from here."""

    def _step(self) -> WaitStep | DoneStep:
        known = self._known()
        landed = frozenset(self._landed(known) if known else ()).intersection(self.batch_ids)
        batches = [batch for id_ in self.batch_ids if id_ not in landed and (batch := self._look(id_)) is not None]
        ended = [batch for batch in batches if batch.ended]
        open_ = tuple(id_ for id_ in self.batch_ids if id_ not in landed.union(batch.id for batch in ended))
        if open_ and self.clock() < self.deadline:
            made = min((batch.created_at for batch in batches if not batch.ended), default=None)
            reason = f"{len(open_)} message batch(es) in progress"
            return WaitStep(open_, "all", self.deadline, reason, submitted_at=made)
        return self._land(ended, known, landed, open_)

    def _known(self) -> Manifest | None:
        """What was landed before, by whichever task.

        Rows of batches made elsewhere count only if they are all there: a missing one does not say of which batch.
        """
        known = load_manifest(self.folder)
        if known is None or self.requests is not None:
            return known
        return known if known.status == "ended" and set(known.landed_batch_ids) == set(self.batch_ids) else None

    def _landed(self, known: Manifest) -> Sequence[str]:
        """The batches that need not be fetched; if the rows are gone of which the manifest speaks, all do."""
        if (file := self.folder.open(RESULTS_FILE)) is not None:
            file.close()
            return known.landed_batch_ids
        return known.landed_batch_ids if known.counts.get("missing") == known.request_count else ()

    def _look(self, batch_id: str) -> MessageBatch | None:
        """None when the API denies it just now: a single 404 may be a blip."""
        try:
            batch = self.client.retrieve_batch(batch_id)
        except NotFoundError as error:
            log.warning("%s was not found just now: %s", batch_id, error)
            self.not_found[batch_id] = str(error)
            return None
        self.not_found.pop(batch_id, None)
        return batch

    @contextlib.contextmanager
    def _slots(self, ended: Sequence[MessageBatch], known: Manifest | None) -> Iterator[RequestMatcher]:
        if self.requests is None:
            landed = known.request_count if known and not ended else 0
            yield ExternalMatcher(landed + sum(batch.request_counts.total for batch in ended))
            return
        with self.requests() as requests:
            yield SubmissionMatcher(requests, OutputValidator.of(self.folder))

    def _land(
        self, ended: Sequence[MessageBatch], known: Manifest | None, landed: frozenset[str], open_: tuple[str, ...]
    ) -> DoneStep:
        with self._slots(ended, known) as slots, Landing(slots, prices=self.prices) as landing:
            if known is not None and (file := self.folder.open(RESULTS_FILE)) is not None:
                with file:
                    landing.restore(file)
            for batch in ended:
                self._fetch(batch, landing)
            manifest = publish_final(
                landing,
                self.folder,
                self.policy,
                self.client,
                complete=not open_,
                summarize=lambda path: self._manifest(landing, ended, known, landed, path, complete=not open_),
            )
            for batch in ended:
                if batch.ended_at:
                    self.observer.batch_ended(batch.ended_at - batch.created_at)
            if denied := {id_: self.not_found[id_] for id_ in open_ if id_ in self.not_found}:
                raise unknown_batches_error(denied)
            if open_:
                return DoneStep(manifest, collection_timeout_error(open_), permanent=False)
            # A sensor's retry sends nothing, so that it can mend nothing: the operator's can.
            return DoneStep(manifest, evaluate_outcome(landing, self.policy, manifest)[0], permanent=True)

    def _manifest(
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
        endings = [batch.ended_at for batch in ended] + [known.ended_at if known else None]
        return summarize(
            landing,
            submission_id=self.submission_id,
            status="ended" if complete else "in_progress",
            batch_ids=self.batch_ids,
            landed=landed.union(batch.id for batch in ended),
            results_path=path,
            created_at=min(filter(None, created), default=None),
            ended_at=max(filter(None, endings), default=None),
            estimate=known.estimate if known else None,
        )

    def _fetch(self, batch: MessageBatch, landing: Landing) -> None:
        try:
            download_results(self.client, batch, landing, sleep=self.sleep)
        except NotFoundError as error:
            raise unknown_batches_error({batch.id: f"it has ended, but its results are gone: {error}"}) from error
