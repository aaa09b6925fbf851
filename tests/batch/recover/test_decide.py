from __future__ import annotations

import contextlib
import tempfile
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from model_workspace import DAY, START, Killed, MemoryStore, ModelBatch, ModelWorkspace

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger, save_ledger
from airflow_claude_batch.batch.observer import NullObserver
from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE, Policy
from airflow_claude_batch.batch.recover.clocks import CLOCK_TOLERANCE, Moment
from airflow_claude_batch.batch.recover.decide import (
    LONGEST_SEARCH_INTERVAL,
    MAX_PROXY_DELAY,
    MIN_UPLOAD_BYTES_PER_SECOND,
    SEARCH_INTERVAL,
    Adopt,
    Candidate,
    LookAgain,
    Peek,
    Send,
    Stop,
    Trust,
    create_timeout,
    decide,
    is_too_late,
    search_time,
)
from airflow_claude_batch.batch.recover.resolve import resolve_open_creates
from airflow_claude_batch.batch.send.create import send_slice
from airflow_claude_batch.batch.send.splitting import Slice, split
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.exceptions import APIError, SubmissionUnknownError

TOKEN = "0123456789ab"
OURS = f"{TOKEN}-0-{'h' * 22}"
SECOND = timedelta(seconds=1)
HALF = timedelta(seconds=0.5)
HOUR = timedelta(hours=1)

PART = Part(
    token=TOKEN,
    first=0,
    last=2,
    count=3,
    size=1000,
    attempt="a",
    round=0,
    intended_at=START,
    intended_at_worker=START,
    watermark="msgbatch_w",
    watermark_at=START - HOUR,
)
EARLY = START + 30 * SECOND
LATE = START + create_timeout(PART.size) + LOST_CREATE_GRACE
AFTER_GRACE = LOST_CREATE_GRACE + MAX_PROXY_DELAY + create_timeout(PART.size)


def batch(
    id_: str = "b", *, count: int = 3, ended: bool = False, first: str | None = None, at=EARLY, **more
) -> Candidate:
    return Candidate(id_, count, ended, at, first, **more)


def both(at, *, worker=timedelta(), api=timedelta()) -> Moment:
    return Moment(at + worker, at + api)


AGAIN = LookAgain((), SEARCH_INTERVAL)


