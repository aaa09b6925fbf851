"""Collect the results of ended message batches and publish their rows.

Invariants: A part is marked as landed in the ledger only after its rows and the manifest are in the folder. A crash in
between costs a second download, never an answer. A part whose results could not be read whole stays open, so that none
of its requests is sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.download import Download, Outcome, download_results
from airflow_claude_batch.batch.land.landed_parts import landed_lines
from airflow_claude_batch.batch.land.landed_rows import count_results
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import (
    MANIFEST_FILE,
    Manifest,
    counts_more_answers,
    load_manifest,
    write_manifest,
)
from airflow_claude_batch.batch.land.publish import publish_part, publish_rows, writing_to
from airflow_claude_batch.batch.land.restore import restore_rows
from airflow_claude_batch.batch.land.rows import FINAL, RESULTS_FILE, Status, count_statuses, count_where
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.land.unread import UnreadBatches, is_gone
from airflow_claude_batch.batch.ledger.approval import ApprovalState
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: Rows in bytes that each resumption may read one by one. More of them are made a landed part first.
_QUICKLY_READ: Final = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class ResultCollector:
    """Moves results from the API into the submission's folder, during one ``advance()``.

    It remembers which batches were downloaded and whose rows are not published yet. That memory ends with the landing.
    What could not be read whole is in the ledger, because a later process reads it again.

    :param mark_lost: called with a batch id and the reason when the API has said for long that a batch, or its results,
        do not exist.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    landing: Landing
    observer: Observer
    policy: Policy
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    mark_lost: Callable[[str, str], None]
    #: Batches that the last ``collect()`` saw running, and that nobody has canceled.
    running: set[str] = field(default_factory=set, init=False)
    #: Rows that were published are gone. Some of them may have had reused answers.
    may_lack_reused: bool = field(default=False, init=False)
    #: When the batches ended that were downloaded now.
    ends: dict[str, datetime] = field(default_factory=dict, init=False)
    #: Downloads with rows under our token that name no request, by batch.
    unplaced: dict[str, Download] = field(default_factory=dict, init=False)
    #: Downloaded batches whose rows are not published yet, with the time of their end.
    _unpublished: dict[str, datetime | None] = field(default_factory=dict, init=False)
    #: Number of requests of these batches that have no row, and are not sent again.
    _missing: dict[str, int] = field(default_factory=dict, init=False)
    #: Batches that could not be read whole, as the ledger is to have them.
    _unread: UnreadBatches = field(init=False)
    _has_new_rows: bool = field(default=False, init=False)
    _lacks_published_rows: bool = field(default=False, init=False)

    def restore(self) -> None:
        """Read the rows that this task or the sensor published before. A cut line is downloaded again.

        :raises ResultsError: the file is damaged otherwise.
        """
        self._unread = self._noted()
        restored = restore_rows(self.landing, self.folder, self.record.ledger.input_digest, may_skip=_is_cut)
        if restored.has_rows:
            self._has_new_rows = restored.read > _QUICKLY_READ
            counts = count_statuses(self.landing.statuses)
            known = load_manifest(self.folder)
            self.landing.stored_batch_ids = tuple(known.stored_batch_ids or ()) if known is not None else ()
            self._lacks_published_rows = restored.damaged > 0 or counts_more_answers(known, counts)
            self.may_lack_reused = self._lacks_published_rows
        elif self.record.ledger.answers_looked_up:
            known = load_manifest(self.folder)
            self.may_lack_reused = known is not None and bool(known.reused)

    def collect(self) -> None:
        """Download every open batch that has ended, and publish its rows.

        :raises SubmissionUnknownError: a batch is gone, and ``on_lost`` is ``stop``.
        :raises ResultsError: a download stays incomplete, or the storage refuses the rows.
        """
        self._unread = self._noted()
        self._note_lost_rows()
        self.running.clear()
        failures: list[ResultsError] = []
        rows_before = self._row_count
        for part in self.record.ledger.open_parts:
            if part.batch_id and self._unread.is_due(part.batch_id):
                try:
                    self._collect_part(part, part.batch_id)
                except ResultsError as error:  # the other batches do not suffer for it
                    failures.append(error)
        self._has_new_rows |= self._row_count > rows_before  # of a stream that is cut each time, too
        self._download_missing_rows()
        self.publish()
        self._mark_lost_batches()
        if failures:
            raise failures[0]

    def publish(self) -> None:
        """Write the downloaded rows, then the manifest, then the ledger. Only then are the parts landed."""
        if not self._unpublished and not self._has_new_rows:
            self._save_unread()
            return
        self._publish_rows()
        last_end = max((at for at in self._unpublished.values() if at is not None), default=None)
        landed = self.record.ledger.with_landed(self._unpublished, last_end, missing=self._missing)
        landed = landed.with_unread(self._unread)
        self._report_durations()
        with writing_to(self.folder, MANIFEST_FILE):
            write_manifest(self.folder, summarize_submission(landed, self.landing, self.folder, "in_progress"))
        self.record.save(landed)
        self._unpublished.clear()
        self._has_new_rows = False

    def note_new_rows(self) -> None:
        """Note that the landing has rows that are not published, and that came from no message batch."""
        self._has_new_rows = True

    def publish_reused(self) -> None:
        """Publish the rows of reused answers.

        :raises ResultsError: the storage refuses.
        """
        self.landing.rows.copy_to_duplicates()
        self._has_new_rows = True
        self.publish()

    def _publish_rows(self) -> None:
        """Write what is new as another landed part. If nothing can be new any more, merge all parts at once."""
        statuses = self.landing.statuses
        if count_where(statuses, FINAL - {Status.REPAIRABLE_OUTPUT}) == len(statuses):
            publish_rows(self.landing, self.folder, missing=None)
        else:
            publish_part(self.landing, self.folder, self.record.ledger.input_digest)

    @property
    def unread_landed(self) -> tuple[UnreadBatch, ...]:
        """Landed batches whose rows are missing from the folder and could not be read again yet."""
        landed = self.record.ledger.landed_batch_ids
        return tuple(
            batch
            for batch in self._unread
            if batch.batch_id in landed and not (is_gone(batch) and self.policy.on_lost == "resend")
        )

    def _noted(self) -> UnreadBatches:
        ledger = self.record.ledger
        began_at = ledger.attempt_began_at
        return UnreadBatches(
            ledger.unread, clock=self.clock, deadline=began_at + self.policy.timeout, began_at=began_at
        )

    @property
    def _row_count(self) -> int:
        return len(self.landing.statuses) - self.landing.statuses.count(0)

    def _collect_part(self, part: Part, batch_id: str) -> None:
        if (batch := self._unread.retrieve(self.client, batch_id)) is None:
            return
        if batch.ended:
            self._download(batch, part)
        elif batch.cancel_initiated_at is None and batch.processing_status != "canceling":
            self.running.add(batch_id)

    def _download(self, batch: MessageBatch, part: Part | None) -> None:
        """Read the results of an ended batch.

        :param part: what was sent as this batch, None if the ledger does not know it any more.
        """
        is_current = part is not None and part.answers == AnswerUse.CURRENT
        if batch.ended_at is not None:
            self.ends[batch.id] = batch.ended_at
        download = download_results(
            self.client,
            batch,
            self.landing,
            sleep=self.sleep,
            sent=self.record.ledger.request_count(batch.id),
            token=part.token if part and is_current else None,
            members=self.record.ledger.indices_of(batch.id),
        )
        if download.outcome is Outcome.NOT_FOUND:
            self._unread.count_missing_results(batch, download.reason)
        elif download.unplaced:
            self._has_new_rows = True
            self.unplaced[batch.id] = download
        elif self._may_get_more(batch.id, download.outcome, is_current=is_current):
            self._keep_open(batch, download)
        else:
            self._unread.forget(batch.id)
            self._unpublished[batch.id] = batch.ended_at if part else None
            # Requests that the API counts as not answered cost nothing, so that they are sent again like all others.
            is_unpaid = download.outcome is Outcome.UNANSWERED
            if download.missing and is_current and self.policy.on_lost == "stop" and not is_unpaid:
                self._missing[batch.id] = download.missing

    def _may_get_more(self, batch_id: str, outcome: Outcome, *, is_current: bool) -> bool:
        """Return whether to read the results again later.

        :param is_current: the requests of the batch without a row can be noted, so that they are not sent again.
        """
        if outcome is Outcome.AGREED and self.policy.on_lost == "stop":
            return not is_current
        if outcome in (Outcome.AGREED, Outcome.UNANSWERED):  # the word of one moment is not paid for
            return not self._unread.stays_short(batch_id)
        return outcome is Outcome.PARTIAL and not self._may_resend_rest(batch_id)

    def _may_resend_rest(self, batch_id: str) -> bool:
        """Return whether the author agreed to send again what an attempt has waited for in vain."""
        known = self._unread.get(batch_id)
        if self.policy.on_lost == "stop" or known is None or not known.waited_out:
            return False
        log.warning(
            "The results of %s are still incomplete after a whole attempt. The requests without a row are sent again, "
            "because on_lost is 'resend'. Those that were answered are paid for twice.",
            batch_id,
        )
        return True

    def _keep_open(self, batch: MessageBatch, download: Download) -> None:
        known = self._unread.get(batch.id)
        self._has_new_rows |= known is None or download.rows > known.rows
        self._unread.count_missing_rows(batch.id, download.rows, download.expected)

    def _download_missing_rows(self) -> None:
        """Before anything is sent again, download landed batches whose rows are missing from the folder.

        Another process may have replaced the file by an older one. Those rows are paid for. If the manifest counts
        more answers than there are rows, every landed batch is read; otherwise only those without any row.
        """
        landed = self.record.ledger.landed_batch_ids
        if count_where(self.landing.statuses, FINAL) == len(self.landing.statuses):
            for batch_id in landed:
                self._unread.forget(batch_id)
            return
        for batch_id in sorted(landed):
            if batch_id not in self.landing.batch_ids or batch_id in self._unread:
                self._download_landed(batch_id)

    def _note_lost_rows(self) -> None:
        """Write down that landed batches have to be read again, before a new manifest stops telling so."""
        if not self._lacks_published_rows:
            return
        self._stop_if_deleted_rows_were_lost()
        self._lacks_published_rows = False
        for batch_id in self.record.ledger.landed_batch_ids:
            if batch_id not in self._unread:
                self._unread.note(batch_id)
        self._save_unread()

    def _stop_if_deleted_rows_were_lost(self) -> None:
        """Stop before the requests of lost rows are paid for again. A changed input has fewer rows, but lost none.

        :raises SubmissionUnknownError: rows are lost, batches were deleted at the API, and ``on_lost`` is ``stop``.
        """
        deleted = self.record.ledger.landed_batch_ids & set(self.record.ledger.deleted or ())
        if not deleted or self.policy.on_lost == "resend":
            return
        known = load_manifest(self.folder)
        with landed_lines(self.folder) as lines:
            is_whole = known is None or lines is None or count_results(lines) >= known.result_count
        if not is_whole:
            reason = f"rows are missing from {self.folder.uri(RESULTS_FILE)}, and this task has deleted the batch"
            self._unread.note(min(deleted))
            self._save_unread()
            self.mark_lost(min(deleted), reason)

    def _download_landed(self, batch_id: str) -> None:
        known = self._unread.get(batch_id)
        if known is not None and is_gone(known) and self.policy.on_lost == "resend":
            log.warning(
                "Message batch %s, whose rows are missing from the folder, is gone at the API. Its requests are sent "
                "and paid for again, because on_lost is 'resend'. %s",
                batch_id,
                known.reason,
            )
            self.landing.batch_ids.add(batch_id)
            return
        if not self._unread.is_due(batch_id):
            return
        if (batch := self._unread.retrieve(self.client, batch_id)) is not None:
            part = next((part for part in self.record.ledger.parts if part.batch_id == batch_id), None)
            self._download(batch, part)
        elif batch_id in (self.record.ledger.deleted or ()):
            log.info("Message batch %s has no landed row, and this task has deleted it at the API.", batch_id)
            self.landing.batch_ids.add(batch_id)
            self._unread.forget(batch_id)

    def _save_unread(self) -> None:
        noted = tuple(self._unread)
        if noted != self.record.ledger.unread:
            self.record.save(self.record.ledger.with_unread(noted))

    def _mark_lost_batches(self) -> None:
        """Believe what the API has said for long, after everything that came was published."""
        for batch in self.record.ledger.unread:
            if is_gone(batch):
                what = "it has ended, but its results are gone" if batch.trouble == Trouble.NO_RESULTS else "not found"
                self.mark_lost(batch.batch_id, f"{what}: {batch.reason}")
                if batch.batch_id in self.record.ledger.dropped:
                    self._unread.forget(batch.batch_id)

    def _report_durations(self) -> None:
        for part in self.record.ledger.open_parts:
            ended_at = self._unpublished.get(part.batch_id or "")
            if ended_at and part.created_at:
                self.observer.batch_ended(ended_at - part.created_at)


def _is_cut(line: bytes) -> bool:
    return not line.endswith(b"\n")


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
        estimate=ledger.first_estimate,
        approval=_approval(ledger),
        unseen=len(ledger.direct.unseen) if ledger.direct else 0,
        sent={id_: count for id_ in ledger.batch_ids if (count := ledger.request_count(id_))},
    )


def _approval(ledger: Ledger) -> dict[str, str | None] | None:
    """Return who approved the submission, as the manifest shows it. None if nobody did."""
    given = ledger.approval
    if not given or given.state is not ApprovalState.APPROVED:
        return None
    at = given.answered_at
    return {"by": given.by, "at": at.isoformat() if at else None, "usd": given.usd}
