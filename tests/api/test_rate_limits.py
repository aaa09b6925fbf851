"""The headers that report rate limits: what is read, and what is ignored."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.rate_limits import RateLimit, RateLimits, read_rate_limits

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def read(**headers):
    given = {f"anthropic-ratelimit-requests-{name}": value for name, value in headers.items()}
    return read_rate_limits(given, now=NOW).requests


def test_all_three_families_are_read():
    headers = {
        f"anthropic-ratelimit-{family}-{name}": value
        for family in ("requests", "input-tokens", "output-tokens")
        for name, value in (("limit", "50"), ("remaining", "7"), ("reset", "2026-11-22T09:00:52Z"))
    }
    limit = RateLimit(limit=50, remaining=7, reset_seconds=52.0)
    assert read_rate_limits(headers, now=NOW) == RateLimits(requests=limit, input_tokens=limit, output_tokens=limit)


def test_without_headers_nothing_is_known():
    assert read_rate_limits({}, now=NOW) == RateLimits()


@pytest.mark.parametrize("value", ["", "-1", "1.5", "1e9", "٣", "inf", "9" * 16, "0x10", "1_000"])
def test_a_number_that_is_none_is_ignored(value):
    assert read(limit=value, remaining=value) == RateLimit()


def test_a_limit_of_zero_is_ignored():
    assert read(limit="0").limit is None


def test_more_than_the_limit_is_not_left():
    assert read(limit="50", remaining="70").remaining == 50


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-22T09:01:00Z", 60.0),
        ("2026-11-22T10:01:00+01:00", 60.0),
        ("2026-11-22T08:00:00Z", 0.0),
        ("2026-11-22T09:01:00", None),
        ("2036-11-22T09:01:00Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("soon", None),
    ],
)
def test_the_reset_counts_from_the_response(value, seconds):
    assert read(reset=value).reset_seconds == seconds


def test_without_the_servers_time_the_reset_is_ignored():
    headers = {"anthropic-ratelimit-requests-reset": "2026-11-22T09:01:00Z"}
    assert read_rate_limits(headers, now=None).requests.reset_seconds is None


@given(st.dictionaries(st.sampled_from(["limit", "remaining", "reset"]), st.text()))
def test_no_value_raises(headers):
    found = read(**headers)
    assert found.limit is None or found.limit > 0
