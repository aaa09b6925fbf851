"""A submission, carried on from where it stands: first run, retry, resume, clear, full queue, repair are one call.

``advance()`` settles lost answers, collects what has ended, sends what may be sent, begins another round for what is
worth it, and answers either *wait* or *done*. All that it must remember is in the ledger and the folder, so that any
process may make the next call; ``ledger`` tells in which order things are written.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.failures import evaluate_outcome, lost_batch_error, refused_canary_error, timeout_error
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.download import download_results
from airflow_claude_batch.batch.land.landing import Landing, writing_to
from airflow_claude_batch.batch.land.manifest import (
    MANIFEST_FILE,
    Manifest,
    counts_more_answers,
    summarize,
    write_manifest,
)
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_final
from airflow_claude_batch.batch.land.rows import FINAL, RESULTS_FILE
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.ledger.ledger import AnswerUse, Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.recover.resolve import resolve_open_creates, unknown_create_error
from airflow_claude_batch.batch.send.budget import EstimateClient
from airflow_claude_batch.batch.send.create import next_slice, send_slice
from airflow_claude_batch.batch.send.longer_answers import raise_token_limits
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.steps import CANCEL_GRACE_PERIOD, OUTAGE_ERRORS, OUTAGE_RETRY_DELAY, DoneStep, WaitStep
from airflow_claude_batch.exceptions import (
    APIError,
    APIStatusError,
    BatchError,
    NotFoundError,
    OverloadedError,
    RateLimitError,
    ResultsError,
    SubmissionError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Submission:
    """One attempt's hold on a submission.

    ``advisor`` counts tokens and knows the models; without one, the table and the lengths decide.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    requests: RequestFile
    policy: Policy
    prices: PriceTable
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    estimate_client: EstimateClient | None = None
    observer: Observer = field(default_factory=NullObserver)
    _landing: Landing = field(init=False)
    _taken: dict[str, datetime | None] = field(default_factory=dict, init=False)
    _rounds: Rounds = field(init=False)
    _has_lost_rows: bool = field(default=False, init=False)
    _stopped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        # An earlier attempt that comes back must not put older rows over those of its successor.
        self.folder = storage.GuardedFolder(self.folder, self.record.check_ownership)
        self._rounds = Rounds(
            record=self.record,
            requests=self.requests,
            policy=self.policy,
            prices=self.prices,
            clock=self.clock,
            estimate_client=self.estimate_client,
        )

    @property
    def ledger(self) -> Ledger:
        return self.record.ledger

    def advance(self) -> WaitStep | DoneStep:
        """Do all that can be done now.

        :raises SubmissionError: a person must decide, or somebody else has the submission.
        :raises APIError: the API refuses; or it cannot be reached and nothing of ours is at stake yet.
        """
        slots = SubmissionMatcher(self.requests, OutputValidator.of(self.folder))
        with Landing(slots, prices=self.prices) as self._landing:
            self._taken.clear()  # what was taken and could not be landed is gone with the landing that held it
            self._restore()
            try:
                step = self._step()
            except OUTAGE_ERRORS as error:
                step = self._sit_out(error)
            if isinstance(step, DoneStep):
                return step
            try:
                self._land()
            except ResultsError as error:
                step = self._sit_out(error)
            until = min(step.until, self._limit)
            made = [part.created_at for part in self.ledger.open_parts if part.created_at]
            return dataclasses.replace(
                step, until=until, open_batch_ids=self.open_batch_ids, submitted_at=min(made, default=None)
            )

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        return self.ledger.open_batch_ids

    def stop(self) -> None:
        """Send nothing more: the task is being killed, from a signal's handler, in the middle of anything."""
        self._stopped = True

    def cancel(self) -> None:
        """Ask the API to cancel what is open. What it refuses to cancel has ended."""
        for batch_id in self.open_batch_ids:
            cancel_batch(self.client, batch_id)

    def mark_lost(self, batch_id: str, reason: str) -> None:
        """Take note that a recorded batch cannot be found any more, although looked for again and again.

        :raises SubmissionUnknownError: unless the author decided that its requests are to be sent again.
        """
        if batch_id not in self.open_batch_ids:
            return  # an event of old times: what it speaks of was landed or given up since
        if self.policy.on_lost == "stop":
            raise lost_batch_error(batch_id, reason)
        log.warning("%s is lost (%s): its unanswered requests are sent again", batch_id, reason)
        self.record.save(self.ledger.without_batch(batch_id))

    # ------------------------------------------------------------------ the road

    def _step(self) -> WaitStep | DoneStep:
        while True:
            if (wait := self._settle_intents()) is not None:
                return wait
            self._drop_unwanted()
            self._collect()
            if self.policy.canary and (refusal := refused_canary_error(self._landing)) is not None:
                return self._end(refusal, permanent=True)
            if self.clock() >= self._deadline and (self.ledger.timed_out or not self._is_complete()):
                return self._run_out()
            if (wait := self._send_all()) is not None:
                return wait
            if self.ledger.open_parts:
                return self._wait_for("all", "in progress") if self.policy.wait_for_completion else self._hand_over()
            if not self._rounds.begin_another(self._landing.statuses):
                return self._end(None)

    def _settle_intents(self) -> WaitStep | None:
        wait = resolve_open_creates(
            self.record,
            self.client,
            self.policy,
            clock=self.clock,
            deadline=self._deadline,
            observer=self.observer,
        )
        if wait is None:
            return None
        if self.clock() >= self._deadline + CANCEL_GRACE_PERIOD:
            raise unknown_create_error(self.ledger.intents[0])
        return WaitStep(wait.batch_ids, "any", wait.until, "looking for a create whose answer was lost")

    def _drop_unwanted(self) -> None:
        """Batches of a submission that was replaced as a whole: stop them, expect nothing."""
        for part in self.ledger.open_parts:
            if part.answers == AnswerUse.DISCARD and part.batch_id:
                cancel_batch(self.client, part.batch_id)
                self.record.save(self.ledger.without_batch(part.batch_id))

    def _collect(self) -> None:
        for batch_id in self.ledger.open_batch_ids:
            if batch_id in self._taken:
                continue
            try:
                batch = self.client.retrieve_batch(batch_id)
            except NotFoundError as error:
                # One 404 may be a blip; whether it lasts is for the wait to find out (``give_up_on``).
                log.warning("%s was not found just now: %s", batch_id, error)
                continue
            if batch.ended:
                self._take(batch)
        self._collect_again()
        self._land()

    def _collect_again(self) -> None:
        """Before anything is sent again, read landed batches of which rows are gone.

        Their requests were answered in later ones; or somebody put older rows over theirs: then they are paid for.
        """
        if all(status in FINAL for status in self._landing.statuses):
            return
        read = self._taken.keys() if self._has_lost_rows else self._landing.batch_ids
        self._has_lost_rows = False
        for batch_id in self.ledger.landed_batch_ids - read:
            try:
                download_results(self.client, self.client.retrieve_batch(batch_id), self._landing, sleep=self.sleep)
            except NotFoundError as error:
                log.info("%s, of which no landed row is left, is gone at the API: %s", batch_id, error)
                self._landing.batch_ids.add(batch_id)
            else:
                self._taken[batch_id] = None

    def _take(self, batch: MessageBatch) -> None:
        try:
            download_results(self.client, batch, self._landing, sleep=self.sleep)
        except NotFoundError as error:
            self.mark_lost(batch.id, f"it has ended, but its results are gone: {error}")
        else:
            self._taken[batch.id] = batch.ended_at

    def _send_all(self) -> WaitStep | None:
        """Send until nothing is left to send, or the API takes no more."""
        if any(part.answers == AnswerUse.PREVIOUS_INPUT for part in self.ledger.open_parts):
            return self._wait_for("all", "batches of the earlier input may answer requests of this one")
        one_first = (self.policy.canary or self.policy.warm_cache) and not self._has_final_rows
        if one_first and self.ledger.open_parts:
            return self._wait_for("all", "one request goes first")
        policy = dataclasses.replace(self.policy, max_requests=1) if one_first else self.policy
        if self.policy.repair_invalid and self.ledger.round:
            raise_token_limits(self._landing, self.requests, self.prices)
        while (piece := next_slice(self.ledger, self.requests, self._landing.statuses, policy)) is not None:
            if not self._rounds.may_send(self._landing):
                return None
            if self._stopped:
                raise SubmissionError("The task was killed: nothing more is sent. Its next try goes on from here.")
            try:
                send_slice(piece, self.record, self.requests, self.client, clock=self.clock)
                self.observer.batch_created(self._rounds.models.count(piece.indices, self.requests.model))
            except (RateLimitError, OverloadedError) as error:
                return self._wait_for_room(error)
            except APIError as error:
                if not error.may_have_been_accepted:
                    raise
                log.warning("The answer to a create was lost (%s); looking for its batch before sending again", error)
                if (wait := self._settle_intents()) is not None:
                    return wait
            if one_first:
                return self._wait_for("all", "one request goes first")
        return None

    @property
    def _has_final_rows(self) -> bool:
        return any(status in FINAL for status in self._landing.statuses)

    # ------------------------------------------------------------------ waiting

    @property
    def _deadline(self) -> datetime:
        return self.ledger.attempt_began_at + self.policy.timeout

    @property
    def _limit(self) -> datetime:
        """No wait passes the next deadline."""
        return self._deadline if self.clock() < self._deadline else self._deadline + CANCEL_GRACE_PERIOD

    def _wait_for(self, which: Literal["all", "any"], reason: str) -> WaitStep:
        return WaitStep(self.ledger.open_batch_ids, which, self._limit, reason)

    def _wait_for_room(self, error: APIStatusError) -> WaitStep:
        """The rest is sent when one of ours has ended; if none is open, others fill the queue."""
        log.info("The API takes no more requests now; the rest is sent later. %s", error)
        if self.ledger.open_parts:
            return self._wait_for("any", "the API's queue is full")
        pause = timedelta(seconds=error.retry_after or 0)
        return WaitStep((), "any", self.clock() + max(pause, OUTAGE_RETRY_DELAY), "the API's queue is full")

    def _sit_out(self, error: Exception) -> WaitStep:
        """An outage is not an answer. With nothing of ours at stake, the task's own retries decide."""
        if not (self.ledger.parts or isinstance(error, ResultsError)):
            raise error
        if self.clock() >= self._deadline + CANCEL_GRACE_PERIOD:
            raise timeout_error(self.ledger, self.policy) from error
        log.warning("Could not go on just now, trying again in %s: %s", OUTAGE_RETRY_DELAY, error)
        return WaitStep((), "any", self.clock() + OUTAGE_RETRY_DELAY, "the API cannot be reached")

    def _run_out(self) -> WaitStep | DoneStep:
        """The time is over: cancel what is open if so asked, and land what was answered before."""
        if self.policy.on_timeout == "cancel" and self.ledger.open_parts:
            if not self.ledger.timed_out:
                log.warning("The timeout of %s is over: canceling the open batches", self.policy.timeout)
                self.record.save(msgspec.structs.replace(self.ledger, timed_out=True))
                self.cancel()
            if self.clock() < self._deadline + CANCEL_GRACE_PERIOD:
                return self._wait_for("all", "canceling after the timeout")
        answered = all(status in FINAL for status in self._landing.statuses)
        return self._end(None if answered else timeout_error(self.ledger, self.policy))

    def _is_complete(self) -> bool:
        """Nothing is open, and nothing is left to send in this round."""
        left = next_slice(self.ledger, self.requests, self._landing.statuses, self.policy)
        return not self.ledger.open_parts and left is None

    # ------------------------------------------------------------------ landing

    def _restore(self) -> None:
        """Know what was landed before, by this task or by the sensor."""
        if (file := self.folder.open(RESULTS_FILE)) is not None:
            with file:
                self._landing.restore(file)
            self._has_lost_rows = counts_more_answers(self.folder, self._landing.counts())

    def _land(self) -> None:
        """Publish what was taken. Only then are its parts landed."""
        if not self._taken:
            return
        self._landing.publish(self.folder, missing=None)
        last = max((at for at in self._taken.values() if at is not None), default=None)
        landed = self.ledger.with_landed(self._taken, last)
        self._tell_queued()
        with writing_to(self.folder, MANIFEST_FILE):
            write_manifest(self.folder, self._manifest(landed, "in_progress"))
        self.record.save(landed)
        self._taken.clear()

    def _tell_queued(self) -> None:
        for part in self.ledger.open_parts:
            ended_at = self._taken.get(part.batch_id or "")
            if ended_at and part.created_at:
                self.observer.batch_ended(ended_at - part.created_at)

    def _hand_over(self) -> DoneStep:
        """Two-task form: everything is sent, and waiting is the sensor's job."""
        manifest = self._manifest(self.ledger, "in_progress")
        write_manifest(self.folder, manifest)
        return DoneStep(manifest)

    def _end(self, failure: BatchError | None, *, permanent: bool = False) -> DoneStep:
        """Give every request its last word and judge; with batches still open, land only what is there."""
        complete = not self.ledger.open_parts
        self.record.save(self.ledger.archive_landed())
        manifest = publish_final(
            self._landing,
            self.folder,
            self.policy,
            self.client,
            complete=complete,
            summarize=lambda path: self._manifest(self.ledger, "ended" if complete else "in_progress", path),
        )
        verdict, beyond_repair = evaluate_outcome(
            self._landing, self.policy, manifest, unrepaired=self._rounds.skipped_because
        )
        return DoneStep(manifest, failure or verdict, permanent=permanent or (failure is None and beyond_repair))

    def _manifest(self, ledger: Ledger, status: str, results_path: str | None = None) -> Manifest:
        return summarize(
            self._landing,
            submission_id=ledger.submission_id,
            status=status,
            batch_ids=ledger.batch_ids,
            landed=ledger.closed_batch_ids,
            results_path=results_path or self.folder.uri(RESULTS_FILE),
            created_at=ledger.created_at,
            ended_at=ledger.ended_at,
            estimate=ledger.estimate,
        )
