"""Times are shown in UTC, with their distance from now in the nearest number of a unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_claude_batch._airflow.times import time_in_words

MOMENT = timedelta(milliseconds=500)  # so that the time that the test takes does not change what is rounded


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        pytest.param(timedelta(seconds=90), "in 90 seconds", id="seconds"),
        pytest.param(timedelta(minutes=2), "in 2 minutes", id="minutes from two of them"),
        pytest.param(timedelta(minutes=90), "in 90 minutes", id="minutes"),
        pytest.param(timedelta(hours=24) - timedelta(seconds=1), "in 24 hours", id="a new batch expires"),
        pytest.param(timedelta(hours=25), "in 25 hours", id="hours below 48"),
        pytest.param(timedelta(hours=48), "in 2 days", id="days from 48 hours"),
        pytest.param(timedelta(days=29), "in 29 days", id="days"),
        pytest.param(timedelta(days=365_000), "in 1,000 years", id="years"),
        pytest.param(timedelta(hours=-3), "3 hours ago", id="past"),
    ],
)
def test_distance_is_rounded_to_the_nearest_unit(distance: timedelta, words: str) -> None:
    assert time_in_words(datetime.now(UTC) + distance + MOMENT).endswith(f" UTC ({words})")


def test_time_is_shown_in_utc_without_fractions_of_a_second() -> None:
    time = datetime(2999, 1, 1, 1, 0, 0, 717_777, tzinfo=timezone(timedelta(hours=1)))

    assert time_in_words(time).startswith("2999-01-01 00:00:00 UTC (in ")


def test_time_at_the_end_of_the_calendar_is_shown_as_it_is() -> None:
    time = datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))

    assert time_in_words(time) == time.isoformat()
