"""Asking requests directly: as fast as the limits allow, and never beyond a deadline, a budget or a stop."""

from __future__ import annotations

import itertools
import threading
from decimal import Decimal

import pytest
from batch.direct.virtual import VirtualWorld, direct_request

from airflow_claude_batch.api.evidence import Proof
from airflow_claude_batch.api.message_response import MessageResponse
from airflow_claude_batch.batch.direct.pace import Pace
from airflow_claude_batch.batch.direct.report import NotAsked
from airflow_claude_batch.exceptions import APIError, BillingError, RateLimitError
from airflow_claude_batch.simulator import Fault


def requests(count, **options):
    return [direct_request(index, **options) for index in range(count)]


def endless(**options):
    return (direct_request(index, **options) for index in itertools.count())


def test_every_request_is_asked_once_and_answered():
    world = VirtualWorld()
    report = world.send(requests(50))
    assert (report.answered, report.stopped, report.not_asked) == (50, None, {})
    assert sorted(world.before) == sorted(world.answered) == list(range(50))
    assert world.billed == 50


@pytest.mark.parametrize("concurrency", [1, 3, 8])
def test_so_many_are_in_flight_and_no_more(concurrency):
    world = VirtualWorld()
    world.send(requests(40), concurrency=concurrency)
    assert world.most_in_flight == concurrency


# Of each case: the most requests that the limits allow in a time, without waiting for any answer.
@pytest.mark.parametrize("latency", [0.2, 2.0, 10.0])
@pytest.mark.parametrize(
    ("rates", "per_minute", "burst", "options"),
    [
        pytest.param({"requests": 60}, 60, 60, {}, id="requests"),
        pytest.param({"input_tokens": 3_000}, 60, 60, {"prompt": "x" * 200}, id="input"),  # 50 tokens each
        pytest.param(
            {"output_tokens": 3_000}, 273, 250, {"max_tokens": 100, "prompt": "x" * 20}, id="output"
        ),  # 11 each
    ],
)
def test_most_of_what_the_limits_allow_is_used(rates, per_minute, burst, options, latency):
    world = VirtualWorld(rates=rates, seconds=latency)
    seconds, concurrency = 300.0, 32
    report = world.send(endless(**options), concurrency=concurrency, start_until=seconds)
    by_limit = burst + per_minute * seconds / 60
    by_concurrency = concurrency * seconds / latency
    assert report.stopped is NotAsked.TOO_LATE
    assert report.answered >= 0.8 * min(by_limit, by_concurrency)
    assert world.statuses.count(429) <= 0.02 * len(world.statuses)


def test_reservations_of_long_answers_limit_what_is_in_flight():
    """The API reserves all of max_tokens: two of 1,500 fill a limit of 3,000 until they are answered."""
    world = VirtualWorld(rates={"output_tokens": 3_000}, seconds=2.0)
    report = world.send(endless(max_tokens=1_500), start_until=120.0)
    assert report.answered >= 0.8 * 120
    assert world.statuses.count(429) <= 3


def test_others_use_half_of_the_limit():
    world = VirtualWorld(rates={"requests": 120}, seconds=0.5)
    send = world.create_message

    def with_another_client(params, *, seconds):
        response = send(params, seconds=seconds)
        if response.proof is Proof.ACCEPTED:
            send(params.replace(b"question", b"other"), seconds=seconds)
        return response

    world.create_message = with_another_client
    report = world.send(endless(), start_until=300.0)
    assert report.answered >= 0.8 * (60 + 60 * 5)
    assert report.held_back <= 0.1 * report.answered


def test_without_headers_refusals_slow_it_down_and_answers_speed_it_up():
    world = VirtualWorld(rates={"requests": 120}, seconds=0.5, headers=False)
    report = world.send(endless(), start_until=300.0)
    assert report.answered >= 0.7 * (120 + 120 * 5)
    assert report.held_back <= 0.1 * report.answered


def test_a_429_lets_all_wait_as_long_as_it_asks():
    world = VirtualWorld(seconds=1.0)
    world.simulator.inject(Fault(do="status", on="message", status=429, retry_after=40, skip=4))
    report = world.send(requests(20), concurrency=2)
    assert (report.answered, report.held_back) == (20, 1)
    pauses = [later - earlier for earlier, later in itertools.pairwise(world.sent_at)]
    assert 40 <= max(pauses) <= 42
    assert len(world.before) == 20


