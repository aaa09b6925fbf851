from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.evidence import (
    Effect,
    ErrorResponse,
    InvalidResponse,
    NoResponse,
    Stage,
    may_resend,
)
from airflow_claude_batch.api.headers import http_date, retry_after_seconds
from airflow_claude_batch.api.retry import LONGEST_PAUSE_SECONDS, LONGEST_RETRY_AFTER_SECONDS, GiveUp, Retry, decide

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def rule(failure, *, effect=Effect.READ_ONLY, attempt=1, max_retries=4, dice=0.0):
    return decide(failure, effect=effect, attempt=attempt, max_retries=max_retries, rng=lambda: dice)


# The table of time: what is worth another try, for a call that may be repeated.
@pytest.mark.parametrize(
    ("failure", "again"),
    [
        pytest.param(NoResponse(Stage.CONNECTING), True, id="connecting"),
        pytest.param(NoResponse(Stage.UNTRUSTED), False, id="untrusted"),
        pytest.param(NoResponse(Stage.SENDING), True, id="sending"),
        pytest.param(NoResponse(Stage.WAITING), True, id="waiting"),
        pytest.param(InvalidResponse(), True, id="garbled"),
        *[
            pytest.param(ErrorResponse(status), True, id=str(status))
            for status in (408, 409, 429, 500, 502, 503, 504, 524, 529)
        ],
        *[
            pytest.param(ErrorResponse(status), False, id=str(status))
            for status in (302, 400, 401, 402, 403, 404, 413, 422)
        ],
        pytest.param(ErrorResponse(400, "request_body_timeout"), True, id="slow upload"),
        pytest.param(
            ErrorResponse(400, "request_body_timeout", should_retry=False), True, id="slow upload, whatever is said"
        ),
        pytest.param(ErrorResponse(429, "enforced_spend_limit_reached"), False, id="tier's spend limit"),
        pytest.param(ErrorResponse(429, "contract_spend_limit_reached"), False, id="contract's spend limit"),
        pytest.param(
            ErrorResponse(429, "enforced_spend_limit_reached", 1.0, True), False, id="spend limit, whatever is said"
        ),
        pytest.param(ErrorResponse(402, "linked_organization_spend_limit_reached"), False, id="402"),
        pytest.param(ErrorResponse(429, "ramp_limit_exceeded", 3.0), True, id="ramp"),
        pytest.param(ErrorResponse(429, "a_code_of_tomorrow"), True, id="unknown code"),
        pytest.param(ErrorResponse(503, should_retry=False), False, id="503, should_retry false"),
        pytest.param(ErrorResponse(400, should_retry=True), True, id="400, should_retry true"),
    ],
)
def test_call_is_retried_only_if_that_may_help(failure, again):
    assert isinstance(rule(failure), Retry if again else GiveUp)


def test_a_create_that_the_api_refused_for_overload_is_sent_again():
    overloaded = ErrorResponse(529, error_type="overloaded_error")
    limited = ErrorResponse(429, retry_after_seconds=2.0, error_type="rate_limit_error")

    assert isinstance(rule(overloaded, effect=Effect.NOT_IDEMPOTENT), Retry)
    assert isinstance(rule(limited, effect=Effect.NOT_IDEMPOTENT), Retry)


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(NoResponse(Stage.WAITING), id="no response"),
        pytest.param(InvalidResponse(), id="200 that is not the API's"),
        pytest.param(ErrorResponse(429, retry_after_seconds=2.0), id="429 of a gateway"),
        pytest.param(ErrorResponse(529), id="529 of a gateway"),
        pytest.param(ErrorResponse(500, should_retry=True, error_type="api_error"), id="500 that asks for a retry"),
    ],
)
def test_a_create_that_may_have_been_accepted_is_not_sent_again(failure):
    assert isinstance(rule(failure, effect=Effect.NOT_IDEMPOTENT), GiveUp)


@pytest.mark.parametrize(("attempt", "again"), [(1, True), (4, True), (5, False), (6, False)])
def test_retries_are_limited(attempt, again):
    assert isinstance(rule(ErrorResponse(529), attempt=attempt, max_retries=4), Retry if again else GiveUp)


def test_without_retries_there_are_none():
    assert rule(ErrorResponse(529), max_retries=0) == GiveUp("failed 1 times")


