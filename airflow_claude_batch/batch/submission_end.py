"""End an attempt at a submission: publish the rows, evaluate them, store the answers, settle what was reserved."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.attempt_memory import AttemptMemory
from airflow_claude_batch.batch.direct.journal import remove_all_journals
from airflow_claude_batch.batch.failures import evaluate_outcome
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_index import INDEX_FILE
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.land.landed_parts import remove_parts
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest, write_manifest
from airflow_claude_batch.batch.land.publish import publish_final, publish_rows
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.result_collector import ResultCollector, summarize_submission
from airflow_claude_batch.batch.send.reservation import Reservation
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.steps import DoneStep
from airflow_claude_batch.exceptions import ApprovalRejectedError, BatchError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionEnd:
    """Ends an attempt, with its rows as one landing has them.

    :param folder: the submission's. It checks who owns the submission.
    :param answers: where new answers are stored. None for no store.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    requests: RequestFile
    landing: Landing
    policy: Policy
    collector: ResultCollector
    rounds: Rounds
    reservation: Reservation
    answers: AnswerReuse | None
    memory: AttemptMemory

    def finish(self, failure: BatchError | None, *, permanent: bool = False) -> DoneStep:
        """Publish the rows and evaluate them. While batches are open, only requests with an outcome get a row."""
        complete = not self._ledger.open_parts
        self.record.save(self._ledger.with_sample_ended().archive_landed())  # a timeout comes before the sample's end
        manifest = publish_final(
            self.landing,
            self.folder,
            self.policy,
            self.client,
            complete=complete,
            summarize=lambda path: self._summarize("ended" if complete else "in_progress", path),
            on_deleted=self._note_deleted,
            store_answers=None if self.answers is None else partial(self._store_answers, self.answers),
        )
        if complete:
            self.reservation.settle(self.landing.bill)
        is_old = self.memory.is_old and failure is None
        if failure is None:
            skipped, not_asked = self.rounds.skipped_because, self.memory.direct.left_because
            failure, permanent = evaluate_outcome(
                self.landing, self.policy, manifest, unrepaired=skipped, not_asked=not_asked
            )
        remove_parts(self.folder, INDEX_FILE)
        self._remove_journals()
        return DoneStep(manifest, failure, permanent=permanent, is_old=is_old)

    def finish_rejected(self, rejection: ApprovalRejectedError) -> DoneStep:
        """End with what is landed, because a person has rejected the rest, or nobody has answered in time."""
        skips = self.policy.on_rejected == "skip"
        return DoneStep(self._summarize("in_progress"), rejection, permanent=True, skips=skips)

    def hand_over(self) -> DoneStep:
        """Leave the open batches to the sensor. The manifest says what it must know."""
        store = None if self.answers is None else self.answers.handed_over(self.client)
        for_sensor = HandedOver.of_policy(self.policy, self.reservation.hand_over(), store).to_manifest()
        manifest = msgspec.structs.replace(self._summarize("in_progress"), for_sensor=for_sensor or msgspec.UNSET)
        write_manifest(self.folder, manifest)
        return DoneStep(manifest, is_old=not self._ledger.has_sent)

    def end_sample(self) -> None:
        """Publish the rows of the sample. Its requests without an answer go to the rest."""
        publish_rows(self.landing, self.folder, missing=None)
        self.record.save(self._ledger.with_sample_ended().archive_landed())
        if self.answers is not None:
            self._store_answers(self.answers)  # a rejection is the end of the submission, and these are paid for
        self.reservation.settle(self.landing.bill)

    @property
    def _ledger(self) -> Ledger:
        return self.record.ledger

    def _store_answers(self, answers: AnswerReuse) -> None:
        answers.store(
            self.landing,
            self.requests,
            self.client,
            submission_id=self._ledger.submission_id,
            batch_ids=self._ledger.landed_batch_ids,
            ends=self.collector.ends,
        )

    def _note_deleted(self, batch_ids: Sequence[str]) -> None:
        """Note which batches are gone because this task has deleted them."""
        if batch_ids:
            deleted = (*(self._ledger.deleted or ()), *batch_ids)
            self.record.save(msgspec.structs.replace(self._ledger, deleted=deleted))

    def _remove_journals(self) -> None:
        """Remove all journals of direct requests: what they have is landed."""
        if self._ledger.direct:
            with contextlib.suppress(OSError):
                remove_all_journals(self.folder)

    def _summarize(self, status: str, results_path: str | None = None) -> Manifest:
        return summarize_submission(self._ledger, self.landing, self.folder, status, results_path)
