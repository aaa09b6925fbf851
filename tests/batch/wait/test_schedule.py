from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.wait import schedule
from airflow_claude_batch.batch.wait.schedule import PollErrorKind
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    BillingError,
    ConfigurationError,
    MalformedResponseError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)
ages = st.floats(0, 48 * 3600)
poll_intervals = st.floats(0.1, 7200)


@given(ages, ages, poll_intervals)
def test_an_older_batch_is_never_polled_more_often(one, other, poll_interval):
    younger, older = sorted((one, other))
    assert schedule.interval(younger, poll_interval=poll_interval) <= schedule.interval(
        older, poll_interval=poll_interval
    )


@given(ages, poll_intervals)
def test_the_interval_is_never_above_poll_interval_nor_below_a_second(age, poll_interval):
    interval = schedule.interval(age, poll_interval=poll_interval)
    assert 1.0 <= interval <= max(1.0, poll_interval)


@pytest.mark.parametrize(
    ("age", "poll_interval", "expected"),
    [
        pytest.param(0, 60, 10, id="young: the API's own hint"),
        pytest.param(120, 60, 10, id="two minutes: still 10 s"),
        pytest.param(360, 60, 30, id="six minutes: a twelfth of the age"),
        pytest.param(86_400, 60, 60, id="old: poll_interval"),
        pytest.param(86_400, 3600, 3600, id="old, with a long poll_interval"),
        pytest.param(0, 2, 2, id="a shorter poll_interval wins"),
        pytest.param(0, 0, 1, id="but not below a second"),
    ],
)
def test_the_interval_grows_with_age(age, poll_interval, expected):
    assert schedule.interval(age, poll_interval=poll_interval) == expected


@given(st.integers(1, 1000), poll_intervals)
def test_backoff_grows_up_to_poll_interval(failures, poll_interval):
    wait, next_wait = (
        schedule.backoff(n, retry_after=None, poll_interval=poll_interval) for n in (failures, failures + 1)
    )
    assert 5.0 <= wait <= next_wait <= max(10.0, poll_interval)


@given(st.integers(1, 50), st.floats(0, 900), poll_intervals)
def test_backoff_is_at_least_retry_after(failures, retry_after, poll_interval):
    assert schedule.backoff(failures, retry_after=retry_after, poll_interval=poll_interval) >= retry_after


def test_a_retry_after_of_a_month_is_cut_to_fifteen_minutes():
    assert schedule.backoff(1, retry_after=2_592_000.0, poll_interval=60) == 900


@given(st.integers(0, 10_000), st.integers(1, 100_000))
def test_polling_takes_at_most_a_tenth_of_the_rate_limit(calls, limit):
    seconds = schedule.rate_limit_interval(calls, calls_per_minute=limit)
    assert calls <= seconds / 60 * limit / 10 + 1e-6


def test_an_unknown_rate_limit_defaults_to_the_smallest_documented():
    assert schedule.rate_limit_interval(100, calls_per_minute=None) == 60.0


@given(st.floats(0, 1000), st.floats(0, 1))
def test_jitter_only_shortens_and_by_a_tenth_at_most(seconds, jitter):
    assert 0.9 * seconds - 1e-9 <= schedule.with_jitter(seconds, jitter=jitter) <= seconds


def status_error(kind, status_code, error_type):
    return kind("no", status_code=status_code, error_type=error_type)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (APIConnectionError("no"), PollErrorKind.OUTAGE),
        (MalformedResponseError("no"), PollErrorKind.OUTAGE),
        (status_error(RateLimitError, 429, "rate_limit_error"), PollErrorKind.OUTAGE),
        (status_error(ServerError, 500, "api_error"), PollErrorKind.OUTAGE),
        (status_error(ServerError, 502, None), PollErrorKind.OUTAGE),
        (status_error(OverloadedError, 529, "overloaded_error"), PollErrorKind.OUTAGE),
        (status_error(BillingError, 402, "billing_error"), PollErrorKind.OUTAGE),
        (status_error(NotFoundError, 404, None), PollErrorKind.OUTAGE),
        (status_error(PermissionDeniedError, 403, None), PollErrorKind.OUTAGE),
        (status_error(BadRequestError, 400, None), PollErrorKind.OUTAGE),
        (status_error(NotFoundError, 404, "not_found_error"), PollErrorKind.DENIED),
        (status_error(BadRequestError, 400, "invalid_request_error"), PollErrorKind.DENIED),
        (status_error(AuthenticationError, 401, "authentication_error"), PollErrorKind.UNAUTHORIZED),
        (status_error(AuthenticationError, 401, None), PollErrorKind.OUTAGE),
        (status_error(NotFoundError, 404, "permission_error"), PollErrorKind.OUTAGE),
        (status_error(PermissionDeniedError, 403, "not_found_error"), PollErrorKind.OUTAGE),
        (status_error(PermissionDeniedError, 403, "permission_error"), PollErrorKind.UNAUTHORIZED),
        (ConfigurationError("no"), PollErrorKind.UNAUTHORIZED),
    ],
    ids=lambda value: value.name if isinstance(value, PollErrorKind) else f"{type(value).__name__}-{vars(value)}"[:70],
)
def test_errors_of_polls_are_classified(error, expected):
    assert schedule.classify_error(error) is expected


@pytest.mark.parametrize(
    ("polls", "seconds", "confirmed"),
    [(1, 0, False), (2, 86_400, False), (1000, 599, False), (3, 600, True), (60, 3600, True)],
)
def test_a_404_is_confirmed_after_ten_minutes_and_three_polls(polls, seconds, confirmed):
    assert schedule.is_not_found_confirmed(polls, seconds) is confirmed


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (status_error(NotFoundError, 404, "not_found_error"), ("msgbatch_1",)),
        (status_error(NotFoundError, 404, "invalid_grant"), ()),
        (status_error(BadRequestError, 400, "not_found_error"), ()),
    ],
    ids=["the API's 404", "a proxy's 404", "a 400"],
)
def test_only_the_apis_own_404_makes_a_batch_lost(error, lost):
    assert schedule.not_found_ids({"msgbatch_1": error}) == lost


@pytest.mark.parametrize(
    ("until", "due"),
    [(None, False), (NOW, True), (NOW - timedelta(days=1), True), (NOW + timedelta(seconds=1), False)],
)
def test_a_wait_is_due_at_its_deadline(until, due):
    assert schedule.is_due(until, NOW) is due


def test_a_batch_from_the_future_has_age_zero():
    assert schedule.batch_age(NOW + timedelta(hours=1), NOW) == timedelta(0)
    assert schedule.batch_age(None, NOW) == timedelta(0)
    assert schedule.batch_age(NOW - timedelta(hours=1), NOW) == timedelta(hours=1)