@pytest.mark.parametrize(
    ("listing", "now", "expected"),
    [
        pytest.param([], EARLY, AGAIN, id="no batch yet: search again soon"),
        pytest.param([], LATE - SECOND, LookAgain((), 2 * SECOND), id="no batch, shortly before the end: one more"),
        pytest.param([], LATE - HALF, LookAgain((), HALF + SECOND), id="no batch: not before the clock moves"),
        pytest.param([], LATE, Send(), id="no batch after the grace: not accepted"),
        pytest.param([batch()], EARLY, LookAgain(("b",), SEARCH_INTERVAL), id="a running batch may be ours"),
        pytest.param([batch()], LATE, LookAgain(("b",), None), id="running after the grace: wait, do not pay again"),
        pytest.param([batch(ended=True)], EARLY, Peek(("b",)), id="ended: read its first line"),
        pytest.param([batch(ended=True)], LATE, Peek(("b",)), id="ended, after the grace: still read it"),
        pytest.param([batch(ended=True, first=OURS)], EARLY, Adopt("b"), id="our token: ours"),
        pytest.param([batch(first=OURS)], EARLY, Adopt("b"), id="our token in a batch that runs: ours"),
        pytest.param([batch(ended=True, first=OURS.upper())], EARLY, Adopt("b"), id="our token in capitals"),
        pytest.param(
            [batch(ended=True, first=f"org1/{OURS.replace('-', '_')}")], EARLY, Adopt("b"), id="our token in a new form"
        ),
        pytest.param([batch(ended=True, first="x-0-y")], EARLY, AGAIN, id="another token"),
        pytest.param([batch(ended=True, first="x-0-y")], LATE, Send(), id="another token, after the grace"),
        pytest.param([batch(ended=True, first="")], EARLY, AGAIN, id="results are gone: not yet"),
        pytest.param([batch(ended=True, first="")], LATE, Stop(("b",)), id="results are gone after the grace: stop"),
        pytest.param(
            [batch(ended=True, is_unreadable=True)],
            LATE,
            LookAgain((), LONGEST_SEARCH_INTERVAL),
            id="unreadable just now: not gone, however late",
        ),
        pytest.param([batch(count=4)], LATE, Send(), id="another request count: not ours"),
        pytest.param([batch(count=0)], LATE, LookAgain(("b",), None), id="no count: may be ours"),
        pytest.param([batch(count=6)], LATE, LookAgain(("b",), None), id="doubled count: may be ours"),
        pytest.param([batch("known")], LATE, Send(), id="recorded for another part"),
        pytest.param([batch("before")], LATE, Send(), id="listed before the call"),
        pytest.param([batch("foreign")], LATE, Send(), id="read before, and somebody else's"),
        pytest.param([batch(at=START - 2 * HOUR)], LATE, Send(), id="older than the watermark"),
        pytest.param([batch(at=START - HOUR)], LATE, LookAgain(("b",), None), id="as old as the watermark"),
        pytest.param(
            [batch(at=START - HOUR - CLOCK_TOLERANCE)],
            LATE,
            LookAgain(("b",), None),
            id="a little older than the watermark: nodes' clocks differ",
        ),
        pytest.param(
            [batch(at=START - 2 * HOUR, is_listed_newer=True)],
            LATE,
            LookAgain(("b",), None),
            id="listed as newer than the watermark: a node's clock is slow",
        ),
        pytest.param(
            [batch(at=START + AFTER_GRACE)], LATE + DAY, LookAgain(("b",), None), id="created as late as possible"
        ),
        pytest.param([batch(at=START + AFTER_GRACE + SECOND)], LATE + DAY, Send(), id="created too late to be ours"),
        pytest.param(
            [batch("c"), batch("b", ended=True)], EARLY, Peek(("b",)), id="read what has ended before waiting"
        ),
        pytest.param(
            [batch("c", ended=True), batch("b", ended=True, first=OURS)], EARLY, Adopt("b"), id="found: read no other"
        ),
        pytest.param(
            [batch("c", ended=True, first=OURS, succeeded=1), batch("b", ended=True, first=OURS, succeeded=3)],
            EARLY,
            Adopt("b", ("c",)),
            id="found twice: keep the one with more answers",
        ),
        pytest.param(
            [batch("c", first=OURS, at=EARLY + SECOND), batch("b", first=OURS)],
            EARLY,
            Adopt("b", ("c",)),
            id="found twice with as many answers: keep the older one",
        ),
        pytest.param(
            [batch("d"), batch("c"), batch("b", ended=True, first="")],
            LATE,
            LookAgain(("d", "c"), None),
            id="wait for running ones before stopping because of one whose results are gone",
        ),
    ],
)
def test_decision_follows_from_the_listing(listing, now, expected):
    part = msgspec.structs.replace(PART, listed_before=("before",), candidates=("b",), foreign=("foreign",))
    assert decide(part, listing, known=["known"], now=both(now)) == expected


@pytest.mark.parametrize(
    ("now", "trust", "decided"),
    [
        pytest.param(both(LATE), Trust.WHOLE, True, id="both clocks agree"),
        pytest.param(both(LATE, worker=-SECOND), Trust.WHOLE, False, id="not by the worker's clock"),
        pytest.param(both(LATE, worker=-5 * HOUR), Trust.WHOLE, False, id="the worker's clock was set back"),
        pytest.param(both(LATE, api=-SECOND), Trust.WHOLE, False, id="not by the API's clock"),
        pytest.param(both(EARLY, api=5 * HOUR), Trust.WHOLE, False, id="one node of the API is hours ahead"),
        pytest.param(both(EARLY, worker=5 * HOUR), Trust.WHOLE, False, id="the worker's clock was set forward"),
        pytest.param(Moment(LATE + DAY, START), Trust.WHOLE, False, id="a gateway repeats an old Date for ever"),
        pytest.param(Moment(LATE, None), Trust.WHOLE, False, id="no Date: one clock is not enough"),
        pytest.param(Moment(LATE + (LATE - START), None), Trust.WHOLE, True, id="no Date: twice the time"),
        pytest.param(both(LATE), Trust.UNPROVEN, False, id="an empty listing is not enough"),
        pytest.param(both(LATE + (LATE - START)), Trust.UNPROVEN, True, id="an empty listing for twice the time"),
        pytest.param(both(LATE + 100 * DAY), Trust.CONTRADICTED, False, id="a listing that lacks batches: never"),
    ],
)
def test_create_counts_as_not_accepted_only_by_both_clocks_and_a_whole_listing(now, trust, decided):
    part = PART
    decision = decide(part, [], known=[], now=now, trust=trust)

    assert (decision == Send()) is decided
    assert is_too_late(part, now, LOST_CREATE_GRACE, trust) is decided
    if not decided:
        assert isinstance(decision, LookAgain)
        assert SECOND <= decision.pause <= LONGEST_SEARCH_INTERVAL


