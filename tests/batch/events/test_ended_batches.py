from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import BatchPage, MessageBatch, RequestCounts
from airflow_claude_batch.batch.events.ended_batches import FIRST_READING, WINDOW, EndedBatches
from airflow_claude_batch.batch.events.listing_round import Reading, listing_round
from airflow_claude_batch.batch.events.record import EventRecord, decode, encode
from airflow_claude_batch.batch.wait.poll_round import Call, ListPage, Response
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    MalformedResponseError,
    PermissionDeniedError,
    SubmissionRecordError,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def batch(number: int, *, age: timedelta = MINUTE, ended: bool = False) -> MessageBatch:
    return MessageBatch(
        id=f"msgbatch_{number}",
        processing_status="ended" if ended else "in_progress",
        request_counts=RequestCounts(succeeded=1),
        created_at=NOW - age,
        ended_at=NOW - age / 2 if ended else None,
    )


def reading(*batches: MessageBatch, now: datetime = NOW) -> Reading:
    return Reading(None, frozenset(), now, {each.id: each for each in batches})


def ids(batches: Iterable[MessageBatch]) -> list[str]:
    return [each.id for each in batches]


def restarted(batches: EndedBatches) -> EndedBatches:
    return EndedBatches(decode(encode(batches.record())))


# ------------------------------------------------------------------ what needs an event


def test_first_reading_is_the_baseline() -> None:
    batches = EndedBatches()
    assert batches.back_to(NOW) == NOW - FIRST_READING
    assert batches.take(reading(batch(1, ended=True), batch(2))) == []
    assert batches.open_ids == ("msgbatch_2",)
    taken = batches.take(reading(batch(1, ended=True), batch(2, ended=True), batch(3, ended=True, age=MINUTE / 2)))
    assert ids(taken) == ["msgbatch_2", "msgbatch_3"]


def test_record_without_a_watermark_gives_no_event_to_what_ended_long_ago() -> None:
    batches = EndedBatches(decode("{}"))
    assert batches.back_to(NOW) == NOW - FIRST_READING
    assert batches.take(reading(batch(1, ended=True), batch(2))) == []
    assert ids(batches.take(reading(batch(1, ended=True), batch(2, ended=True)))) == ["msgbatch_2"]


def test_record_without_a_watermark_keeps_what_it_watches() -> None:
    batches = EndedBatches(EventRecord(open={"msgbatch_1": NOW - MINUTE}))
    assert ids(batches.take(reading(batch(1, ended=True), batch(2, ended=True)))) == ["msgbatch_1"]


@pytest.mark.parametrize(
    "text",
    [
        '{"watermark":"2026-11-30T12:00:00"}',
        '{"watermark":"0001-01-01T00:00:00Z"}',
        '{"watermark":"2026-11-30T12:00:00Z","open":{"msgbatch_1":"2026-11-30T12:00:00"}}',
    ],
)
def test_times_that_cannot_be_compared_are_a_damaged_record(text: str) -> None:
    with pytest.raises(SubmissionRecordError, match="cannot be read"):
        decode(text)


def test_ended_batch_is_returned_until_it_is_finished() -> None:
    batches = EndedBatches(since=NOW - timedelta(hours=1))
    ended = batch(1, ended=True)
    assert batches.take(reading(ended)) == [ended]
    assert batches.take(reading(ended)) == [ended]
    assert restarted(batches).take(reading(ended)) == [ended]
    batches.finish(ended)
    assert batches.take(reading(ended)) == []
    assert restarted(batches).take(reading(ended)) == []


def test_batches_come_in_the_order_of_their_ends() -> None:
    batches = EndedBatches(since=NOW - timedelta(days=1))
    taken = batches.take(reading(*(batch(number, ended=True, age=number * MINUTE) for number in (1, 3, 2))))
    assert ids(taken) == ["msgbatch_3", "msgbatch_2", "msgbatch_1"]


