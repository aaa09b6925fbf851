"""A sensor that pokes says once an hour how far its batches have come."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.poke_memory import PokeMemory
from airflow_claude_batch._airflow.run_sensor import _log_hourly
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.wait.progress import Known

pytestmark = pytest.mark.airflow

RUNNING = ("msgbatch_1",)


@pytest.mark.parametrize(
    ("logged", "batch_ids", "says"),
    [
        (
            None,
            RUNNING,
            "1 of 2 message batches has ended, with 5 requests. Message batch msgbatch_1 is still in progress",
        ),
        (timedelta(minutes=59), RUNNING, ""),
        (timedelta(minutes=61), RUNNING, "The last 3 message batches of this task took 1 minute"),
        (None, (), ""),
    ],
    ids=["first poke", "within the hour", "after an hour", "nothing runs"],
)
def test_progress_is_logged_once_an_hour(
    logged: timedelta | None, batch_ids: tuple[str, ...], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    memory, now = PokeMemory(), timezone.utcnow()
    memory.logged_at = logged and now - logged
    step = WaitStep(batch_ids, "all", now + timedelta(hours=1), "it runs", submitted_at=now - timedelta(hours=1))

    for _ in range(2):
        _log_hourly(step, Known(1, 5, (60.0, 61.0, 3)), memory)

    assert says in caplog.text
    assert len(caplog.records) == bool(says)
