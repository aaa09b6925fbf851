"""How long a lost create call is searched for, from the deployment's setting to the policy of a submission."""

from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_claude_batch._airflow import settings
from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE
from airflow_claude_batch.exceptions import ConfigurationError

OPTION = "AIRFLOW__CLAUDE_BATCH__LOST_CREATE_GRACE"
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("setting", "read_timeout", "grace"),
    [
        pytest.param("", 600.0, LOST_CREATE_GRACE, id="default"),
        pytest.param("", 20.0, LOST_CREATE_GRACE, id="a short timeout makes it no shorter"),
        pytest.param("", 3600.0, LOST_CREATE_GRACE + timedelta(seconds=6000), id="a long timeout makes it longer"),
        pytest.param("90", 3600.0, timedelta(seconds=90), id="the deployment decides"),
        pytest.param("0", 600.0, timedelta(), id="none at all"),
    ],
)
def test_grace_is_the_deployments_or_follows_from_the_read_timeout(
    setting: str, read_timeout: float, grace: timedelta, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(OPTION, setting)

    assert settings.lost_create_grace(read_timeout) == grace


@pytest.mark.parametrize("setting", ["soon", "-1", "nan", "inf", "86401"])
def test_grace_that_is_no_time_is_refused_with_words(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTION, setting)

    with pytest.raises(ConfigurationError, match=r"lost_create_grace is .*\nNothing was sent"):
        settings.lost_create_grace(600.0)


def test_no_wait_that_is_known_is_longer_than_the_default() -> None:
    assert timedelta(seconds=2 * 600 + 600 + 900) < LOST_CREATE_GRACE <= HOUR
