"""Land the rows of message batches that have ended, for a collection: read the results, publish and evaluate them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.failures import evaluate_outcome
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_index import INDEX_FILE
from airflow_claude_batch.batch.land.download import Outcome, download_results
from airflow_claude_batch.batch.land.landed_before import LandedBefore
from airflow_claude_batch.batch.land.landed_parts import remove_parts
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.match_requests import ExternalMatcher, RequestMatcher, SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_final
from airflow_claude_batch.batch.land.restore import restore_rows
from airflow_claude_batch.batch.land.rows import Status, indices_where
from airflow_claude_batch.batch.land.summary import summarize
from airflow_claude_batch.batch.land.unread import UnreadBatches
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import BatchError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

_REUSED: Final = frozenset({Status.REUSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionLanding:
    """Lands the rows of message batches that have ended, during one ``advance()`` of a collection.

    :param requests: opens the requests of the submission that sent the batches. None for batches made elsewhere.
    :param settle: called with the bill once everything has ended and was read. For the budget of the day.
    :param answers: where the answers of batches that this package has sent are stored. None for no store.
    :param before: what an earlier landing has left in the folder.
    :param landed: batches whose rows are there, so that they need no download.
    :param unread: batches whose results could not be read whole so far. This is kept up to date.
    :param agreed: batches without a row for every request, as the API's counts agree or because custom_ids were changed
        on the way. This is kept up to date.
    """

    client: ClaudeClient
    submission_id: str
    batch_ids: Sequence[str]
    folder: storage.Folder
    requests: Callable[[], RequestFile] | None
    policy: Policy
    prices: PriceTable
    sleep: Callable[[float], None]
    observer: Observer
    settle: Callable[[Bill], None] | None
    answers: AnswerReuse | None
    before: LandedBefore
    landed: frozenset[str]
    unread: UnreadBatches
    agreed: set[str]

    def land(self, ended: Sequence[MessageBatch], *, complete: bool) -> tuple[Manifest, BatchError | None]:
        """Read what has ended, and publish its rows.

        :param complete: all batches have ended.
        :return: the manifest, and the error if more requests than allowed have no answer.
        :raises ResultsError: a download was incomplete in each try. The other batches are landed.
        """
        sizes = self.before.request_counts(ended)
        while True:
            with self._open_matcher(sizes, ended) as matcher, Landing(matcher, prices=self.prices) as landing:
                self._restore(landing)
                rows, failed = self._read(ended, landing, sizes)
                larger = {id_: count for id_, count in rows.items() if count > sizes.get(id_, 0)}
                if self.requests is None and larger:
                    sizes |= larger  # the counts were below the rows: begin anew, with room for every row
                    continue
                read = [batch for batch in ended if batch.id not in failed]
                if read or not failed:
                    published = self._publish(read, landing, sizes, complete=complete and not failed)
                for error in failed.values():
                    raise error
                return published

    @contextlib.contextmanager
    def _open_matcher(self, sizes: Mapping[str, int], ended: Sequence[MessageBatch]) -> Iterator[RequestMatcher]:
        known = self.before.manifest
        if self.requests is None:
            is_landed = known is not None and not ended
            yield ExternalMatcher(known.request_count if known is not None and is_landed else sum(sizes.values()))
            return
        with self.requests() as requests:
            yield SubmissionMatcher(requests, OutputValidator.of(self.folder))

    def _restore(self, landing: Landing) -> None:
        known = self.before.manifest
        if known is not None:
            landing.stored_batch_ids = tuple(known.stored_batch_ids or ())
        # Reused answers are in the rows alone, even if somebody has removed the manifest.
        if known is not None or self.requests is not None:
            restore_rows(landing, self.folder, landing.matcher.digest, may_skip=lambda line: True)

    def _read(
        self, ended: Sequence[MessageBatch], landing: Landing, sizes: Mapping[str, int]
    ) -> tuple[dict[str, int], dict[str, ResultsError]]:
        """Read the results of all batches. One that cannot be read whole costs no other one.

        :return: the number of rows of each batch, and the errors of those that could not be read whole.
        """
        rows: dict[str, int] = {}
        failed: dict[str, ResultsError] = {}
        for batch in ended:
            try:
                rows[batch.id] = self._download(batch, landing, sizes.get(batch.id))
            except ResultsError as error:
                failed[batch.id] = error
        return rows, failed

    def _download(self, batch: MessageBatch, landing: Landing, size: int | None) -> int:
        """Read the results of an ended batch, unless a pause lasts. Return the number of its rows.

        :param size: number of its requests, None if only the API's counts tell.
        """
        if not self.unread.is_due(batch.id):
            return 0
        download = download_results(
            self.client,
            batch,
            landing,
            sleep=self.sleep,
            sent=None if self.requests is None else size or self._most_requests(batch, landing),
        )
        if download.outcome is Outcome.NOT_FOUND:
            self.unread.count_missing_results(batch, download.reason)
        elif download.outcome is Outcome.PARTIAL or (
            download.outcome is Outcome.UNANSWERED and not self.unread.stays_short(batch.id)
        ):
            self.unread.count_missing_rows(batch.id, download.rows, download.expected)
        else:
            self.unread.forget(batch.id)
            if (download.missing or download.unmatched) and self.requests is not None:
                self.agreed.add(batch.id)
        return download.rows

    def _most_requests(self, batch: MessageBatch, landing: Landing) -> int | None:
        """Bound the API's counts by what was sent: no batch has more requests, and a single one has all."""
        reused = sum(index not in landing.matcher.duplicates for index in indices_where(landing.statuses, _REUSED))
        most = len(landing.matcher) - len(landing.matcher.duplicates) - reused
        return most if batch.request_counts.total > most or len(self.batch_ids) == 1 else None

    def _publish(
        self, ended: Sequence[MessageBatch], landing: Landing, sizes: Mapping[str, int], *, complete: bool
    ) -> tuple[Manifest, BatchError | None]:
        whole = [batch for batch in ended if batch.id not in self.unread]
        complete = complete and len(whole) == len(ended)
        listed = self.landed.union(batch.id for batch in whole if batch.id not in self.agreed)
        manifest = publish_final(
            landing,
            self.folder,
            self.policy,
            self.client,
            complete=complete,
            summarize=lambda path: self._summarize(
                landing, ended, listed.difference(landing.unplaced), sizes, path, complete=complete
            ),
            store_answers=self._storing(landing, listed.union(self.agreed), whole),
        )
        if self.settle is not None and complete and Status.NONE not in landing.statuses:
            self.settle(landing.bill)
        self._report_durations(whole)
        error, _ = evaluate_outcome(landing, self.policy, manifest)
        remove_parts(self.folder, INDEX_FILE)
        return manifest, error

    def _storing(
        self, landing: Landing, batch_ids: frozenset[str], ended: Sequence[MessageBatch]
    ) -> Callable[[], None] | None:
        """Return what stores the answers of these batches. None without a store, or for batches made elsewhere."""
        answers, matcher = self.answers, landing.matcher
        if answers is None or not isinstance(matcher, SubmissionMatcher):
            return None
        return partial(
            answers.store,
            landing,
            matcher.requests,
            self.client,
            submission_id=self.submission_id,
            batch_ids=batch_ids,
            ends={batch.id: batch.ended_at for batch in ended if batch.ended_at is not None},
        )

    def _summarize(
        self,
        landing: Landing,
        ended: Sequence[MessageBatch],
        landed: frozenset[str],
        sizes: Mapping[str, int],
        path: str,
        *,
        complete: bool,
    ) -> Manifest:
        known = self.before.manifest
        created = [batch.created_at for batch in ended] + [known.created_at if known else None]
        ends = [batch.ended_at for batch in ended] + [known.ended_at if known else None]
        return summarize(
            landing,
            submission_id=self.submission_id,
            status="ended" if complete else "in_progress",
            batch_ids=self.batch_ids,
            landed=landed,
            results_path=path,
            created_at=min(filter(None, created), default=None),
            ended_at=max(filter(None, ends), default=None),
            estimate=known.estimate if known else None,
            approval=(known.approval or None) if known else None,
            sent={id_: sizes[id_] for id_ in self.batch_ids if id_ in sizes},
        )

    def _report_durations(self, ended: Sequence[MessageBatch]) -> None:
        for batch in ended:
            if batch.ended_at:
                self.observer.batch_ended(batch.ended_at - batch.created_at)
