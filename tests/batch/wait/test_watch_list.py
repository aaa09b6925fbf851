from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_claude_batch.api.wire import MessageBatch, RequestCounts
from airflow_claude_batch.batch.wait.poll_round import ListPage, PollResult
from airflow_claude_batch.batch.wait.watch_list import WatchList
from airflow_claude_batch.exceptions import AuthenticationError, NotFoundError, RateLimitError, ServerError

WALL = datetime(2026, 11, 22, tzinfo=UTC)
MISSING = NotFoundError("no", status_code=404, error_type="not_found_error")
BUSY = RateLimitError("no", status_code=429, error_type="rate_limit_error", retry_after=120.0)
DOWN = ServerError("no", status_code=503, error_type="api_error")
REJECTED = AuthenticationError("no", status_code=401, error_type="authentication_error")


def batch(batch_id="msgbatch_1", status="in_progress", age_seconds=0.0):
    return MessageBatch(
        id=batch_id,
        processing_status=status,
        request_counts=RequestCounts(processing=1),
        created_at=WALL - timedelta(seconds=age_seconds),
    )


def watch_list_of(*batch_ids, poll_interval=60.0):
    watch_list = WatchList()
    for batch_id in batch_ids or ("msgbatch_1",):
        watch_list.add(batch_id, poll_interval=poll_interval, created_at=None, now=0.0)
    return watch_list


def test_a_new_batch_is_due_at_once():
    watch_list = watch_list_of()
    assert watch_list.next_poll_at() == 0.0
    assert watch_list.due(0.0) == {"msgbatch_1": None}


def test_an_empty_watch_list_has_no_next_poll():
    watch_list = watch_list_of()
    watch_list.remove("msgbatch_1")
    assert watch_list.next_poll_at() is None
    assert watch_list.due(0.0) == {}


def test_the_next_poll_depends_on_the_age():
    watch_list = watch_list_of()
    watch_list.update_batches([batch(age_seconds=480)], now=100.0, wall=WALL)
    assert watch_list.next_poll_at() == 140.0
    assert watch_list.due(140.0) == {"msgbatch_1": WALL - timedelta(seconds=480)}


def test_jitter_makes_the_next_poll_earlier():
    watch_list = watch_list_of()
    watch_list.update_batches([batch()], now=0.0, wall=WALL, jitter=1.0)
    assert watch_list.next_poll_at() == pytest.approx(9.0)


def test_the_shortest_poll_interval_wins():
    watch_list = watch_list_of()
    watch_list.update_batches([batch(age_seconds=86_000)], now=0.0, wall=WALL)
    assert watch_list.next_poll_at() == 60.0
    watch_list.add("msgbatch_1", poll_interval=20.0, created_at=None, now=5.0)
    assert watch_list.next_poll_at() == 25.0
    watch_list.update_batches([batch(age_seconds=86_000)], now=25.0, wall=WALL)
    assert watch_list.next_poll_at() == 45.0


def test_batches_due_soon_are_polled_together_with_those_due_now():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2", "msgbatch_3")
    watch_list.update_batches([batch("msgbatch_1", age_seconds=86_000)], now=0.0, wall=WALL)
    watch_list.update_batches([batch("msgbatch_2", age_seconds=86_000)], now=20.0, wall=WALL)
    watch_list.update_batches([batch("msgbatch_3", age_seconds=86_000)], now=40.0, wall=WALL)
    assert list(watch_list.due(60.0)) == ["msgbatch_1", "msgbatch_2"]


def test_only_changes_of_status_are_returned_and_each_once():
    watch_list = watch_list_of()
    seen = ["in_progress", "in_progress", "canceling", "canceling", "ended"]
    changed = [
        [b.processing_status for b in watch_list.update_batches([batch(status=s)], now=0.0, wall=WALL)] for s in seen
    ]
    assert changed == [[], [], ["canceling"], [], ["ended"]]


def test_unwatched_batches_are_ignored():
    assert watch_list_of().update_batches([batch("msgbatch_9", "ended")], now=0.0, wall=WALL) == []


def test_denials_add_up_only_if_the_batch_is_never_seen_between():
    watch_list = watch_list_of()
    for minute in range(120):
        changes = watch_list.finish_round(PollResult(denied={"msgbatch_1": MISSING}), now=minute * 60.0)
        assert not changes.confirmed_denials
        if minute % 5 == 4:
            watch_list.update_batches([batch()], now=minute * 60.0, wall=WALL)


def test_a_batch_not_found_for_ten_minutes_is_confirmed_as_denied():
    watch_list = watch_list_of()
    confirmed = [
        bool(watch_list.finish_round(PollResult(denied={"msgbatch_1": MISSING}), now=m * 60.0).confirmed_denials)
        for m in range(12)
    ]
    assert confirmed == [False] * 10 + [True] * 2


def test_a_denial_of_an_unwatched_batch_is_ignored():
    assert not watch_list_of().finish_round(PollResult(denied={"msgbatch_9": MISSING}), now=0.0).reconnect_if_stale


def test_an_outage_begins_with_the_second_failure_and_ends_with_the_first_success():
    watch_list = watch_list_of()
    changes = [watch_list.finish_round(PollResult(error=DOWN), now=now) for now in (10.0, 20.0, 30.0)]
    assert [each.outage_began for each in changes] == [None, DOWN, None]
    assert watch_list.finish_round(PollResult(), now=100.0).outage_ended == 90.0
    assert watch_list.finish_round(PollResult(), now=110.0).outage_ended is None


