from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_claude_batch.api.wire import MessageBatch, RequestCounts
from airflow_claude_batch.batch.wait.poll_round import PollResult
from airflow_claude_batch.batch.wait.watch_list import WatchList
from airflow_claude_batch.exceptions import AuthenticationError, NotFoundError, RateLimitError, ServerError

WALL = datetime(2026, 11, 22, tzinfo=UTC)
MISSING = NotFoundError("no", status_code=404, error_type="not_found_error")
BUSY = RateLimitError("no", status_code=429, error_type="rate_limit_error", retry_after=120.0)
DOWN = ServerError("no", status_code=503, error_type="api_error")
REFUSED = AuthenticationError("no", status_code=401, error_type="authentication_error")


def batch(batch_id="msgbatch_1", status="in_progress", age_seconds=0.0):
    return MessageBatch(
        id=batch_id,
        processing_status=status,
        request_counts=RequestCounts(processing=1),
        created_at=WALL - timedelta(seconds=age_seconds),
    )


def roster_of(*batch_ids, poll_interval=60.0):
    roster = WatchList()
    for batch_id in batch_ids or ("msgbatch_1",):
        roster.add(batch_id, poll_interval=poll_interval, created_at=None, now=0.0)
    return roster


def test_a_new_batch_is_due_at_once():
    roster = roster_of()
    assert roster.next_look_at() == 0.0
    assert roster.due(0.0) == {"msgbatch_1": None}


def test_an_empty_roster_has_no_next_look():
    roster = roster_of()
    roster.remove("msgbatch_1")
    assert roster.next_look_at() is None
    assert roster.due(0.0) == {}


def test_the_next_look_depends_on_the_age():
    roster = roster_of()
    roster.see([batch(age_seconds=480)], now=100.0, wall=WALL)
    assert roster.next_look_at() == 140.0
    assert roster.due(140.0) == {"msgbatch_1": WALL - timedelta(seconds=480)}


def test_spreading_makes_the_next_look_earlier():
    roster = roster_of()
    roster.see([batch()], now=0.0, wall=WALL, spread=1.0)
    assert roster.next_look_at() == pytest.approx(9.0)


def test_the_most_impatient_waiter_sets_the_pace():
    roster = roster_of()
    roster.see([batch(age_seconds=86_000)], now=0.0, wall=WALL)
    assert roster.next_look_at() == 60.0
    roster.add("msgbatch_1", poll_interval=20.0, created_at=None, now=5.0)
    assert roster.next_look_at() == 25.0
    roster.see([batch(age_seconds=86_000)], now=25.0, wall=WALL)
    assert roster.next_look_at() == 45.0


def test_what_is_due_soon_is_looked_at_along_with_what_is_due():
    roster = roster_of("msgbatch_1", "msgbatch_2", "msgbatch_3")
    roster.see([batch("msgbatch_1", age_seconds=86_000)], now=0.0, wall=WALL)
    roster.see([batch("msgbatch_2", age_seconds=86_000)], now=20.0, wall=WALL)
    roster.see([batch("msgbatch_3", age_seconds=86_000)], now=40.0, wall=WALL)
    assert list(roster.due(60.0)) == ["msgbatch_1", "msgbatch_2"]


def test_only_changes_are_told_and_each_once():
    roster = roster_of()
    seen = ["in_progress", "in_progress", "canceling", "canceling", "ended"]
    told = [[b.processing_status for b in roster.see([batch(status=s)], now=0.0, wall=WALL)] for s in seen]
    assert told == [[], [], ["canceling"], [], ["ended"]]


def test_batches_that_nobody_waits_for_are_passed_over():
    assert roster_of().see([batch("msgbatch_9", "ended")], now=0.0, wall=WALL) == []


def test_doubts_add_up_only_if_the_batch_is_never_seen_between():
    roster = roster_of()
    for minute in range(120):
        report = roster.note(PollResult(doubts={"msgbatch_1": MISSING}), now=minute * 60.0)
        assert not report.gone
        if minute % 5 == 4:
            roster.see([batch()], now=minute * 60.0, wall=WALL)


def test_a_batch_in_doubt_for_ten_minutes_is_gone():
    roster = roster_of()
    gone = [bool(roster.note(PollResult(doubts={"msgbatch_1": MISSING}), now=m * 60.0).gone) for m in range(12)]
    assert gone == [False] * 10 + [True] * 2


def test_a_doubt_about_a_batch_that_nobody_waits_for_is_passed_over():
    assert not roster_of().note(PollResult(doubts={"msgbatch_9": MISSING}), now=0.0).reconnect_if_old


def test_an_outage_begins_with_the_second_failure_and_ends_with_the_first_answer():
    roster = roster_of()
    reports = [roster.note(PollResult(trouble=DOWN), now=now) for now in (10.0, 20.0, 30.0)]
    assert [report.outage_began for report in reports] == [None, DOWN, None]
    assert roster.note(PollResult(), now=100.0).outage_ended == 90.0
    assert roster.note(PollResult(), now=110.0).outage_ended is None


def test_no_look_begins_before_the_time_that_the_api_names():
    roster = roster_of("msgbatch_1", "msgbatch_2")
    roster.note(PollResult(trouble=BUSY), now=10.0)
    assert roster.next_look_at() == 130.0
    roster.add("msgbatch_3", poll_interval=10.0, created_at=None, now=20.0)
    assert roster.next_look_at() == 130.0


def test_a_survey_of_many_calls_is_followed_by_a_longer_rest():
    roster = roster_of()
    roster.note(PollResult(calls=100), now=0.0, calls_per_minute=1000)
    assert roster.next_look_at() == 60.0


def test_a_refusal_is_followed_by_one_more_look_with_the_connection_read_again():
    roster = roster_of()
    first = roster.note(PollResult(trouble=REFUSED), now=10.0)
    assert (first.reconnect, first.refused, roster.next_look_at()) == (True, None, 10.0)
    assert roster.note(PollResult(trouble=REFUSED), now=11.0).refused is REFUSED


def test_an_answer_between_two_refusals_makes_the_second_a_first_one():
    roster = roster_of()
    roster.note(PollResult(trouble=REFUSED), now=10.0)
    roster.note(PollResult(), now=20.0)
    assert roster.note(PollResult(trouble=REFUSED), now=30.0).refused is None


def test_who_comes_after_all_have_left_gets_a_second_look_too():
    roster = roster_of()
    roster.note(PollResult(trouble=REFUSED), now=10.0)
    roster.note(PollResult(trouble=REFUSED), now=11.0)
    roster.remove("msgbatch_1")
    roster.add("msgbatch_2", poll_interval=60.0, created_at=None, now=12.0)
    assert roster.note(PollResult(trouble=REFUSED), now=13.0).refused is None