@pytest.mark.parametrize(
    ("attempt", "dice", "seconds"),
    [(1, 0.0, 0.5), (2, 0.0, 1.0), (3, 0.0, 2.0), (3, 0.999, 1.001), (9, 0.0, LONGEST_PAUSE_SECONDS)],
)
def test_pauses_double_and_have_jitter(attempt, dice, seconds):
    assert rule(ErrorResponse(500), attempt=attempt, max_retries=99, dice=dice).after_seconds == pytest.approx(seconds)


def test_long_retry_after_gives_up():
    decision = rule(ErrorResponse(429, retry_after_seconds=LONGEST_RETRY_AFTER_SECONDS + 1))

    assert decision == GiveUp("the server asks to wait 301 s")


@pytest.mark.parametrize(
    ("asked", "attempt", "dice", "seconds"),
    [
        (100.0, 1, 0.0, 100.5),
        (100.0, 3, 0.5, 101.5),
        (10.0, 6, 0.0, 11.0),
        (LONGEST_RETRY_AFTER_SECONDS, 1, 0.0, 300.5),
    ],
)
def test_pause_is_at_least_retry_after_with_little_jitter(asked, attempt, dice, seconds):
    failure = ErrorResponse(429, retry_after_seconds=asked)

    assert rule(failure, attempt=attempt, max_retries=9, dice=dice) == Retry(pytest.approx(seconds))


def test_retry_after_of_zero_still_pauses():
    assert rule(ErrorResponse(429, retry_after_seconds=0.0)).after_seconds == 0.5


failures = st.one_of(
    st.builds(NoResponse, st.sampled_from(Stage)),
    st.builds(InvalidResponse),
    st.builds(
        ErrorResponse,
        status_code=st.integers(min_value=100, max_value=999),
        error_code=st.sampled_from(
            [None, "request_body_timeout", "enforced_spend_limit_reached", "ramp_limit_exceeded"]
        ),
        retry_after_seconds=st.none() | st.floats(min_value=0, max_value=1e12),
        should_retry=st.none() | st.booleans(),
        error_type=st.sampled_from([None, "api_error", "overloaded_error", "rate_limit_error", "not_found_error"]),
    ),
)


@given(
    failure=failures,
    effect=st.sampled_from(Effect),
    attempt=st.integers(min_value=1, max_value=10_000),
    max_retries=st.integers(min_value=0, max_value=10_000),
    dice=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_decision_for_any_failure_obeys_the_rules(failure, effect, attempt, max_retries, dice):
    decision = rule(failure, effect=effect, attempt=attempt, max_retries=max_retries, dice=dice)

    if isinstance(decision, GiveUp):
        assert decision.reason
        return
    assert may_resend(failure, effect)
    assert attempt <= max_retries
    asked = getattr(failure, "retry_after_seconds", None) or 0.0
    assert asked <= decision.after_seconds <= max(asked * 1.1, LONGEST_PAUSE_SECONDS)
    assert decision.after_seconds > 0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "10"}, 10.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "10"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "10"}, 10.0),
        ({"retry-after": "Sun, 22 Nov 2026 09:01:30 GMT"}, 90.0),
        ({"retry-after": "Sun, 22 Nov 2026 08:59:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "1e300"}, None),
        ({"retry-after-ms": "1e300"}, None),
        ({"retry-after": "Fri, 31 Dec 2999 23:59:59 GMT"}, 366 * 86_400.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
    ],
    ids=str,
)
def test_retry_after_is_read_in_every_form(headers, seconds):
    assert retry_after_seconds(headers, now=NOW) == seconds


def test_retry_after_date_is_ignored_without_the_servers_clock():
    assert retry_after_seconds({"retry-after": "Sun, 22 Nov 2026 09:01:30 GMT"}, now=None) is None
    assert retry_after_seconds({"retry-after": "7"}, now=None) == 7.0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Sun, 22 Nov 2026 09:00:00 GMT", NOW),
        ("Sun, 22 Nov 2026 10:00:00 +0100", NOW),
        ("Sun, 22 Nov 2026 09:00:00 -0000", NOW),
        ("2026-11-22T09:00:00Z", None),
        ("Sun, 99 Nov 2026 09:00:00 GMT", None),
        ("Sun, 22 Nov 99999999999999999999 09:00:00 GMT", None),
        ("Sun, 22 Nov 2026 09:00:00 +9999999999", None),
        ("Mon, 01 Jan 1901 00:00:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_dates_of_headers_are_aware(text, at):
    assert http_date(text) == at


@given(st.text())
def test_no_text_in_a_date_header_is_an_error(text):
    at = http_date(text)

    assert at is None or at.tzinfo