def test_no_poll_begins_before_retry_after_has_passed():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2")
    watch_list.finish_round(PollResult(error=BUSY), now=10.0)
    assert watch_list.next_poll_at() == 130.0
    watch_list.add("msgbatch_3", poll_interval=10.0, created_at=None, now=20.0)
    assert watch_list.next_poll_at() == 130.0


def test_a_round_of_many_calls_is_followed_by_a_longer_pause():
    watch_list = watch_list_of()
    watch_list.finish_round(PollResult(calls=100), now=0.0, calls_per_minute=1000)
    assert watch_list.next_poll_at() == 60.0


def test_a_rejected_credential_is_tried_again_at_growing_intervals_and_believed_after_ten_minutes():
    watch_list = watch_list_of()
    first = watch_list.finish_round(PollResult(error=REJECTED), now=10.0)
    assert (first.reconnect, first.unauthorized, watch_list.next_poll_at()) == (True, None, 10.0)
    times, changes = [], first
    while changes.unauthorized is None:
        times.append(watch_list.next_poll_at())
        changes = watch_list.finish_round(PollResult(error=REJECTED), now=times[-1])
        assert changes.reconnect
    assert times[:7] == [10, 15, 25, 45, 85, 145, 205]
    assert (changes.unauthorized, times[-1] - 10) == (REJECTED, pytest.approx(600, abs=60))


def test_two_rejections_ten_minutes_apart_are_not_enough():
    watch_list = watch_list_of()
    watch_list.finish_round(PollResult(error=REJECTED), now=0.0)
    assert watch_list.finish_round(PollResult(error=REJECTED), now=900.0).unauthorized is None
    assert watch_list.finish_round(PollResult(error=REJECTED), now=905.0).unauthorized is REJECTED


def test_a_listing_refused_where_single_calls_are_not_pauses_ever_longer_and_is_tried_again():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2")
    assert watch_list.may_list(0.0)
    pauses, now = [], 0.0
    for _ in range(9):
        watch_list.finish_round(PollResult(list_error=REJECTED), now=now)
        pauses.append(next(s for s in range(1, 2000) if watch_list.may_list(now + s)))
        now += pauses[-1]
    assert pauses == [15, 30, 60, 120, 240, 480, 900, 900, 900]
    watch_list.finish_round(PollResult(listed=True), now=now)
    watch_list.finish_round(PollResult(list_error=REJECTED), now=now)
    assert watch_list.may_list(now + 15)


def test_a_listing_that_fails_alone_is_left_out_of_the_next_round_and_then_pauses():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2")
    watch_list.finish_round(PollResult(error=DOWN, list_error=DOWN), now=0.0)
    assert not watch_list.may_list(5.0)
    assert watch_list.is_failing
    watch_list.finish_round(PollResult(), now=5.0)
    assert not watch_list.is_failing
    assert (watch_list.may_list(10.0), watch_list.may_list(20.0)) == (False, True)


def test_in_an_outage_of_everything_the_listing_is_not_blamed():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2")
    watch_list.finish_round(PollResult(error=DOWN, list_error=DOWN), now=0.0)
    watch_list.finish_round(PollResult(error=DOWN), now=5.0)
    assert watch_list.may_list(5.0)


def test_a_batch_that_only_the_listing_shows_is_checked_every_ten_minutes():
    watch_list = watch_list_of("msgbatch_1", "msgbatch_2")
    now, checks = 0.0, []
    for _ in range(60):
        now += 60.0
        calls = next(watch_list.begin_round(now))
        assert calls == [ListPage(limit=20)]
        check = watch_list._unchecked(watch_list.due(now), now)
        if check:
            checks.append((now, check))
        result = PollResult(listed=True, retrieved={check} if check else set())
        watch_list.finish_round(result, now=now)
        watch_list.update_batches([batch("msgbatch_1"), batch("msgbatch_2")], now=now, wall=WALL)
    assert len(checks) == 11
    assert checks[:4] == [(600, "msgbatch_1"), (660, "msgbatch_2"), (1200, "msgbatch_1"), (1260, "msgbatch_2")]


def test_an_unconfirmed_batch_is_not_due_at_once():
    watch_list = WatchList()
    watch_list.add("msgbatch_1", poll_interval=60.0, created_at=None, now=5.0, is_unconfirmed=True)
    assert watch_list.next_poll_at() == 15.0
    assert watch_list.unconfirmed_ids == {"msgbatch_1"}
    watch_list.add("msgbatch_1", poll_interval=2.0, created_at=None, now=5.0)
    assert watch_list.next_poll_at() == 7.0
    assert watch_list.unconfirmed_ids == {"msgbatch_1"}


def test_a_success_between_two_rejections_resets_the_count():
    watch_list = watch_list_of()
    watch_list.finish_round(PollResult(error=REJECTED), now=10.0)
    watch_list.finish_round(PollResult(), now=20.0)
    assert watch_list.finish_round(PollResult(error=REJECTED), now=30.0).unauthorized is None


def test_a_batch_added_after_all_were_removed_is_polled_a_second_time_too():
    watch_list = watch_list_of()
    watch_list.finish_round(PollResult(error=REJECTED), now=10.0)
    watch_list.finish_round(PollResult(error=REJECTED), now=11.0)
    watch_list.remove("msgbatch_1")
    watch_list.add("msgbatch_2", poll_interval=60.0, created_at=None, now=12.0)
    assert watch_list.finish_round(PollResult(error=REJECTED), now=13.0).unauthorized is None