def test_a_retry_after_beyond_the_deadline_ends_it_at_once():
    world = VirtualWorld()
    world.simulator.inject(Fault(do="status", on="message", status=429, retry_after=86_400, times=None))
    report = world.send(requests(20))
    assert (report.answered, report.stopped) == (0, NotAsked.TOO_LATE)
    assert world.clock() < 10


def test_an_overload_is_waited_out_with_growing_pauses():
    world = VirtualWorld(seconds=0.5)
    world.simulator.inject(Fault(do="status", on="message", status=529, times=6))
    report = world.send(requests(20))
    assert (report.answered, report.held_back) == (20, 6)
    assert world.clock() > 30


def test_nothing_starts_at_the_deadline_or_later():
    world = VirtualWorld(rates={"requests": 6}, seconds=1.0)
    report = world.send(requests(100), start_until=61.0)
    assert max(world.sent_at) < 61
    assert report.stopped is NotAsked.TOO_LATE
    assert report.answered == len(world.answered) == world.billed >= 11


def test_a_call_is_given_the_time_that_is_left_for_answers():
    world = VirtualWorld()
    given = []
    send = world.create_message
    world.create_message = lambda params, *, seconds: given.append(seconds) or send(params, seconds=seconds)
    world.send(requests(1), answer_until=30.0)
    assert given == [30.0]


def test_no_request_starts_whose_answer_would_come_too_late():
    world = VirtualWorld(seconds=20.0)
    report = world.send(requests(1000), answer_until=110.0)
    assert report.stopped is NotAsked.TOO_LATE
    assert max(world.sent_at) < 90
    assert world.clock() < 110


@pytest.mark.parametrize(
    "fault",
    [
        Fault(do="drop_after_accept", on="message"),
        Fault(do="status_after_accept", on="message", status=500),
        Fault(do="page", on="message", status=502, accepted=True),
        Fault(do="malformed", on="message"),
    ],
    ids=lambda fault: fault.do,
)
def test_a_lost_response_is_told_and_not_asked_again(fault):
    world = VirtualWorld()
    world.simulator.inject(fault)
    report = world.send(requests(10))
    lost = [result for result in world.answered.values() if isinstance(result, APIError)]
    assert (report.answered, report.lost, len(lost)) == (9, 1, 1)
    assert lost[0].may_have_been_accepted
    assert world.billed == 10


def test_the_caller_may_have_a_lost_request_asked_again():
    world = VirtualWorld()
    world.simulator.inject(Fault(do="drop_after_accept", on="message"))
    report = world.send(requests(10), may_ask_again=lambda request, error: True)
    assert (report.answered, report.lost) == (10, 1)
    assert all(isinstance(result, MessageResponse) for result in world.answered.values())
    assert world.billed == 11
    assert len(world.before) == 10


def test_an_outage_does_not_burn_the_requests():
    world = VirtualWorld()
    world.simulator.inject(Fault(do="html", on="message", times=None))
    report = world.send(requests(1000), start_until=300.0)
    assert report.stopped is NotAsked.TOO_LATE
    assert report.lost < 20


def test_the_caller_gets_its_turn_and_goes_on_at_the_same_pace():
    world = VirtualWorld(rates={"requests": 60}, seconds=0.5)
    pace, source, answered = Pace(concurrency=8, start_until=0.0), requests(100), 0
    while source:
        report = world.send(source, pace=pace, hand_back_at=world.clock() + 10.0)
        assert report.stopped in (None, NotAsked.HANDED_BACK)
        answered += report.answered
        source = [request for request in source if request.index not in world.answered]
    assert answered == world.billed == 100
    assert world.clock() < 60
    assert world.statuses.count(429) <= 2


def test_a_pause_outlasts_the_turn_of_the_caller():
    world = VirtualWorld()
    world.simulator.inject(Fault(do="status", on="message", status=429, retry_after=25))
    pace, turns = Pace(concurrency=8, start_until=0.0), 0
    while not world.answered:
        report = world.send(requests(1), pace=pace, hand_back_at=world.clock() + 10.0)
        turns += 1
    assert (report.answered, turns) == (1, 3)
    assert world.sent_at[1] - world.sent_at[0] >= 25