def test_old_batch_is_found_by_its_id_after_weeks_of_newer_ones() -> None:
    batches = EndedBatches(since=NOW - timedelta(days=40))
    batches.take(reading(batch(1, age=timedelta(days=30)), batch(2)))
    assert batches.back_to(NOW) == NOW - MINUTE - WINDOW
    taken = restarted(batches).take(reading(batch(1, age=timedelta(days=30), ended=True)))
    assert ids(taken) == ["msgbatch_1"]


def test_batch_that_appears_late_is_new_and_one_of_before_is_not() -> None:
    batches = EndedBatches()
    batches.take(reading(batch(1)))
    late, old = batch(2, age=10 * MINUTE, ended=True), batch(3, age=30 * MINUTE, ended=True)
    assert batches.take(reading(batch(1), late, old)) == [late]


def test_node_whose_clock_is_ahead_hides_no_later_batch() -> None:
    batches = EndedBatches()
    batches.take(reading(batch(1, age=timedelta(days=-400))))
    assert batches.back_to(NOW) == NOW - WINDOW
    assert ids(batches.take(reading(batch(2, ended=True)))) == ["msgbatch_2"]


def test_empty_answer_at_first_makes_no_event_for_what_ended_long_ago() -> None:
    batches = EndedBatches()
    batches.take(reading())
    old, new = batch(1, age=timedelta(days=3), ended=True), batch(2, ended=True)
    assert batches.take(reading(old, new)) == [new]


def test_process_takes_over_what_another_has_finished() -> None:
    old = batch(1, age=timedelta(hours=3), ended=True)
    batches = EndedBatches(since=NOW - timedelta(days=1))
    batches.take(reading(old))
    other = restarted(batches)
    other.take(reading(old, batch(2)))
    other.finish(old)
    batches.add_finished(other.record())
    assert batches.is_finished(old)
    assert batches.open_ids == ()
    batches.add_finished(EventRecord())
    assert batches.is_finished(old)


def test_firing_batches_may_have_been_fired_by_an_earlier_process() -> None:
    batches = EndedBatches(since=NOW - timedelta(hours=1))
    batches.take(reading(batch(1, ended=True), batch(2, ended=True)))
    batches.begin_firing(["msgbatch_1"])
    assert not batches.may_be_repeated("msgbatch_1")
    again = restarted(batches)
    assert [again.may_be_repeated(f"msgbatch_{number}") for number in (1, 2)] == [True, False]
    again.finish(batch(1, ended=True))
    assert again.record().firing == ()


@given(
    st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 300), st.booleans()), max_size=25, unique_by=lambda each: each[0]
    ),
    st.lists(st.integers(0, 700), max_size=12).map(sorted),
)
def test_every_batch_is_taken_once_however_readings_and_restarts_fall(
    plan: list[tuple[int, int, bool]], readings: list[int]
) -> None:
    """Each batch is (minute of its creation, minutes until its end, whether it is listed ten minutes late)."""
    start = NOW - timedelta(days=1)
    batches, taken = EndedBatches(since=start), list[str]()
    for minute in [*readings, 1000]:
        listed = [
            MessageBatch(
                id=f"msgbatch_{created}",
                processing_status="ended" if created + seconds <= minute else "in_progress",
                request_counts=RequestCounts(),
                created_at=start + created * MINUTE,
            )
            for created, seconds, is_late in plan
            if created + (10 if is_late else 0) <= minute
        ]
        back_to = batches.back_to(NOW)
        seen = [each for each in listed if back_to is None or each.created_at >= back_to or each.id in batches.open_ids]
        for each in batches.take(reading(*seen, now=start + minute * MINUTE)):
            taken.append(each.id)
            batches.finish(each)
        batches = EndedBatches(decode(encode(batches.record())), since=start)
    assert sorted(taken) == sorted(f"msgbatch_{created}" for created, _, _ in plan)


# ------------------------------------------------------------------ rounds of calls


