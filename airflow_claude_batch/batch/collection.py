"""Batches that somebody else sent: waits for them and lands their answers. Never sends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import manifest as manifests
from airflow_claude_batch.batch import results, storage
from airflow_claude_batch.batch.canceling import cancel_batch
from airflow_claude_batch.batch.collect import fetch
from airflow_claude_batch.batch.ending import publish_end
from airflow_claude_batch.batch.landing import ForeignSlots, Landing, OwnSlots, Slots
from airflow_claude_batch.batch.manifest import Manifest
from airflow_claude_batch.batch.policy import Done, Policy, Waiting
from airflow_claude_batch.batch.pricing import PriceTable
from airflow_claude_batch.batch.requests import Requests
from airflow_claude_batch.batch.validator import OutputValidator
from airflow_claude_batch.batch.verdict import judge, lost_batch, still_running
from airflow_claude_batch.exceptions import NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Collection:
    """Message batches to wait for and to land.

    ``requests``: those of the submission that the batches are of, whose rows then come in input order under the
    author's keys. None for batches made elsewhere: their rows come in order of arrival, their custom_ids as keys.
    """

    client: ClaudeClient
    submission_id: str
    batch_ids: Sequence[str]
    folder: storage.Folder
    requests: Requests | None
    policy: Policy
    prices: PriceTable
    deadline: datetime
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    not_found: dict[str, str] = field(default_factory=dict)

    def advance(self) -> Waiting | Done:
        """Look once at what is not landed yet, and land it all when everything has ended or the time is over.

        :raises APIError: the API cannot be reached, or refuses.
        :raises ResultsError: the answers are there but could not be landed.
        """
        landed = manifests.landed_batch_ids(self.folder).intersection(self.batch_ids)
        batches = [batch for id_ in self.batch_ids if id_ not in landed and (batch := self._look(id_)) is not None]
        ended = {batch.id for batch in batches if batch.ended} | landed
        open_ = tuple(id_ for id_ in self.batch_ids if id_ not in ended)
        if open_ and self.clock() < self.deadline:
            return Waiting(open_, "all", self.deadline, f"{len(open_)} message batch(es) in progress")
        return self._land([batch for batch in batches if batch.ended], landed, open_)

    def give_up_on(self, batch_id: str, reason: str) -> None:
        """Take note that a batch cannot be found although looked for again and again.

        :raises SubmissionUnknownError: always: a sensor cannot send anything again.
        """
        raise lost_batch(batch_id, reason)

    def cancel(self) -> None:
        """Ask the API to cancel the batches."""
        for batch_id in self.batch_ids:
            cancel_batch(self.client, batch_id)

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

    def _slots(self, batches: Sequence[MessageBatch]) -> Slots:
        if self.requests is not None:
            return OwnSlots(self.requests, OutputValidator.of(self.folder))
        return ForeignSlots(sum(batch.request_counts.total for batch in batches))

    def _land(self, ended: Sequence[MessageBatch], landed: frozenset[str], open_: tuple[str, ...]) -> Done:
        with Landing(self._slots(ended), prices=self.prices) as landing:
            if self.requests is not None and (file := self.folder.open(results.FILE)) is not None:
                with file:
                    landing.restore(file)
            for batch in ended:
                self._fetch(batch, landing)
            manifest = publish_end(
                landing,
                self.folder,
                self.policy,
                self.client,
                complete=not open_,
                summarize=lambda path: self._manifest(landing, ended, landed, path, complete=not open_),
            )
            if open_:
                return Done(manifest, still_running(open_), permanent=False)
            # A sensor's retry sends nothing, so that it can mend nothing: the operator's can.
            return Done(manifest, judge(landing, self.policy, manifest)[0], permanent=True)

    def _manifest(
        self, landing: Landing, ended: Sequence[MessageBatch], landed: frozenset[str], path: str, *, complete: bool
    ) -> Manifest:
        return manifests.summarize(
            landing,
            submission_id=self.submission_id,
            status="ended" if complete else "in_progress",
            batch_ids=self.batch_ids,
            landed=landed.union(batch.id for batch in ended),
            results_path=path,
            created_at=min((batch.created_at for batch in ended), default=None),
            ended_at=max((batch.ended_at for batch in ended if batch.ended_at), default=None),
        )

    def _fetch(self, batch: MessageBatch, landing: Landing) -> None:
        try:
            fetch(self.client, batch, landing, sleep=self.sleep)
        except NotFoundError as error:
            raise lost_batch(batch.id, f"it has ended, but its results are gone: {error}") from error