def test_a_long_pause_is_handed_back():
    world = VirtualWorld()
    world.simulator.inject(Fault(do="status", on="message", status=429, retry_after=400))
    report = world.send(requests(20), patience_seconds=60.0)
    assert report.stopped is NotAsked.HANDED_BACK
    assert report.resume_in == pytest.approx(400, abs=1)
    assert isinstance(report.held_back_by, RateLimitError)
    assert world.clock() < 5
    assert set(report.not_asked.values()) == {NotAsked.HANDED_BACK}


def test_waiting_for_a_limit_to_fill_is_not_handed_back():
    world = VirtualWorld(rates={"output_tokens": 3_000})
    report = world.send(requests(3, max_tokens=3_000), patience_seconds=0.0)
    assert (report.answered, report.stopped) == (3, None)


def test_a_refused_request_ends_alone():
    world = VirtualWorld()
    report = world.send([direct_request(0), direct_request(1, max_tokens=0), direct_request(2)])
    assert (report.answered, report.refused) == (2, 1)
    assert world.answered[1].proof is Proof.REFUSED


def test_without_credit_nothing_more_is_asked():
    world = VirtualWorld()
    message = "Your credit balance is too low to access the Anthropic API."
    world.simulator.inject(
        Fault(do="status", on="message", status=400, type="invalid_request_error", message=message, skip=5, times=None)
    )
    report = world.send(requests(50), concurrency=2)
    assert report.stopped is NotAsked.REFUSED_TO_ALL
    assert isinstance(report.error, BillingError)
    assert report.answered == 5
    assert set(report.not_asked.values()) == {NotAsked.REFUSED_TO_ALL}
    assert len(world.statuses) <= 7


def test_a_stop_lets_what_is_in_flight_be_answered():
    world, stop = VirtualWorld(seconds=5.0), threading.Event()
    asked = itertools.count()

    def source():
        for request in requests(100):
            if next(asked) == 20:
                stop.set()
            yield request

    report = world.send(source(), stop=stop)
    assert report.stopped is NotAsked.STOPPED
    assert report.answered == len(world.answered) == world.billed < 30


def test_the_budget_is_never_passed():
    world = VirtualWorld()
    [one] = requests(1)
    room = one.bound * 3
    report = world.send(requests(100), room=room)
    assert 3 < report.answered < 100
    assert report.spent <= room
    assert set(report.not_asked.values()) == {NotAsked.TOO_COSTLY}
    assert len(report.not_asked) + report.answered == 100


def test_a_request_that_is_too_costly_does_not_stop_the_others():
    world = VirtualWorld()
    report = world.send([direct_request(0, max_tokens=100_000), *requests(5)[1:]], room=Decimal("0.001"))
    assert report.not_asked == {0: NotAsked.TOO_COSTLY}
    assert report.answered == 4


def test_without_a_price_nothing_fits_a_limit():
    world = VirtualWorld(models=["*"])
    report = world.send([direct_request(0, model="claude-unpriced-9")], room=Decimal(100))
    assert report.not_asked == {0: NotAsked.TOO_COSTLY}
    assert world.send([direct_request(0, model="claude-unpriced-9")]).answered == 1


@pytest.mark.parametrize("where", ["before", "answered"])
def test_a_failure_of_the_caller_ends_it_after_what_is_in_flight(where):
    world = VirtualWorld()
    kept = []

    def fail_at_10(name):
        def callback(request, *_):
            if name == where and request.index == 10:
                raise OSError("disk full")
            if name == "answered":
                kept.append(request.index)

        return callback

    with pytest.raises(OSError, match="disk full"):
        world.sender().send(requests(100), before=fail_at_10("before"), answered=fail_at_10("answered"))
    assert world.billed - len(kept) == (1 if where == "answered" else 0)
    assert world.billed < 30


def test_a_failure_of_the_source_ends_it_after_what_is_in_flight():
    world = VirtualWorld()

    def source():
        yield from requests(5)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        world.send(source())
    assert len(world.answered) == world.billed == 5
