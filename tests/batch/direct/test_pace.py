"""When the next direct request may start: rules that hold whatever the API answers, and single cases."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.api.rate_limits import RateLimit, RateLimits
from airflow_claude_batch.batch.direct.pace import Pace
from airflow_claude_batch.batch.direct.request import Demand

MODEL = "claude-haiku-5-5"
SMALL = Demand(MODEL, 10, 100)
#: Seconds by which a request starts later than the limits allow, so that it never comes too early.
MARGIN = 0.2


def reported(requests=None, left=None, *, output=None, output_left=None, reset=None):
    return RateLimits(
        requests=RateLimit(limit=requests, remaining=left, reset_seconds=reset),
        output_tokens=RateLimit(limit=output, remaining=output_left),
    )


def answer(pace, sent, limits, now):
    pace.answered(sent, limits, now, input_tokens=10, output_tokens=10)


def warmed_up(limits, **options):
    """A pace that has one answer, with these limits, at the time 0."""
    pace = Pace(**({"concurrency": 8, "start_until": 1000.0} | options))
    answer(pace, pace.sent(SMALL, 0.0), limits, 0.0)
    return pace


def test_the_first_request_starts_alone_and_at_once():
    pace = Pace(concurrency=8, start_until=100.0)
    assert pace.seconds_until_start(SMALL, 0.0) == 0.0
    pace.sent(SMALL, 0.0)
    assert pace.seconds_until_start(SMALL, 0.0) == math.inf


def test_with_limits_reported_all_start():
    pace = warmed_up(reported(100, 99))
    for _ in range(8):
        assert pace.seconds_until_start(SMALL, 1.0) == 0.0
        pace.sent(SMALL, 1.0)
    assert pace.seconds_until_start(SMALL, 1.0) == math.inf


def test_what_is_left_is_not_passed():
    pace = warmed_up(reported(60, 2))
    for _ in range(2):
        assert pace.seconds_until_start(SMALL, 0.0) <= MARGIN
        pace.sent(SMALL, 0.0)
    assert pace.seconds_until_start(SMALL, 0.0) == pytest.approx(1.0 + MARGIN)  # 60 per minute: one per second


def test_max_tokens_count_as_a_whole_until_the_answer():
    pace = warmed_up(reported(output=1000, output_left=520))
    big = Demand(MODEL, 10, 500)
    assert pace.seconds_until_start(big, 0.0) == 0.0
    sent = pace.sent(big, 0.0)
    assert pace.seconds_until_start(big, 0.0) == pytest.approx(480 * 60 / 1000 + MARGIN)
    answer(pace, sent, RateLimits(), 0.0)
    assert pace.seconds_until_start(big, 0.0) == 0.0  # only 10 of them were used


def test_a_report_that_lacks_a_request_in_flight_is_not_believed():
    """Requests that are sent together may come in another order."""
    pace = warmed_up(reported(output=6000, output_left=6000))
    pace.sent(Demand(MODEL, 10, 1000), 0.0)
    second = pace.sent(Demand(MODEL, 10, 1000), 0.0)
    answer(pace, second, reported(output=6000, output_left=5000), 0.0)  # came first: 5000 are left beside its own
    assert pace.seconds_until_start(Demand(MODEL, 10, 5100), 0.0) > 0


def test_a_refusal_says_how_much_is_left():
    pace = warmed_up(reported(60, 50))
    pace.held_back(pace.sent(SMALL, 0.0), reported(60, 0), 0.0, retry_after=0.5, is_overload=False)
    assert pace.seconds_until_start(SMALL, 0.5) == pytest.approx(0.5 + MARGIN)  # half a one has come back


def test_a_request_above_the_whole_limit_waits_for_all_of_it():
    pace = warmed_up(reported(output=1000, output_left=400))
    assert pace.seconds_until_start(Demand(MODEL, 10, 50_000), 0.0) == pytest.approx(36.0)


def test_each_model_has_its_own_limits():
    pace = warmed_up(reported(60, 0))
    assert pace.seconds_until_start(SMALL, 0.0) > 0
    assert pace.seconds_until_start(Demand("claude-opus-5-5", 10, 100), 0.0) == 0.0


def test_a_limit_that_takes_an_hour_to_fill_is_believed():
    pace = warmed_up(reported(600, 0, reset=3600.0), start_until=10_000.0)
    assert pace.seconds_until_start(SMALL, 0.0) == pytest.approx(6.0 + MARGIN)


def test_retry_after_holds_all_models():
    pace = warmed_up(reported(100, 99))
    sent = pace.sent(SMALL, 1.0)
    pace.held_back(sent, RateLimits(), 2.0, retry_after=20.0, is_overload=False)
    assert pace.seconds_until_start(Demand("claude-opus-5-5", 10, 100), 2.0) == pytest.approx(20.0)
    assert pace.in_flight == 0


def test_requests_that_fail_together_count_once():
    pace = warmed_up(reported(100, 99))
    sent = [pace.sent(SMALL, 1.0) for _ in range(8)]
    for each in sent:
        pace.held_back(each, RateLimits(), 2.0, retry_after=None, is_overload=True)
    assert pace.seconds_until_start(SMALL, 2.0) == pytest.approx(1.0)
    for _ in range(4):
        assert pace.seconds_until_start(SMALL, 3.5) == 0.0
        pace.sent(SMALL, 3.5)
    assert pace.seconds_until_start(SMALL, 3.5) == math.inf  # half of the concurrency


@pytest.mark.parametrize("failures", [1, 2, 5, 50])
def test_pauses_double_up_to_half_a_minute(failures):
    pace, now = Pace(concurrency=8, start_until=1e9), 0.0
    for _ in range(failures):
        pace.lost(pace.sent(SMALL, now), now + 0.1)
        now += 0.2
    pause = pace.seconds_until_start(SMALL, now - 0.1)
    assert pause == pytest.approx(min(2.0 ** (failures - 1), 30.0), abs=0.01)


def test_what_cannot_start_in_time_never_starts():
    pace = warmed_up(reported(60, 0), start_until=0.5)
    assert pace.seconds_until_start(SMALL, 0.0) is None
    assert pace.seconds_until_start(SMALL, 0.5) is None


LIMITS = st.builds(
    RateLimit,
    limit=st.none() | st.integers(1, 100_000),
    remaining=st.none() | st.integers(0, 100_000),
    reset_seconds=st.none() | st.floats(0, 86_400),
)
REPORTS = st.builds(RateLimits, requests=LIMITS, input_tokens=LIMITS, output_tokens=LIMITS)
DEMANDS = st.builds(
    Demand, st.sampled_from([MODEL, "claude-opus-5-5"]), st.integers(1, 1_000_000), st.integers(1, 128_000)
)
EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "start", "answer", "refuse", "hold", "overload", "lose"]),
        st.floats(0, 100),
        DEMANDS,
        REPORTS,
        st.none() | st.floats(0, 1e7),
        st.integers(0, 2**53),
    ),
    max_size=60,
)


def test_a_limit_that_is_more_than_full_fills_as_usual() -> None:
    pace, demand = Pace(concurrency=1, start_until=math.inf), Demand(MODEL, 1, 1)
    for now in (0.0, 1.0):
        report = RateLimits(output_tokens=RateLimit(limit=60, remaining=61, reset_seconds=0.0))
        pace.answered(pace.sent(demand, now), report, now, input_tokens=1, output_tokens=1)
    assert pace.seconds_until_start(demand, 2.0) == 0.0


@settings(deadline=None)
@given(EVENTS, st.integers(1, 64), st.floats(1, 2000))
def test_whatever_happens_the_rules_hold(events, concurrency, start_until):
    pace, now, in_flight, held_until = Pace(concurrency=concurrency, start_until=start_until), 0.0, [], -1.0
    for kind, passed, demand, limits, retry_after, tokens in events:
        now += passed
        seconds = pace.seconds_until_start(demand, now)
        assert seconds is None or seconds >= 0
        if not in_flight:
            # Nothing else would ever wake it up, and after the wait it starts.
            assert seconds != math.inf
            if seconds is not None:
                assert pace.seconds_until_start(demand, now + seconds * (1 + 1e-9) + 1e-6) in (0.0, None)
        if kind == "start" and seconds == 0:
            assert len(in_flight) < concurrency
            assert now < start_until
            assert now >= held_until
            in_flight.append(pace.sent(demand, now))
        elif kind != "start" and in_flight:
            sent = in_flight.pop(0)
            match kind:
                case "answer":
                    pace.answered(sent, limits, now, input_tokens=tokens, output_tokens=tokens)
                case "refuse":
                    pace.refused(sent, limits, now)
                case "lose":
                    pace.lost(sent, now)
                case _:
                    pace.held_back(sent, limits, now, retry_after=retry_after, is_overload=kind == "overload")
                    held_until = max(held_until, now + (retry_after or 0))
        assert pace.in_flight == len(in_flight)
