"""Run a submission: everything that one task instance sends, from its first create call to the landed rows.

First run, retry, resumption, clear, full queue and repair round are one call, ``Submission.advance()``. It resolves
create calls without a response, collects what has ended, sends what may be sent, begins another round for what is worth
it, and returns *wait*, *ask* or *done*. Everything that it must remember is in the ledger and the folder. So any
process may make the next call.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.api.time_limit import calls_until
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse, reuse_answers
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.direct.memory import DirectMemory
from airflow_claude_batch.batch.direct_asker import DirectAsker
from airflow_claude_batch.batch.failures import (
    evaluate_outcome,
    lost_batch_error,
    refused_canary_error,
    unplaced_rows_error,
)
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_index import INDEX_FILE
from airflow_claude_batch.batch.journal_takeover import take_over_journals
from airflow_claude_batch.batch.land.handed_over import HandedOver
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landed_parts import remove_parts
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest, write_manifest
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.publish import publish_final, publish_rows
from airflow_claude_batch.batch.land.rows import FINAL, RESULTS_FILE, count_where
from airflow_claude_batch.batch.land.snapshot import SnapshotPart, parts_of
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.ledger.ledger import AnswerUse, Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.outages import OutageHandler
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.recover.copies import find_copies
from airflow_claude_batch.batch.recover.peeked import PEEKED
from airflow_claude_batch.batch.recover.resolve import resolve_open_creates, unknown_create_error
from airflow_claude_batch.batch.result_collector import ResultCollector, summarize_submission
from airflow_claude_batch.batch.send.budget import EstimateClient
from airflow_claude_batch.batch.send.create import unsent_requests
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.send.round_sender import RoundSender
from airflow_claude_batch.batch.send.rounds import Rounds, covers
from airflow_claude_batch.batch.steps import AskStep, DirectStep, DoneStep, WaitStep
from airflow_claude_batch.batch.timeout_steps import TimeoutSteps
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import APIError, BatchError, ConfigurationError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Submission:
    """One attempt at a submission. Call ``advance()`` until it returns a ``DoneStep``.

    Example::

        record, requests = begin_attempt(store, folder, attempt, write_input, scratch, reuse_answers=True)
        submission = Submission(client=client, record=record, folder=folder, requests=requests, ...)
        while isinstance(step := submission.advance(), WaitStep):
            wait_for_batches(client, step.batch_ids, wait_for=step.wait_for, until=step.until)
        print(step.manifest.counts)

    :param record: the submission's ledger, owned by this attempt.
    :param folder: where the rows and the manifest are published.
    :param requests: the input, in order.
    :param clock: current time, aware.
    :param sleep: pause between the tries of a download, in seconds.
    :param estimate_client: counts tokens and lists models before sending. Without one, the price table and the lengths
        of the texts decide.
    :param day_budget: limits what all submissions of a day cost. None for no limit.
    :param answers: where answers of earlier submissions are found, and new ones stored. None for no store.
    :param earlier_runs: returns those of the same task, the oldest first. What an estimate expects comes from them.
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
    earlier_runs: Callable[[], Sequence[Run]] = tuple
    observer: Observer = field(default_factory=NullObserver)
    day_budget: DayBudget | None = None
    answers: AnswerReuse | None = None
    _rounds: Rounds = field(init=False)
    _waits: WaitPlanner = field(init=False)
    _stopped: bool = field(default=False, init=False)
    #: Nothing was sent or open since this process took the attempt up.
    _is_old: bool = field(default=True, init=False)
    _direct: DirectMemory = field(init=False)
    #: How to wait for the batch of a create call without a response, found by the last search.
    _lost_create: WaitStep | None = field(default=None, init=False)
    # These six live as long as one ``advance()``.
    _landing: Landing = field(init=False)
    _collector: ResultCollector = field(init=False)
    _sender: RoundSender = field(init=False)
    _outages: OutageHandler = field(init=False)
    _asker: DirectAsker = field(init=False)
    _timeouts: TimeoutSteps = field(init=False)

    def __post_init__(self) -> None:
        self._direct = DirectMemory.of(self.folder, self.record.ledger)
        # An earlier attempt that comes back must not replace the rows of its successor by older ones.
        self.folder = storage.GuardedFolder(self.folder, self.record.check_ownership)
        if self.day_budget is not None:
            self.day_budget = self.day_budget.guarded(self.record.check_ownership)
        self._waits = WaitPlanner(record=self.record, policy=self.policy, clock=self.clock)
        self._rounds = Rounds(
            record=self.record,
            requests=self.requests,
            policy=self.policy,
            prices=self.prices,
            clock=self.clock,
            estimate_client=self.estimate_client,
            day_budget=self.day_budget,
            earlier_runs=self.earlier_runs,
        )

    @property
    def ledger(self) -> Ledger:
        return self.record.ledger

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        return self.ledger.open_batch_ids

    @property
    def submission_id(self) -> str:
        return self.ledger.submission_id

    @property
    def request_count(self) -> int:
        return len(self.requests)

    @property
    def estimate(self) -> dict[str, Any] | None:
        """The estimate that was made before anything was sent, None before that."""
        return self.ledger.first_estimate

    def parts(self) -> list[SnapshotPart]:
        """Return the message batches of the submission: those in progress first."""
        return parts_of(self.ledger)

    def advance(self) -> WaitStep | AskStep | DoneStep:
        """Do everything that can be done now.

        :raises SubmissionError: a person must decide, or another attempt owns the submission.
        :raises BatchTimeoutError: the timeout has expired during an outage.
        :raises InputError: the requests must not be sent, for example because of ``max_cost``.
        :raises DailyCostLimitError: a limit of the day has no room for them now.
        :raises APIError: the API refuses, or cannot be reached and no batch of this submission exists.
        """
        while isinstance(step := self._advance(), DirectStep):
            pass
        return step

    def _advance(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        """Do what can be done with one landing."""
        matcher = SubmissionMatcher(self.requests, OutputValidator.of(self.folder))
        seconds = (self._waits.next_deadline - self.clock()).total_seconds()
        with Landing(matcher, prices=self.prices) as landing, calls_until(seconds):
            self._use(landing)
            try:
                self._collector.restore()
            except DamagedPartError as error:
                step: WaitStep | AskStep | DirectStep | DoneStep = self._outages.wait_after(error)
            else:
                step = self._next_step_or_wait()
            return self._waits.within_deadline(step) if isinstance(step, WaitStep) else step

    def answer(self, *, approved: bool, by: str | None, at: datetime, timed_out: bool = False) -> None:
        """Keep a person's answer to the question of an ``AskStep``. Then call ``advance()``.

        :param by: who answered.
        :param timed_out: nobody did, in time.
        """
        self._rounds.approval.answer(approved=approved, by=by, at=at, timed_out=timed_out)

    def stop(self) -> None:
        """Send nothing more. Safe to call from a signal handler at any moment."""
        self._stopped = True

    def cancel(self) -> None:
        """Ask the API to cancel every open batch."""
        for batch_id in self.open_batch_ids:
            cancel_batch(self.client, batch_id, sleep=self.sleep)

    def mark_lost(self, batch_id: str, reason: str) -> None:
        """Record that a batch of this submission is gone at the API. Its requests are sent again if the author agreed.

        :param reason: how that was found out.
        :raises SubmissionUnknownError: ``on_lost`` is ``stop``.
        """
        is_open = batch_id in self.open_batch_ids
        if not is_open and all(batch.batch_id != batch_id for batch in self.ledger.unread):
            return  # an old event: the batch was landed or dropped since
        if self.policy.on_lost == "stop":
            raise lost_batch_error(batch_id, reason)
        if not is_open:
            return  # its rows are missing from the folder, and its requests are sent again
        log.warning("Message batch %s is lost; its unanswered requests are sent again. %s", batch_id, reason)
        self.record.save(self.ledger.without_batch(batch_id))

    # ------------------------------------------------------------------ the steps of a round

    def _next_step_or_wait(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        try:
            step = self._next_step()
        except (APIError, ResultsError) as error:
            try:
                return self._outages.wait_after(error)
            except (APIError, ResultsError):
                self._release_reservation()
                raise
        self._outages.forget_refusals()
        return step

    def _next_step(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        """Take the steps of a round in order, round after round, until one must wait or everything is done."""
        actions: tuple[Callable[[], WaitStep | AskStep | DirectStep | DoneStep | None], ...] = (
            partial(take_over_journals, self.record, self.folder, self._landing, self._collector),
            self._resolve_open_creates,
            self._drop_discarded_batches,
            self._collector.collect,
            self._finish_if_rows_name_no_request,
            self._finish_after_refused_canary,
            self._timeouts.next_step,
            self._wait_for_landed_rows,
            self._reuse_answers,
            self._end_sample,
            self._finish_after_rejection,
            self._sender.send_round,
            self._wait_for_open_batches,
            self._finish_unless_round_begins,
        )
        self._is_old &= not (self.ledger.has_sent or self.ledger.open_parts or self.ledger.intents)
        while True:
            for action in actions:
                if (step := action()) is not None:
                    return step

    def _resolve_open_creates(self) -> WaitStep | None:
        """Find out what happened to create calls without a response, before anything else is sent.

        In the time that is reserved for asking directly, other requests are asked meanwhile.
        """
        self._lost_create = None
        create = resolve_open_creates(
            self.record,
            self.client,
            self.policy,
            clock=self.clock,
            deadline=self._waits.timeout_at,
            observer=self.observer,
            api=self.client.base_url,
            peeked=PEEKED,
        )
        if create is None:
            return None
        if self._waits.is_past_final_deadline:
            raise unknown_create_error(self.ledger.intents[0])
        self._lost_create = self._waits.for_lost_create(create)
        return None if self._waits.is_in_reserve else self._lost_create

    def _drop_discarded_batches(self) -> None:
        """Cancel batches of an input that was replaced as a whole. Their answers are not used."""
        for part in self.ledger.open_parts:
            if part.answers == AnswerUse.DISCARD and part.batch_id:
                cancel_batch(self.client, part.batch_id, sleep=self.sleep)
                self.record.save(self.ledger.without_batch(part.batch_id))

    def _finish_if_rows_name_no_request(self) -> DoneStep | None:
        """Stop if results came under our token that name no request: nobody can tell what is answered."""
        for batch_id, download in self._collector.unplaced.items():
            return self._finish(unplaced_rows_error(batch_id, download.unplaced, download.rows), permanent=True)
        return None

    def _finish_after_refused_canary(self) -> DoneStep | None:
        if not self.policy.canary or self.ledger.open_parts:
            return None
        error = refused_canary_error(self._landing)
        if error is None or len(self._landing.answered_indices()) > 1:  # the others were sent after an unanswered one
            return None
        return self._finish(error, permanent=True)

    def _wait_for_landed_rows(self) -> WaitStep | None:
        """Send nothing while rows that were paid for are missing from the folder and may be read again."""
        unread = self._collector.unread_landed
        return self._waits.for_landed_rows(unread) if unread else None

    def _end_sample(self) -> WaitStep | None:
        """Publish the rows of the sample once it has ended. Its requests without an answer go to the rest."""
        part = self.ledger.sample_part
        if part is None:
            return None
        if not part.landed:
            return self._sender.wait_for_sample()
        if self._find_copies():
            return self._sender.wait_for_sample()  # what they answered need not be sent again
        publish_rows(self._landing, self.folder, missing=None)
        self.record.save(self.ledger.with_sample_ended().archive_landed())
        if self.answers is not None:
            self._store_answers(self.answers)  # a rejection is the end of the submission, and these are paid for
        self._settle_reservation()
        return None

    def _finish_after_rejection(self) -> DoneStep | None:
        """End the attempt if a person has rejected what is still to be sent, or nobody has answered in time."""
        self._rounds.approval.expire()
        error = self._rounds.approval.rejection()
        if error is None or self.ledger.open_parts or not self._sender.has_unsent_requests:
            return None
        skips = self.policy.on_rejected == "skip"
        return DoneStep(self._summarize("in_progress"), error, permanent=True, skips=skips)

    def _reuse_answers(self) -> None:
        """Before anything is sent, land what the answer store has of the requests that would be sent. Once an attempt.

        While batches of an earlier input are open, their answers come first. A crash in between costs nothing: what is
        not landed is looked up again.
        """
        ledger = self.ledger
        is_done = ledger.answers_looked_up and not self._collector.may_lack_reused
        if self.answers is None or not self.answers.looks_up or is_done or ledger.round:
            return
        if any(part.answers == AnswerUse.PREVIOUS_INPUT for part in ledger.open_parts):
            return
        unsent = array("I", unsent_requests(ledger, self.requests, self._landing.statuses, self.policy))
        if not unsent:
            return
        try:
            count = reuse_answers(unsent, self._landing, self.answers, self.client, self._rounds.models, self.prices)
        except ConfigurationError as error:
            if not (ledger.parts or ledger.archived_batch_ids):
                raise
            log.warning("The answer store cannot be used, and everything else is sent. %s", error)
            count = 0
        self._collector.may_lack_reused = False
        if count:
            self._is_old = False
            self._collector.publish_reused()
        self.record.save(msgspec.structs.replace(self.ledger, answers_looked_up=True))

    def _wait_for_open_batches(self) -> WaitStep | DoneStep | None:
        """Wait for what was sent, or leave that to the sensor."""
        if not self.ledger.open_parts:
            return None
        if self.policy.wait_for_completion:
            return self._waits.for_completion()
        store = None if self.answers is None else self.answers.handed_over(self.client)
        for_sensor = HandedOver.of_policy(self.policy, self._hand_over_reservation(), store).to_manifest()
        manifest = msgspec.structs.replace(self._summarize("in_progress"), for_sensor=for_sensor or msgspec.UNSET)
        write_manifest(self.folder, manifest)
        return DoneStep(manifest, is_old=not self.ledger.has_sent)

    def _finish_unless_round_begins(self) -> DoneStep | None:
        if self._rounds.repairable_count(self._landing.statuses) and self._find_copies():
            return None  # what they answered need not be sent again
        return None if self._rounds.begin_repair_round(self._landing.statuses) else self._finish(None)

    def _find_copies(self) -> bool:
        """Look for second batches of create calls that lack answers. Return whether there are any to collect."""
        for part in self.ledger.parts:
            if not part.landed or part.answers != AnswerUse.CURRENT:
                continue  # indices of an earlier input say nothing of this one
            statuses = self._landing.statuses[part.first : part.last + 1]
            if part.sample:
                statuses = bytearray(self._landing.statuses[index] for index in part.sample)
            if count_where(statuses, FINAL) < len(statuses):
                find_copies(self.record, self.client, part, clock=self.clock, api=self.client.base_url, peeked=PEEKED)
        return bool(self.ledger.open_parts)

    def _find_answers(self) -> bool:
        """Before anything is asked directly, use the answer store, and look once for second batches of landed ones."""
        landed, looked_for = self.ledger.landed_batch_ids, self._direct.copies_looked_for
        self._direct.copies_looked_for = looked_for | landed
        if not landed <= looked_for and self._find_copies():
            return True
        self._reuse_answers()
        return False

    # ------------------------------------------------------------------ the end

    def _finish(self, failure: BatchError | None, *, permanent: bool = False) -> DoneStep:
        """Publish the rows and evaluate them. While batches are open, only requests with an outcome get a row."""
        complete = not self.ledger.open_parts
        self.record.save(self.ledger.with_sample_ended().archive_landed())  # a timeout comes before the sample's end
        manifest = publish_final(
            self._landing,
            self.folder,
            self.policy,
            self.client,
            complete=complete,
            summarize=lambda path: self._summarize("ended" if complete else "in_progress", path),
            on_deleted=self._note_deleted,
            store_answers=None if self.answers is None else partial(self._store_answers, self.answers),
        )
        if complete:
            self._settle_reservation()
        is_old = self._is_old and failure is None
        if failure is None:
            skipped = self._rounds.skipped_because
            failure, permanent = evaluate_outcome(
                self._landing, self.policy, manifest, unrepaired=skipped, not_asked=self._asker.left_because
            )
        remove_parts(self.folder, INDEX_FILE)
        self._asker.remove_journals()
        return DoneStep(manifest, failure, permanent=permanent, is_old=is_old)

    def _settle_reservation(self) -> None:
        """Tell the budget of the day what was billed, unless answers that may be billed were not read."""
        is_read = not (self.ledger.unread or any(part.missing for part in self.ledger.parts))
        if self.day_budget is not None and is_read:
            self.day_budget.settle(self._landing.bill, covers=covers(self.ledger))

    def _release_reservation(self) -> None:
        """Settle before an error ends the attempt, unless something that was sent may still be billed."""
        if not (self.ledger.open_parts or self.ledger.intents):
            self._settle_reservation()

    def _hand_over_reservation(self) -> str | None:
        return None if self.day_budget is None else self.day_budget.hand_over(covers=covers(self.ledger))

    def _store_answers(self, answers: AnswerReuse) -> None:
        answers.store(
            self._landing,
            self.requests,
            self.client,
            submission_id=self.ledger.submission_id,
            batch_ids=self.ledger.landed_batch_ids,
            ends=self._collector.ends,
        )

    def _note_deleted(self, batch_ids: Sequence[str]) -> None:
        """Note which batches are gone because this task has deleted them."""
        if batch_ids:
            deleted = (*(self.ledger.deleted or ()), *batch_ids)
            self.record.save(msgspec.structs.replace(self.ledger, deleted=deleted))

    def _summarize(self, status: str, results_path: str | None = None) -> Manifest:
        return summarize_submission(self.ledger, self._landing, self.folder, status, results_path)

    def _use(self, landing: Landing) -> None:
        """Build what collects into this landing and what sends according to it."""
        self._landing = landing
        self._collector = ResultCollector(
            client=self.client,
            record=self.record,
            folder=self.folder,
            landing=landing,
            observer=self.observer,
            policy=self.policy,
            clock=self.clock,
            sleep=self.sleep,
            mark_lost=self.mark_lost,
        )
        self._sender = RoundSender(
            client=self.client,
            record=self.record,
            requests=self.requests,
            landing=landing,
            policy=self.policy,
            prices=self.prices,
            rounds=self._rounds,
            waits=self._waits,
            observer=self.observer,
            clock=self.clock,
            rows=self.folder.uri(RESULTS_FILE),
            is_stopped=lambda: self._stopped,
            resolve_open_creates=self._resolve_open_creates,
        )
        self._asker = DirectAsker(
            client=self.client,
            record=self.record,
            folder=self.folder,
            requests=self.requests,
            landing=landing,
            policy=self.policy,
            prices=self.prices,
            waits=self._waits,
            collector=self._collector,
            rounds=self._rounds,
            memory=self._direct,
            clock=self.clock,
            is_stopped=lambda: self._stopped,
        )
        self._timeouts = TimeoutSteps(
            client=self.client,
            record=self.record,
            landing=landing,
            policy=self.policy,
            waits=self._waits,
            collector=self._collector,
            sender=self._sender,
            asker=self._asker,
            is_rejected=lambda: self._rounds.approval.rejection() is not None,
            lost_create=lambda: self._lost_create,
            find_answers=self._find_answers,
            clock=self.clock,
            sleep=self.sleep,
            finish=self._finish,
        )
        self._outages = OutageHandler(
            record=self.record,
            policy=self.policy,
            waits=self._waits,
            clock=self.clock,
            publish=self._collector.publish,
            cancel=self._timeouts.cancel,
        )
