"""Collect the results of ended message batches and publish their rows.

Invariant: a part is marked as landed in the ledger only after its rows and the manifest are in the folder. A crash in
between costs a second download, never an answer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.download import download_results
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, Manifest, counts_more_answers, write_manifest
from airflow_claude_batch.batch.land.publish import publish_rows, writing_to
from airflow_claude_batch.batch.land.rows import FINAL, RESULTS_FILE, count_statuses
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.exceptions import NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class ResultCollector:
    """Moves results from the API into the submission's folder, during one ``advance()``.

    It remembers which batches were downloaded and whose rows are not published yet. That memory ends with the landing.

    :param mark_lost: called with a batch id and the reason when an ended batch has no results any more.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    landing: Landing
    observer: Observer
    sleep: Callable[[float], None]
    mark_lost: Callable[[str, str], None]
    #: Downloaded batches whose rows are not published yet, with the time of their end.
    _unpublished: dict[str, datetime | None] = field(default_factory=dict, init=False)
    _lacks_published_rows: bool = field(default=False, init=False)

    def restore(self) -> None:
        """Read the rows that this task or the sensor published before.

        :raises ResultsError: the file is damaged.
        """
        if (file := self.folder.open(RESULTS_FILE)) is not None:
            with file:
                self.landing.restore(file)
            self._lacks_published_rows = counts_more_answers(self.folder, count_statuses(self.landing.statuses))

    def collect(self) -> None:
        """Download every open batch that has ended, and publish its rows.

        :raises ResultsError: a download stays incomplete, or the storage refuses the rows.
        """
        for batch_id in self.record.ledger.open_batch_ids:
            try:
                batch = self.client.retrieve_batch(batch_id)
            except NotFoundError as error:
                # A single 404 proves nothing. Only the wait, which asks for ten minutes, calls ``mark_lost``.
                log.warning("Message batch %s was not found just now; it is polled again. %s", batch_id, error)
                continue
            if batch.ended:
                self._download(batch)
        self._download_missing_rows()
        self.publish()

    def publish(self) -> None:
        """Write the downloaded rows, then the manifest, then the ledger. Only then are the parts landed."""
        if not self._unpublished:
            return
        publish_rows(self.landing, self.folder, missing=None)
        last_end = max((at for at in self._unpublished.values() if at is not None), default=None)
        landed = self.record.ledger.with_landed(self._unpublished, last_end)
        self._report_durations()
        with writing_to(self.folder, MANIFEST_FILE):
            write_manifest(self.folder, summarize_submission(landed, self.landing, self.folder, "in_progress"))
        self.record.save(landed)
        self._unpublished.clear()

    def _download(self, batch: MessageBatch) -> None:
        try:
            members = self.record.ledger.indices_of(batch.id)
            download_results(self.client, batch, self.landing, sleep=self.sleep, members=members)
        except NotFoundError as error:
            self.mark_lost(batch.id, f"it has ended, but its results are gone: {error.summary}")
        else:
            self._unpublished[batch.id] = batch.ended_at

    def _download_missing_rows(self) -> None:
        """Before anything is sent again, download landed batches whose rows are missing from the folder.

        Another process may have replaced the file by an older one. Those rows are paid for. If the manifest counts
        more answers than there are rows, every landed batch is read; otherwise only those without any row.
        """
        if all(status in FINAL for status in self.landing.statuses):
            return
        complete = self._unpublished.keys() if self._lacks_published_rows else self.landing.batch_ids
        self._lacks_published_rows = False
        for batch_id in self.record.ledger.landed_batch_ids - complete:
            try:
                batch, members = self.client.retrieve_batch(batch_id), self.record.ledger.indices_of(batch_id)
                download_results(self.client, batch, self.landing, sleep=self.sleep, members=members)
            except NotFoundError as error:
                log.info("Message batch %s has no landed row, and the API has deleted it. %s", batch_id, error)
                self.landing.batch_ids.add(batch_id)
            else:
                self._unpublished[batch_id] = None

    def _report_durations(self) -> None:
        for part in self.record.ledger.open_parts:
            ended_at = self._unpublished.get(part.batch_id or "")
            if ended_at and part.created_at:
                self.observer.batch_ended(ended_at - part.created_at)


def summarize_submission(
    ledger: Ledger, landing: Landing, folder: storage.Folder, status: str, results_path: str | None = None
) -> Manifest:
    """Make the manifest of a submission from its ledger and its rows.

    :param status: ``in_progress`` or ``ended``.
    :param results_path: where the rows are, by default ``results.jsonl`` in the folder.
    """
    return summarize(
        landing,
        submission_id=ledger.submission_id,
        status=status,
        batch_ids=ledger.batch_ids,
        landed=ledger.closed_batch_ids,
        results_path=results_path or folder.uri(RESULTS_FILE),
        created_at=ledger.created_at,
        ended_at=ledger.ended_at,
        estimate=ledger.estimate,
    )