@pytest.mark.parametrize("offset", [-5 * HOUR, -61 * SECOND, 61 * SECOND, 5 * HOUR], ids=str)
def test_batch_is_never_too_new_if_the_clocks_contradicted_at_the_intent(offset):
    part = msgspec.structs.replace(PART, intended_at_worker=START + offset)
    newer = batch(at=START + 10 * AFTER_GRACE)

    assert decide(part, [newer], known=[], now=both(LATE + DAY + abs(offset))) == LookAgain(("b",), None)


def test_without_the_apis_clock_at_the_intent_its_time_counts_from_the_first_search():
    part = msgspec.structs.replace(PART, intended_at_worker=None)
    searched = msgspec.structs.replace(part, searched_since=START + 30 * SECOND)
    newer = batch(at=START + 10 * AFTER_GRACE)

    assert decide(part, [], known=[], now=both(LATE + DAY)) == AGAIN
    assert isinstance(decide(searched, [], known=[], now=both(LATE + 29 * SECOND)), LookAgain)
    assert decide(searched, [], known=[], now=both(LATE + 30 * SECOND)) == Send()
    assert decide(searched, [newer], known=[], now=both(LATE + DAY)) == LookAgain(("b",), None)


def test_batch_that_appears_after_all_others_were_found_is_not_ours():
    part = msgspec.structs.replace(PART, candidates=("b",), has_all_candidates=True)

    assert decide(part, [batch("c"), batch("b")], known=[], now=both(LATE)) == LookAgain(("b",), None)
    assert decide(part, [batch("c"), batch("b", ended=True, first="x")], known=[], now=both(LATE)) == Send()


def test_refused_create_is_only_looked_for_once():
    part = msgspec.structs.replace(PART, refused=True)

    assert decide(part, [], known=[], now=both(EARLY)) == Send()
    assert decide(part, [batch()], known=[], now=both(EARLY)) == LookAgain(("b",), None)
    assert decide(part, [], known=[], now=both(EARLY), trust=Trust.CONTRADICTED) == AGAIN


@pytest.mark.parametrize("hours", [3, 9, 24])
def test_creation_time_that_is_still_to_come_tells_nothing(hours: int):
    """A gateway gives local times without an offset."""
    listed = batch(at=EARLY + hours * HOUR)
    assert decide(PART, [listed], known=[], now=both(LATE)) == LookAgain(("b",), None)


def test_batch_with_odd_numbers_stays_a_candidate_until_its_results_are_read():
    part = msgspec.structs.replace(PART, odd_candidates=("b",), has_all_candidates=True)
    now = both(LATE + 24 * HOUR)
    assert decide(part, [batch(count=7, at=EARLY + 9 * HOUR)], known=[], now=now) == LookAgain(("b",), None)
    assert decide(part, [batch(count=7, ended=True)], known=[], now=now) == Peek(("b",))
    assert decide(part, [batch(count=7, ended=True, first="x-0-y")], known=[], now=now) == Send()


def test_without_a_watermark_every_batch_is_a_candidate():
    part = msgspec.structs.replace(PART, watermark=None, watermark_at=None)
    assert decide(part, [batch(at=START - HOUR)], known=[], now=both(LATE)) == LookAgain(("b",), None)


def test_search_lasts_longer_for_a_larger_upload():
    larger = msgspec.structs.replace(PART, size=PART.size + 100 * MIN_UPLOAD_BYTES_PER_SECOND)
    assert search_time(larger, HOUR) - search_time(PART, HOUR) == 100 * SECOND
    assert search_time(PART, HOUR) == create_timeout(PART.size) + HOUR


def test_pauses_between_searches_grow():
    pauses = [decide(PART, [], known=[], now=both(START + n * 60 * SECOND)).pause for n in (0, 2, 4, 10, 30)]

    assert pauses == [SEARCH_INTERVAL, SEARCH_INTERVAL, 60 * SECOND, 150 * SECOND, LONGEST_SEARCH_INTERVAL]


# ---------------------------------------------------------------- the decision in random histories