def drive(
    batches: list[MessageBatch], back_to: datetime | None, wanted: tuple[str, ...] = (), page_size: int = 30
) -> tuple[Reading, list[Call]]:
    """Answer a round's calls from batches in the order of the listing."""
    round_, made = listing_round(back_to, wanted, now=NOW), list[Call]()

    def answer(call: Call) -> Response:
        made.append(call)
        if not isinstance(call, ListPage):
            found = [each for each in batches if each.id == call.batch_id]
            return found[0] if found else PermissionDeniedError("no", status_code=403)
        at = [each.id for each in batches].index(call.after_id) + 1 if call.after_id else 0
        data = batches[at : at + page_size]
        return BatchPage(data=data, has_more=at + page_size < len(batches), server_time=NOW)

    calls = next(round_)
    try:
        while True:
            calls = round_.send([answer(call) for call in calls])
    except StopIteration as stop:
        return stop.value, made


def test_quiet_workspace_costs_one_call() -> None:
    old = [batch(number, age=timedelta(hours=number), ended=True) for number in range(1, 31)]
    found, made = drive([batch(0), *old, batch(99, age=timedelta(days=9))], NOW - WINDOW, ("msgbatch_3",))
    assert len(made) == 1
    assert found.error is None
    assert found.calls == 1
    assert {"msgbatch_0", "msgbatch_3"} <= found.batches.keys()


def test_unsorted_listing_is_read_beyond_a_few_old_batches() -> None:
    ages = [1, 3, 200, 2, 201, 202, 203, 4, *range(300, 330), 5, *range(400, 440)]
    listed = [batch(age, age=age * MINUTE) for age in ages]
    found, made = drive(listed, NOW - WINDOW, page_size=5)
    assert {f"msgbatch_{age}" for age in (1, 2, 3, 4)} <= found.batches.keys()
    assert len(found.batches) == 30
    assert len(made) == 6


def test_older_wanted_batches_are_retrieved() -> None:
    listed = [batch(number, age=number * timedelta(hours=1)) for number in range(100)]
    found, made = drive(listed, NOW - WINDOW, ("msgbatch_90", "msgbatch_gone"))
    assert "msgbatch_90" in found.batches
    assert len(made) == 3
    assert not found.covers(NOW - timedelta(days=3), ())
    assert found.covers(NOW - MINUTE, ("msgbatch_90",))
    assert not found.covers(NOW - MINUTE, ("msgbatch_91",))


def test_many_older_wanted_batches_are_looked_for_in_the_listing() -> None:
    listed = [batch(number, age=number * timedelta(hours=1)) for number in range(200)]
    found, made = drive(listed, NOW - WINDOW, tuple(f"msgbatch_{number}" for number in range(50, 150)))
    assert {f"msgbatch_{number}" for number in range(50, 150)} <= found.batches.keys()
    assert len(made) < 15


def test_whole_listing_is_read_if_no_batch_is_known() -> None:
    listed = [batch(number, age=number * timedelta(hours=1)) for number in range(100)]
    assert len(drive(listed, None)[0].batches) == 100


@pytest.mark.parametrize("data", [[batch(1)], []], ids=["the same page", "an empty page"])
def test_listing_without_an_end_is_an_error(data: list[MessageBatch]) -> None:
    round_ = listing_round(NOW - WINDOW, (), now=NOW)
    next(round_)

    def answer_thrice() -> None:
        for _ in range(3):
            round_.send([BatchPage(data=data, has_more=True)])

    with pytest.raises(StopIteration) as stop:
        answer_thrice()
    assert isinstance(stop.value.value.error, MalformedResponseError)


def test_failed_call_fails_the_round() -> None:
    round_ = listing_round(NOW - WINDOW, ("msgbatch_1",), now=NOW)
    next(round_)
    with pytest.raises(StopIteration) as stop:
        round_.send([APIConnectionError("no response")])
    assert isinstance(stop.value.value.error, APIConnectionError)
