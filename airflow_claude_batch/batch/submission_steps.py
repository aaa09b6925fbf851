"""The steps of a submission, in their order, with one landing.

They resolve create calls without a response, collect what has ended, send what may be sent, and begin another round for
what is worth it. Each returns what must be waited for, or lets the next one begin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.attempt_memory import AttemptMemory
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.direct_asker import DirectAsker
from airflow_claude_batch.batch.failures import refused_canary_error, unplaced_rows_error
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.journal_takeover import take_over_journals
from airflow_claude_batch.batch.land.landed_part import DamagedPartError
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import AnswerUse
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.observer import Observer
from airflow_claude_batch.batch.outages import OutageHandler
from airflow_claude_batch.batch.paid_answers import PaidAnswers
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.recover.peeked import PEEKED
from airflow_claude_batch.batch.recover.resolve import resolve_open_creates, unknown_create_error
from airflow_claude_batch.batch.result_collector import ResultCollector
from airflow_claude_batch.batch.send.reservation import Reservation
from airflow_claude_batch.batch.send.round_sender import RoundSender
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.steps import AskStep, DirectStep, DoneStep, WaitStep
from airflow_claude_batch.batch.submission_end import SubmissionEnd
from airflow_claude_batch.batch.timeout_steps import TimeoutSteps
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import APIError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


@dataclass(slots=True, kw_only=True)
class SubmissionSteps:
    """Does everything of a submission that can be done now, with one landing.

    Example::

        with Landing(matcher, prices=prices) as landing:
            step = SubmissionSteps(landing=landing, client=client, record=record, ...).next_step()

    :param folder: the submission's. It checks who owns the submission.
    :param memory: of the process, from the landings before this one.
    :param is_stopped: true once the task is being killed.
    :param mark_lost: called with a batch id and the reason when a batch is gone at the API.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    requests: RequestFile
    landing: Landing
    policy: Policy
    prices: PriceTable
    rounds: Rounds
    waits: WaitPlanner
    reservation: Reservation
    answers: AnswerReuse | None
    observer: Observer
    memory: AttemptMemory
    clock: Callable[[], datetime]
    sleep: Callable[[float], None]
    is_stopped: Callable[[], bool]
    mark_lost: Callable[[str, str], None]
    # Each is made of those before it.
    _collector: ResultCollector = field(init=False)
    _sender: RoundSender = field(init=False)
    _paid: PaidAnswers = field(init=False)
    _end: SubmissionEnd = field(init=False)
    _timeouts: TimeoutSteps = field(init=False)
    _outages: OutageHandler = field(init=False)
    #: How to wait for the batch of a create call without a response, found by the last search.
    _lost_create: WaitStep | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._collector = self._new_collector()
        self._sender = self._new_sender()
        self._paid = self._new_paid_answers()
        self._end = self._new_end()
        self._timeouts = self._new_timeouts()
        self._outages = self._new_outages()

    def next_step(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        """Read the rows that are landed, and do what can be done. After a failure that may pass, wait.

        :raises SubmissionError: a person must decide, or another attempt owns the submission.
        :raises BatchTimeoutError: the timeout has expired during an outage.
        :raises InputError: the requests must not be sent.
        :raises DailyCostLimitError: a limit of the day has no room for them now.
        :raises APIError: the API refuses, or cannot be reached and no batch of this submission exists.
        """
        try:
            self._collector.restore()
        except DamagedPartError as error:
            return self._outages.wait_after(error)
        return self._take_steps_or_wait()

    def _take_steps_or_wait(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        try:
            step = self._take_steps()
        except (APIError, ResultsError) as error:
            try:
                return self._outages.wait_after(error)
            except (APIError, ResultsError):
                self.reservation.settle_before_error(self.landing.bill)
                raise
        self._outages.forget_refusals()
        return step

    def _take_steps(self) -> WaitStep | AskStep | DirectStep | DoneStep:
        """Take the steps of a round in order, round after round, until one must wait or everything is done."""
        actions: tuple[Callable[[], WaitStep | AskStep | DirectStep | DoneStep | None], ...] = (
            partial(take_over_journals, self.record, self.folder, self.landing, self._collector),
            self._resolve_open_creates,
            self._drop_discarded_batches,
            self._collector.collect,
            self._finish_if_rows_name_no_request,
            self._finish_after_refused_canary,
            self._timeouts.next_step,
            self._wait_for_landed_rows,
            self._paid.reuse_stored,
            self._end_sample,
            self._finish_after_rejection,
            self._sender.send_round,
            self._wait_for_open_batches,
            self._finish_unless_round_begins,
        )
        self.memory.is_old &= not (self._ledger.has_sent or self._ledger.open_parts or self._ledger.intents)
        while True:
            for action in actions:
                if (step := action()) is not None:
                    return step

    @property
    def _ledger(self) -> Ledger:
        return self.record.ledger

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
            deadline=self.waits.timeout_at,
            observer=self.observer,
            api=self.client.base_url,
            peeked=PEEKED,
        )
        if create is None:
            return None
        if self.waits.is_past_final_deadline:
            raise unknown_create_error(self._ledger.intents[0])
        self._lost_create = self.waits.for_lost_create(create)
        return None if self.waits.is_in_reserve else self._lost_create

    def _drop_discarded_batches(self) -> None:
        """Cancel batches of an input that was replaced as a whole. Their answers are not used."""
        for part in self._ledger.open_parts:
            if part.answers == AnswerUse.DISCARD and part.batch_id:
                cancel_batch(self.client, part.batch_id, sleep=self.sleep)
                self.record.save(self._ledger.without_batch(part.batch_id))

    def _finish_if_rows_name_no_request(self) -> DoneStep | None:
        """Stop if results came under our token that name no request: nobody can tell what is answered."""
        for batch_id, download in self._collector.unplaced.items():
            return self._end.finish(unplaced_rows_error(batch_id, download.unplaced, download.rows), permanent=True)
        return None

    def _finish_after_refused_canary(self) -> DoneStep | None:
        if not self.policy.canary or self._ledger.open_parts:
            return None
        error = refused_canary_error(self.landing)
        if error is None or len(self.landing.answered_indices()) > 1:  # the others were sent after an unanswered one
            return None
        return self._end.finish(error, permanent=True)

    def _wait_for_landed_rows(self) -> WaitStep | None:
        """Send nothing while rows that were paid for are missing from the folder and may be read again."""
        unread = self._collector.unread_landed
        return self.waits.for_landed_rows(unread) if unread else None

    def _end_sample(self) -> WaitStep | None:
        """Publish the rows of the sample once it has ended."""
        part = self._ledger.sample_part
        if part is None:
            return None
        if not part.landed:
            return self._sender.wait_for_sample()
        if self._paid.find_copies():
            return self._sender.wait_for_sample()  # what they answered need not be sent again
        self._end.end_sample()
        return None

    def _finish_after_rejection(self) -> DoneStep | None:
        """End the attempt if a person has rejected what is still to be sent, or nobody has answered in time."""
        self.rounds.approval.expire()
        error = self.rounds.approval.rejection()
        if error is None or self._ledger.open_parts or not self._sender.has_unsent_requests:
            return None
        return self._end.finish_rejected(error)

    def _wait_for_open_batches(self) -> WaitStep | DoneStep | None:
        """Wait for what was sent, or leave that to the sensor."""
        if not self._ledger.open_parts:
            return None
        return self.waits.for_completion() if self.policy.wait_for_completion else self._end.hand_over()

    def _finish_unless_round_begins(self) -> DoneStep | None:
        if self.rounds.repairable_count(self.landing.statuses) and self._paid.find_copies():
            return None  # what they answered need not be sent again
        return None if self.rounds.begin_repair_round(self.landing.statuses) else self._end.finish(None)

    # ------------------------------------------------------------------ what takes the steps

    def _new_collector(self) -> ResultCollector:
        return ResultCollector(
            client=self.client,
            record=self.record,
            folder=self.folder,
            landing=self.landing,
            observer=self.observer,
            policy=self.policy,
            clock=self.clock,
            sleep=self.sleep,
            mark_lost=self.mark_lost,
        )

    def _new_sender(self) -> RoundSender:
        return RoundSender(
            client=self.client,
            record=self.record,
            requests=self.requests,
            landing=self.landing,
            policy=self.policy,
            prices=self.prices,
            rounds=self.rounds,
            waits=self.waits,
            observer=self.observer,
            clock=self.clock,
            rows=self.folder.uri(RESULTS_FILE),
            is_stopped=self.is_stopped,
            resolve_open_creates=self._resolve_open_creates,
        )

    def _new_paid_answers(self) -> PaidAnswers:
        return PaidAnswers(
            client=self.client,
            record=self.record,
            requests=self.requests,
            landing=self.landing,
            policy=self.policy,
            prices=self.prices,
            collector=self._collector,
            store=self.answers,
            models=self.rounds.models,
            memory=self.memory,
            clock=self.clock,
        )

    def _new_end(self) -> SubmissionEnd:
        return SubmissionEnd(
            client=self.client,
            record=self.record,
            folder=self.folder,
            requests=self.requests,
            landing=self.landing,
            policy=self.policy,
            collector=self._collector,
            rounds=self.rounds,
            reservation=self.reservation,
            answers=self.answers,
            memory=self.memory,
        )

    def _new_timeouts(self) -> TimeoutSteps:
        return TimeoutSteps(
            client=self.client,
            record=self.record,
            landing=self.landing,
            policy=self.policy,
            waits=self.waits,
            collector=self._collector,
            sender=self._sender,
            asker=self._new_asker(),
            is_rejected=lambda: self.rounds.approval.rejection() is not None,
            lost_create=lambda: self._lost_create,
            find_answers=self._paid.find_before_asking,
            clock=self.clock,
            sleep=self.sleep,
            finish=self._end.finish,
        )

    def _new_outages(self) -> OutageHandler:
        return OutageHandler(
            record=self.record,
            policy=self.policy,
            waits=self.waits,
            clock=self.clock,
            publish=self._collector.publish,
            cancel=self._timeouts.cancel,
        )

    def _new_asker(self) -> DirectAsker:
        return DirectAsker(
            client=self.client,
            record=self.record,
            folder=self.folder,
            requests=self.requests,
            landing=self.landing,
            policy=self.policy,
            prices=self.prices,
            waits=self.waits,
            collector=self._collector,
            rounds=self.rounds,
            memory=self.memory.direct,
            clock=self.clock,
            is_stopped=self.is_stopped,
        )