_OUTCOMES = ("answered", "refused", "lost", "dropped", "killed before", "killed after", "uploading", "killed uploading")
_PROCESS_PAUSES = st.sampled_from([0, 0, 0, 5, 61, 200, 3600]).map(lambda seconds: timedelta(seconds=seconds))
_STEPS = st.sampled_from([1, 9, 10, 60, 119, 180, 600, 3600, 12 * 3600]).map(lambda seconds: timedelta(seconds=seconds))
_SIZES = st.sampled_from([2, 2, 2, 1, 3])
#: How late an upload may be accepted. The API sends its clock in whole seconds, so not all of the grace.
_LATE_ACCEPTANCES = st.sampled_from([0, 30, 118, 1800, 3598])


def _requests() -> RequestFile:
    folder = Path(tempfile.mkdtemp(prefix="decide-"))
    path = folder / "requests.jsonl"
    with path.open("wb") as file:
        write_requests((Request(n, f"k{n}", {"model": "m", "max_tokens": 1, "messages": []}) for n in range(4)), file)
    return RequestFile(path)


class LostCreates(RuleBasedStateMachine):
    """Two parts of two requests each are sent into a busy workspace, by attempts that are killed anywhere.

    The code under test is what runs in production: ``send_slice``, ``resolve_open_creates``, ``list_batches_since`` and
    ``decide``.
    """

    requests = _requests()
    slices: tuple[Slice, ...] = tuple(split(((n, 300) for n in range(4)), max_requests=2))

    @initialize(
        page=st.sampled_from([1, 2, 1000]),
        unknown_cursor=st.sampled_from(["error", "empty"]),
        before=st.lists(_SIZES, max_size=2),
        late_acceptance=_LATE_ACCEPTANCES,
        skew=st.sampled_from([0, -7200, 7200]),
        on_lost=st.sampled_from(["stop", "stop", "resend"]),
    )
    def open_workspace(self, page, unknown_cursor, before, late_acceptance, skew, on_lost):
        self.workspace = ModelWorkspace(page=page, unknown_cursor=unknown_cursor)
        for count in before:
            self.workspace.add("somebody", count)
        self.workspace.late_acceptance = timedelta(seconds=late_acceptance)
        self.workspace.listing_delay = LOST_CREATE_GRACE - 2 * SECOND - self.workspace.late_acceptance
        self.skew = timedelta(seconds=skew)
        self.policy = Policy(on_lost=on_lost)
        self.gone = False
        self.store = MemoryStore()
        ledger = Ledger(submission_id="s", input_digest="d", attempt="", attempt_began_at=START)
        claim_ledger(self.store)
        save_ledger(self.store, ledger)
        self.begin()

    # ---------------------------------------------------------------- time, and other users

    @rule(by=_STEPS)
    def time_passes(self, by):
        self.workspace.advance(by)

    @rule(count=_SIZES, listing_delay=st.sampled_from([0, 100]))
    def somebody_creates_a_batch(self, count, listing_delay):
        self.workspace.add("somebody", count, listing_delay=listing_delay * SECOND)

    @rule(data=st.data())
    def a_batch_ends(self, data):
        self.pick(data, lambda batch: batch.ended_at is None, self.workspace.end)

    @rule(data=st.data())
    def somebody_deletes(self, data):
        """Also the batch that is a watermark."""
        self.pick(data, lambda batch: batch.ended_at is not None and not batch.indices, self.delete)

    @rule(data=st.data())
    def results_are_archived(self, data):
        """Ours only if that stops us: with ``on_lost="resend"`` the author accepts to pay twice."""
        may_be_ours = self.policy.on_lost == "stop"
        self.pick(data, lambda batch: batch.ended_at is not None and (may_be_ours or not batch.indices), self.archive)

    @precondition(lambda self: self.workspace.uploads)
    @rule()
    def an_upload_is_accepted(self):
        self.workspace.accept(self.workspace.uploads[0])

    # ---------------------------------------------------------------- our attempts

    @rule()
    def begin(self):
        """A new attempt takes over. The previous one was killed, or continues and finds that it was replaced."""
        claim_ledger(self.store)
        ledger = msgspec.structs.replace(load_ledger(self.store), attempt=new_token())
        self.record = LedgerRecord.take_over(self.store, ledger)

    @precondition(lambda self: not self.record.ledger.intents and self.unsent)
    @rule(
        next_outcome=st.sampled_from(_OUTCOMES),
        kill_at=st.sampled_from([0, 0, 0, 1, 2]),
        after=st.booleans(),
        pause=_PROCESS_PAUSES,
    )
    def send(self, next_outcome, kill_at, after, pause):
        """``pause``: time between the intent and the create call, in which the process or its store is slow."""
        self.workspace.next_outcome = next_outcome
        self.store.kill_at, self.store.kill_after, self.store.pause = kill_at, after, pause
        self.store.workspace = self.workspace
        try:
            with contextlib.suppress(APIError):
                send_slice(self.unsent[0], self.record, self.requests, self.workspace, clock=self.clock)
        except Killed:
            self.store.kill_at = 0
            self.begin()
        self.store.kill_at, self.store.pause = 0, timedelta()

    @precondition(lambda self: self.record.ledger.intents)
    @rule()
    def resolve_intents(self):
        self.resolve()

    def resolve(self) -> WaitStep | None:
        before = self.record.ledger.intents
        wait = None
        try:
            wait = resolve_open_creates(
                self.record,
                self.workspace,
                self.policy,
                clock=self.clock,
                deadline=self.clock() + 1000 * HOUR,
                observer=NullObserver(),
            )
        except SubmissionUnknownError:
            assert self.policy.on_lost == "stop"
            self.gone = True
        forgotten = {part.token for part in before} - {part.token for part in self.record.ledger.parts}
        note(f"resolved: {wait}, forgotten: {forgotten}")
        assert not any(upload.token in forgotten for upload in self.workspace.uploads), "it may still be accepted"
        assert not any(batch.owner in forgotten for batch in self.workspace.ours), "it was accepted"
        return wait

    # ---------------------------------------------------------------- invariants

    @invariant()
    def no_request_is_in_two_batches(self):
        sent = [n for batch in self.workspace.ours for n in batch.indices]
        sent += [n for upload in self.workspace.uploads for n in upload.indices]
        assert len(sent) == len(set(sent))

    @invariant()
    def each_batch_of_ours_is_recorded_or_searched_for(self):
        parts = {part.token: part for part in load_ledger(self.store).parts}
        for batch in self.workspace.ours:
            assert parts[batch.owner].batch_id in (None, batch.id)

    @invariant()
    def no_batch_of_somebody_else_is_recorded(self):
        ours = {batch.id for batch in self.workspace.ours}
        assert ours.issuperset(load_ledger(self.store).batch_ids)

    def teardown(self):
        """Every history is decided within the life of a batch, even if somebody else keeps creating batches."""
        for _ in range(200):
            if not self.record.ledger.intents or self.gone:
                return
            wait = self.resolve()
            if wait is None:
                continue
            self.workspace.add("somebody", 2)
            self.workspace.advance(min(HOUR, max(SECOND, wait.until - self.clock())))
        raise AssertionError("no decision in sight")

    # ---------------------------------------------------------------- helpers

    @property
    def unsent(self) -> list[Slice]:
        known = {part.first for part in self.record.ledger.parts}
        return [each for each in self.slices if each.first not in known]

    def clock(self):
        return self.workspace.now + self.skew

    def pick(self, data, wanted, act):
        found = [batch for batch in self.workspace.batches if wanted(batch) and not batch.deleted]
        if found:
            act(data.draw(st.sampled_from(found)))

    @staticmethod
    def delete(batch: ModelBatch) -> None:
        batch.deleted = True

    @staticmethod
    def archive(batch: ModelBatch) -> None:
        batch.archived = True


