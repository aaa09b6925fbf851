"""Ask the requests that have no answer for good through the Messages API, and land what it answers.

Invariants: An answer is in the journal before its slot asks the next request, and in a landed part before it leaves the
journal. A request is in the journal before it is asked, and the attempt owns the submission at that moment. So a
process that is killed loses at most the answers in flight: as many as ``direct_concurrency``. They may be paid for
twice.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.direct.journal import (
    remove_journals,
)
from airflow_claude_batch.batch.direct.memory import DirectMemory
from airflow_claude_batch.batch.direct.pace import Pace
from airflow_claude_batch.batch.direct.report import DirectReport, NotAsked
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.direct.result_line import result_line
from airflow_claude_batch.batch.direct.sender import DirectSender
from airflow_claude_batch.batch.direct.spending_limit import SpendingLimit
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.result_collector import ResultCollector
from airflow_claude_batch.batch.send.create import directly_askable
from airflow_claude_batch.batch.send.rounds import Rounds
from airflow_claude_batch.batch.steps import DirectStep, WaitStep
from airflow_claude_batch.batch.wait_planner import WaitPlanner
from airflow_claude_batch.exceptions import (
    APIError,
    BillingError,
    ClaudeBatchError,
    DailyCostLimitError,
    InputError,
    ResultsError,
    SubmissionError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: So long no answers are merged into a landed part: the journal has them.
_SECONDS_AT_ONCE: Final = 300.0
#: A longer pause that the API asks for is no worker's time.
_PATIENCE_SECONDS: Final = 10.0
#: After so many lost responses in a row, nothing is asked for a minute.
_MOST_LOST: Final = 3
#: So many requests are asked until then. On object stores each of them is an object.
_MOST_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectAsker:
    """Asks requests directly, during one ``advance()``.

    :param folder: the submission's. It checks who owns the submission.
    """

    client: ClaudeClient
    record: LedgerRecord
    folder: storage.Folder
    requests: RequestFile
    landing: Landing
    policy: Policy
    prices: PriceTable
    waits: WaitPlanner
    collector: ResultCollector
    rounds: Rounds
    memory: DirectMemory
    clock: Callable[[], datetime]
    is_stopped: Callable[[], bool]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    @property
    def left_because(self) -> str | None:
        """Why requests were not asked, in words. None if there was no reason but the time."""
        return self.memory.left_because

    @property
    def has_requests(self) -> bool:
        """Tell whether a request may be asked directly now."""
        return next(self._askable(), None) is not None

    def ask_some(self) -> DirectStep | WaitStep | None:
        """Ask as many requests as go into one landed part. Return None if none can be asked now.

        Return how long to wait if the API takes none for a while.

        :raises ResultsError: an answer could not be written down. No other request was asked.
        :raises SubmissionError: the task is being killed, or another attempt owns the submission.
        :raises APIError: the API refuses every request.
        """
        indices = list(self._askable())
        if not indices or self.memory.left_because is not None or not self._may_ask():
            return None
        before = len(self.memory.tried)
        try:
            report = self._ask(indices)
        except ClaudeBatchError:
            with contextlib.suppress(ResultsError, SubmissionError):
                self._publish()
            raise
        self._publish()
        self._explain(report)
        asked = len(self.memory.tried) - before
        if report.resume_in is not None:
            self.memory.pace = None
            until = self.clock() + timedelta(seconds=report.resume_in)
            return WaitStep((), "any", until, "the API takes no direct request for now")
        return DirectStep(asked) if asked or report.stopped is NotAsked.HANDED_BACK else None

    def explain_rest(self) -> None:
        """Write into the rows of requests that could be asked, but were not, why that is so."""
        why = self.memory.left_because or "the timeout came first."
        for index in self._askable():
            if self.landing.statuses[index] != Status.ERRORED:
                self.landing.explain(index, f"It was not asked directly: {why}")
                self.collector.note_new_rows()

    # ------------------------------------------------------------------ before asking

    @property
    def _ledger(self) -> Ledger:
        return self.record.ledger

    def _askable(self) -> Iterator[int]:
        """Iterate over the requests to ask. There is none while landed rows are missing that may be read again."""
        if self.collector.unread_landed:
            return iter(())
        tried = self.memory.tried
        askable = directly_askable(self._ledger, self.requests, self.landing.statuses, self.policy)
        return (index for index in askable if index not in tried)

    def _may_ask(self) -> bool:
        """Estimate what the requests cost, once a process, and check the limits that need the sum of all.

        Those count too that may be asked only later, when their canceled batch has ended.
        """
        if self.memory.has_begun:
            return True
        try:
            self.rounds.check_direct(self.landing)
        except (InputError, DailyCostLimitError) as error:
            log.warning("No request is asked directly. %s", error)
            self.memory.left_because = error.summary
            return False
        self.memory.has_begun = True
        return True

    @property
    def _limit(self) -> SpendingLimit:
        return SpendingLimit(
            policy=self.policy,
            ledger=self._ledger,
            requests=self.requests,
            prices=self.prices.full,
            memory=self.memory,
        )

    # ------------------------------------------------------------------ asking

    def _ask(self, indices: Sequence[int]) -> DirectReport:
        now, clock = time.monotonic(), self.clock()
        left = (self.waits.timeout_at - clock).total_seconds()
        try:
            room = self._limit.room(self.landing.bill)
        except InputError as error:
            self.memory.left_because = error.summary
            return DirectReport()
        pace = self.memory.pace or Pace(concurrency=self.policy.direct_concurrency, start_until=now + left)
        self.memory.pace = pace
        sender = DirectSender(
            self.client,
            self.prices.full,
            concurrency=self.policy.direct_concurrency,
            start_until=now + left,
            hand_back_at=now + _SECONDS_AT_ONCE,
            patience_seconds=_PATIENCE_SECONDS,
            pace=pace,
            answer_until=now + (self.waits.final_deadline - clock).total_seconds(),
            room=room,
            may_ask_again=self._may_ask_again,
        )
        asked = (self._request(index) for index in indices[:_MOST_AT_ONCE])
        with _writing(self.folder):
            return sender.send(asked, before=self._before, answered=self._answered)

    def _request(self, index: int) -> DirectRequest:
        return DirectRequest.of(index, bytes(self.requests.params(index)), self.prices.full)

    def _custom_id(self, index: int) -> str:
        return self.requests.custom_id(index, self.memory.token)

    def _may_ask_again(self, request: DirectRequest, error: APIError) -> bool:
        """Tell whether to ask a request again whose response was lost: once, because it may be paid twice."""
        with self._lock:
            if self.policy.on_lost != "resend" or request.index in self.memory.asked_again:
                return False
            self.memory.asked_again.add(request.index)
            return True

    def _before(self, request: DirectRequest) -> None:
        """Write down that a request is asked, if this attempt still may ask it.

        It is written down first. So an attempt that takes over finds it, or this one finds that attempt.
        """
        with self._lock:
            if self.is_stopped():
                raise SubmissionError(
                    "The task was killed, so it asks no more requests.",
                    "What was answered is in the submission's folder.",
                    "Clear the task to continue from here.",
                )
            self.memory.journal.note_asked(self._custom_id(request.index))
            self.record.check_ownership()

    def _answered(self, request: DirectRequest, result: MessageResponse | APIError) -> None:
        """Write down what came of a request, durably. Also if another attempt owns the submission: it was paid for."""
        with self._lock:
            self.memory.tried.add(request.index)
            custom_id = self._custom_id(request.index)
            line = result_line(custom_id, result)
            try:
                self.memory.journal.note_answer(custom_id, line)
            finally:  # one of the two is enough to keep it
                self._land(line)
            if isinstance(result, APIError):
                self.memory.lost.add(request.index)
            self.memory.lost_in_a_row = self.memory.lost_in_a_row + 1 if isinstance(result, APIError) else 0
            if isinstance(result, APIError) and self.memory.lost_in_a_row >= _MOST_LOST:
                self.memory.lost_in_a_row = 0
                raise result  # an outage: the requests that are not asked yet wait for its end

    def _land(self, line: bytes) -> None:
        try:
            self.landing.read_direct(line)
        except BaseException:
            self.memory.has_unlanded = True
            raise

    def _publish(self) -> None:
        """Land what was answered, and go on with an empty journal. One that has more than was landed is read again."""
        self.collector.note_new_rows()
        self.collector.publish()
        self._note_lost()
        names = self.memory.journal.start_anew()
        if not self.memory.has_unlanded:
            remove_journals(self.folder, names)
        self.memory.has_unlanded = False

    def _note_lost(self) -> None:
        """Note which responses were lost, for the process that goes on after a wait."""
        direct = self._ledger.direct
        if direct and not self.memory.lost.issubset(direct.lost):
            noted = msgspec.structs.replace(direct, lost=tuple(sorted(self.memory.lost)))
            self.record.save(msgspec.structs.replace(self._ledger, direct=noted))

    def _explain(self, report: DirectReport) -> None:
        """Say what came of the requests, and keep why some were not asked.

        :raises APIError: the API refuses every request.
        """
        log.info(
            "Asked %s directly: %d answered, %d refused by the API, and %d whose response was lost.",
            quantity(report.answered + report.refused + report.lost, "request"),
            report.answered,
            report.refused,
            report.lost,
        )
        if report.lost:
            log.warning(
                "The response to %s was lost on the way, and %s may be billed. %s",
                quantity(report.lost, "request"),
                "it" if report.lost == 1 else "they",
                "Asked again, because on_lost is 'resend'."
                if self.policy.on_lost == "resend"
                else "This attempt does not ask again.",
            )
        if report.resume_in is not None and report.held_back_by is not None:
            log.warning("No request is asked directly for %.0f s. %s", report.resume_in, report.held_back_by)
        costly = [index for index, why in report.not_asked.items() if why is NotAsked.TOO_COSTLY]
        if (costly or report.stopped is NotAsked.TOO_COSTLY) and (limit := self._limit.lowest) is not None:
            usd, name = limit
            self.memory.left_because = (
                f"{name}, ${rounded_usd(usd)}, has no room for what it may cost at full price, beside what is billed."
            )
            log.warning("Not all requests are asked directly: %s", self.memory.left_because)
        if isinstance(report.error, BillingError):
            self.memory.left_because = report.error.summary
        elif report.error is not None:
            raise report.error


@contextlib.contextmanager
def _writing(folder: storage.Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"The journal of direct requests in {folder.uri('')} could not be written ({error}).",
            "No other request is asked now. Answers that could not be written may be paid for again.",
            "Make sure that the storage can be written, then retry the task.",
        ) from error
