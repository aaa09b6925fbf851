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
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.lenient_json import is_too_deep
from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.direct.journal import (
    DirectJournal,
    journal_names,
    read_journals,
    remove_journals,
)
from airflow_claude_batch.batch.direct.pace import Pace
from airflow_claude_batch.batch.direct.report import DirectReport, NotAsked
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.direct.sender import DirectSender
from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.odd_lines import OddLine
from airflow_claude_batch.batch.land.parse_result import NO_BATCH
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE
from airflow_claude_batch.batch.land.rows import Status
from airflow_claude_batch.batch.ledger.approval import ApprovalState
from airflow_claude_batch.batch.ledger.ledger import DirectRecord, Ledger, new_token
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.money.cost_limit import unknown_spending_error, unpriced_error
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
    MalformedResponseError,
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


@dataclass(slots=True, kw_only=True)
class DirectMemory:
    """What a process remembers of the requests that it has asked directly, from one landing to the next.

    :ivar tried: requests that it does not ask again, whatever came of them.
    :ivar lost: those of them whose response was lost.
    :ivar left_because: why requests were not asked, in words. None if all were.
    """

    journal: DirectJournal
    #: Names the requests of this process in its journal.
    token: str = field(default_factory=new_token)
    tried: set[int] = field(default_factory=set)
    lost: set[int] = field(default_factory=set)
    left_because: str | None = None
    has_begun: bool = False
    #: Requests that were asked again after their response was lost, each of them once.
    asked_again: set[int] = field(default_factory=set)
    #: Landed batches of whose create calls second batches were looked for.
    copies_looked_for: frozenset[str] = frozenset()
    #: Responses that were lost one after the other, with none in between that came.
    lost_in_a_row: int = 0
    #: The journal has an answer that could not be landed.
    has_unlanded: bool = False
    #: How fast the API takes requests. None at first, and after a long pause.
    pace: Pace | None = None

    @classmethod
    def of(cls, folder: storage.Folder, ledger: Ledger) -> DirectMemory:
        """Remember what earlier processes of this attempt have noted in the ledger.

        :param folder: the submission's, without a check of who owns it: what is in flight may be answered later.
        """
        lost = set(ledger.direct.lost) if ledger.direct else set()
        return cls(journal=DirectJournal(folder, ledger.attempt), tried=lost.copy(), lost=lost)


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
    sleep: Callable[[float], None]
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

    def take_over(self) -> None:
        """Land the answers that are in the journals of this attempt and of earlier ones, and tell what was lost.

        :raises ResultsError: the storage refuses.
        """
        direct = self._ledger.direct
        if not direct:
            return
        with _reading(self.folder):
            found = read_journals(self.folder, direct.attempts)
        if not found.names:
            return
        for line in found.answers:
            self._land_journaled(line)
        self.collector.note_new_rows()
        self.collector.publish()
        self._note_unseen(direct, found.in_flight, len(found.answers))
        remove_journals(self.folder, found.names)

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

    def remove_journals(self) -> None:
        """Remove all journals: what they have is landed."""
        if self._ledger.direct:
            with contextlib.suppress(OSError):
                remove_journals(self.folder, journal_names(self.folder))

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

    def _room(self) -> Decimal | None:
        """Return how much direct requests may cost from now on, None for any amount.

        Requests that were in flight when a process ended, or whose response was lost, count with the most that they
        may have cost.

        :raises CostLimitError: what was spent is not known.
        """
        limit, bill = self._limit, self.landing.bill
        if limit is None:
            return None
        usd, name = limit
        if bill.unpriced_models:
            raise unpriced_error(bill.unpriced_models, name)
        if unknown := bill.unknown_answers + bill.unreadable_answers:
            raise unknown_spending_error(unknown, name)
        spent = bill.cost.usd if bill.cost else Decimal(0)
        unseen = map(self._bound_of_unseen, (self._ledger.direct or DirectRecord()).unseen)
        lost = (self._request(index).bound or Decimal(0) for index in (*self.memory.lost, *self.memory.asked_again))
        return usd - spent - sum((*unseen, *lost), Decimal(0))

    @property
    def _limit(self) -> tuple[Decimal, str] | None:
        """The lowest of the limits in USD that hold for the submission in all, and its name."""
        limits = []
        if self.policy.max_cost is not None:
            limits.append((self.policy.max_cost, self.policy.max_cost_name))
        approval = self._ledger.approval or None
        if self.policy.approve_above is not None:
            is_approved = approval is not None and approval.state is ApprovalState.APPROVED
            if approval is None or not is_approved:
                limits.append((self.policy.approve_above, "approve_above"))
            elif approval.usd is not None:
                limits.append((Decimal(approval.usd), "the approved cost"))
        return min(limits, default=None)

    def _bound_of_unseen(self, custom_id: str) -> Decimal:
        """Return the most that a request in flight may have cost. Of another input's nothing is known."""
        ours = parse_custom_id(custom_id)
        if ours is None or not self.requests.has_hash(ours.index, ours.hash):
            return Decimal(0)
        return self._request(ours.index).bound or Decimal(0)

    # ------------------------------------------------------------------ asking

    def _ask(self, indices: Sequence[int]) -> DirectReport:
        now, clock = time.monotonic(), self.clock()
        left = (self.waits.timeout_at - clock).total_seconds()
        try:
            room = self._room()
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
            line = _line_of(custom_id, result)
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
        if (costly or report.stopped is NotAsked.TOO_COSTLY) and (limit := self._limit) is not None:
            usd, name = limit
            self.memory.left_because = (
                f"{name}, ${rounded_usd(usd)}, has no room for what it may cost at full price, beside what is billed."
            )
            log.warning("Not all requests are asked directly: %s", self.memory.left_because)
        if isinstance(report.error, BillingError):
            self.memory.left_because = report.error.summary
        elif report.error is not None:
            raise report.error

    # ------------------------------------------------------------------ after a kill

    def _land_journaled(self, line: bytes) -> None:
        """Land an answer of a journal. One in an unknown form, perhaps of a later release, is kept as it is."""
        try:
            self.landing.read_direct(line)
        except MalformedResponseError as error:
            self.landing.leftover.setdefault(NO_BATCH, []).append(OddLine(line, "it is not a result"))
            log.warning(
                "An answer in the journal of direct requests cannot be read (%s). It is paid for, and kept in %s. Its "
                "request is asked and paid for again.",
                error.summary,
                self.folder.uri(UNREADABLE_FILE),
            )

    def _note_unseen(self, direct: DirectRecord, in_flight: Sequence[str], answers: int) -> None:
        """Note which requests were in flight when an earlier process ended, and say so."""
        known = dict.fromkeys((*direct.unseen, *in_flight))
        if tuple(known) != direct.unseen:
            changed = msgspec.structs.replace(direct, unseen=tuple(known))
            self.record.save(msgspec.structs.replace(self._ledger, direct=changed))
        log.warning(
            "An earlier process of this task was asking requests directly when it ended. %s of it %s landed, and not "
            "asked again. %s in flight then: %s may have been answered and paid for, and %s.",
            quantity(answers, "answer"),
            "is" if answers == 1 else "are",
            f"{quantity(len(in_flight), 'request')} {'was' if len(in_flight) == 1 else 'were'}",
            "it" if len(in_flight) == 1 else "they",
            "is asked, and then paid for, again" if len(in_flight) == 1 else "are asked, and then paid for, again",
        )


def _line_of(custom_id: str, result: MessageResponse | APIError) -> bytes:
    """Write a result as a line of a message batch's results. What cannot be read again is left out."""
    if isinstance(result, APIError):
        words = f"The response was lost, so the request may be billed: {result.summary}"
        error = {"type": "error", "error": {"type": "response_lost", "message": words}, "request_id": None}
        return msgspec.json.encode({"custom_id": custom_id, "result": {"type": "errored", "error": error}})
    line = result.result_line(custom_id)
    with contextlib.suppress(MalformedResponseError):
        decode_result_line(line)
        if not is_too_deep(line):
            return line
    return msgspec.json.encode({"custom_id": custom_id, "result": {"type": "succeeded"}})


@contextlib.contextmanager
def _reading(folder: storage.Folder) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ResultsError(
            f"The journal of direct requests in {folder.uri('')} could not be read ({error}).",
            "Nothing is asked or sent now: answers that are paid for are in it.",
            "Make sure that the storage can be read, then retry the task.",
        ) from error


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