class LostCreatesWithWrongClocks(LostCreates):
    """The same while one of the two clocks cannot be trusted: which one, nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: str | None = None

    @rule(
        wrong=st.sampled_from(["worker", "api"]),
        seconds=st.sampled_from([0, 5, -61, 3600, -7200, 7200, 18_000]),
        sends_date=st.booleans(),
    )
    def a_clock_is_set(self, wrong, seconds, sends_date):
        offset, self.wrong = seconds * SECOND, self.wrong or wrong
        if self.wrong == "worker":
            self.skew = offset
        else:
            self.workspace.date_offset, self.workspace.sends_date = offset, sends_date

    @rule(seconds=st.sampled_from([0, -30, 30]))
    def another_node_of_the_api_answers(self, seconds):
        self.workspace.node_offset = seconds * SECOND

    def teardown(self):
        if self.wrong == "worker":
            self.skew = timedelta()
        self.workspace.date_offset, self.workspace.sends_date = timedelta(), True
        super().teardown()


_SETTINGS = settings(
    max_examples=200,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking such histories takes minutes
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
LostCreates.TestCase.settings = _SETTINGS
LostCreatesWithWrongClocks.TestCase.settings = settings(_SETTINGS, max_examples=30)
TestLostCreates = LostCreates.TestCase
TestLostCreatesWithWrongClocks = LostCreatesWithWrongClocks.TestCase
