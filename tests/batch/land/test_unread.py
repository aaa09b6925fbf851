from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.client import ClaudeClient
from airflow_claude_batch.api.config import ClientConfig
from airflow_claude_batch.api.credentials import ApiKey
from airflow_claude_batch.batch.land.unread import (
    UNREAD_FILE,
    UnreadBatches,
    count_poll,
    is_due,
    is_gone,
    load_unread,
    next_read_at,
    save_unread,
)
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.simulator import Simulator

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def polled(*seconds: float, trouble: Trouble = Trouble.NO_RESULTS) -> UnreadBatch:
    """Return what is known after polls at these times."""
    known = None
    for at in seconds:
        known = count_poll(known, "msgbatch_1", trouble, NOW + timedelta(seconds=at))
    assert known is not None
    return known


@pytest.mark.parametrize(
    ("seconds", "gone"),
    [
        pytest.param((0,), False, id="once"),
        pytest.param((0, 700), False, id="twice"),
        pytest.param((0, 1, 2, 3, 599), False, id="often, too short"),
        pytest.param((0, 300, 600), True, id="three times in ten minutes"),
        pytest.param((0, 3600, 7200), True, id="once an hour"),
        pytest.param((0, 1, 7200), False, id="one long gap may be a wrong clock"),
        pytest.param((0, -3600, 30, 60), False, id="a clock that went back"),
        pytest.param((0, -3600, -3300, -3000), True, id="a clock that went back and goes on"),
    ],
)
def test_a_404_is_believed_when_it_lasts(seconds: tuple[float, ...], gone: bool) -> None:
    assert is_gone(polled(*seconds)) is gone


def test_missing_rows_are_never_believed_to_be_gone() -> None:
    assert not is_gone(polled(*range(0, 100_000, 600), trouble=Trouble.FEWER_ROWS))


def test_another_trouble_begins_anew() -> None:
    known = polled(0, 300, 599)
    known = count_poll(known, "msgbatch_1", Trouble.NO_BATCH, NOW + timedelta(seconds=700))

    assert (known.polls, known.seconds, known.since) == (1, 0, NOW + timedelta(seconds=700))


@given(st.lists(st.floats(0, 100_000), min_size=1, max_size=60))
def test_the_next_reading_is_never_at_once_and_never_far(gaps: list[float]) -> None:
    known, now = None, NOW
    for gap in gaps:
        now += timedelta(seconds=gap)
        known = count_poll(known, "msgbatch_1", Trouble.FEWER_ROWS, now)
    assert known is not None
    assert timedelta(seconds=30) <= next_read_at(known) - now <= HOUR
    assert not is_due(known, now)
    assert is_due(known, next_read_at(known))
    assert is_due(known, now - HOUR), "a clock that went back cannot be trusted"


def test_after_the_first_404_of_a_batch_its_wait_decides_and_after_the_second_a_timer() -> None:
    """The wait polls the batch too. If it sees the end at once, the reader must look, or the two call each other."""
    first = count_poll(None, "msgbatch_1", Trouble.NO_BATCH, NOW)
    second = count_poll(first, "msgbatch_1", Trouble.NO_BATCH, NOW)

    assert is_due(first, NOW)
    assert not is_due(second, NOW)


def test_a_sensor_s_notes_survive_and_damaged_ones_begin_anew(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    noted = (polled(0, 30), count_poll(None, "msgbatch_2", Trouble.FEWER_ROWS, NOW, rows=12, expected=20))

    assert load_unread(folder) == ()
    save_unread(folder, noted)
    assert load_unread(folder) == noted
    (tmp_path / UNREAD_FILE).write_bytes(b'[{"batch_id":')
    assert load_unread(folder) == ()


def test_stored_form_is_small_and_stays_readable() -> None:
    """A copy of what this release writes into ledgers: later ones must read it."""
    stored = (
        b'{"submission_id":"s","input_digest":"d","attempt":"a","attempt_began_at":"2026-11-22T09:00:00Z",'
        b'"try_number":1,"generation":0,"round":0,"parts":[{"token":"0123456789ab","first":0,"last":19,"count":20,'
        b'"size":900,"attempt":"a","round":0,"intended_at":"2026-11-22T09:00:00Z","batch_id":"msgbatch_1","landed":true,'
        b'"missing":8}],"settled":[],"dropped":[],"timed_out":true,"canceled_at":"2026-11-22T10:00:00Z",'
        b'"created_at":null,"ended_at":null,"estimate":null,"unread":[{"batch_id":"msgbatch_1","trouble":"fewer_rows",'
        b'"since":"2026-11-22T09:00:00Z","last_at":"2026-11-22T09:00:30Z","polls":2,"seconds":30.0,"rows":12,'
        b'"expected":20}],"deleted":["msgbatch_0"],"version":1}'
    )
    ledger = msgspec.json.decode(stored, type=Ledger)

    assert msgspec.json.encode(ledger) == stored
    assert ledger.parts[0].missing == 8
    assert ledger.unread[0].expected == 20
    assert ledger.archive_landed().parts == ledger.parts
    assert ledger.archive_landed(keep_missing=False).archived_batch_ids == ("msgbatch_1",)


def test_batch_that_is_denied_every_second_is_warned_of_a_few_times(caplog: pytest.LogCaptureFixture) -> None:
    simulator = Simulator()
    config = ClientConfig(credentials=ApiKey("sk-test"), base_url="http://127.0.0.1:1", max_retries=0)
    unread = UnreadBatches((), clock=lambda: NOW, deadline=NOW + HOUR)
    with ClaudeClient(config, transport=simulator.transport()) as client:
        for _ in range(100):
            assert unread.retrieve(client, "msgbatch_01Nothing") is None

    warnings = [each.getMessage() for each in caplog.records if "does not find" in each.getMessage()]
    assert len(warnings) == 7  # polls 1, 2, 4 … 64
    (known,) = unread
    assert known.polls == 100
