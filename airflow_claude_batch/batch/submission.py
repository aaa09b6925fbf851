"""Run a submission: everything that one task instance sends, from its first create call to the landed rows.

First run, retry, resumption, clear, full queue and repair round are one call, ``Submission.advance()``. It resolves
create calls without a response, collects what has ended, sends what may be sent, begins another round for what is worth
it, and returns *wait*, *ask* or *done*. Everything that it must remember is in the ledger and the folder. So any
process may make the next call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.api.time_limit import calls_until
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.answer_reuse import AnswerReuse
from airflow_claude_batch.batch.attempt_memory import AttemptMemory
from airflow_claude_batch.batch.cancel import cancel_batch
from airflow_claude_batch.batch.direct.memory import DirectMemory
from airflow_claude_batch.batch.failures import lost_batch_error
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.match_requests import SubmissionMatcher
from airflow_claude_batch.batch.land.snapshot import SnapshotPart, parts_of
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.budget import EstimateClient
from airflow_claude_batch.batch.send.day_budget import DayBudget
from airflow_claude_batch.batch.send.reservation import Reservation
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.steps import AskStep, DirectStep, DoneStep, WaitStep
from airflow_claude_batch.batch.submission_steps import SubmissionSteps
from airflow_claude_batch.batch.wait_planner import WaitPlanner

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
    _reservation: Reservation = field(init=False)
    _memory: AttemptMemory = field(init=False)
    _stopped: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._memory = AttemptMemory(direct=DirectMemory.of(self.folder, self.record.ledger))
        # An earlier attempt that comes back must not replace the rows of its successor by older ones.
        self.folder = storage.GuardedFolder(self.folder, self.record.check_ownership)
        budget = None if self.day_budget is None else self.day_budget.guarded(self.record.check_ownership)
        self._reservation = Reservation(record=self.record, budget=budget)
        self._waits = WaitPlanner(record=self.record, policy=self.policy, clock=self.clock)
        self._rounds = Rounds(
            record=self.record,
            requests=self.requests,
            policy=self.policy,
            prices=self.prices,
            clock=self.clock,
            estimate_client=self.estimate_client,
            reservation=self._reservation,
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
            step = self._steps(landing).next_step()
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

    def _steps(self, landing: Landing) -> SubmissionSteps:
        return SubmissionSteps(
            client=self.client,
            record=self.record,
            folder=self.folder,
            requests=self.requests,
            landing=landing,
            policy=self.policy,
            prices=self.prices,
            rounds=self._rounds,
            waits=self._waits,
            reservation=self._reservation,
            answers=self.answers,
            observer=self.observer,
            memory=self._memory,
            clock=self.clock,
            sleep=self.sleep,
            is_stopped=lambda: self._stopped,
            mark_lost=self.mark_lost,
        )
