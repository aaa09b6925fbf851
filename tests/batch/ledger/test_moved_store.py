"""The ledger from Airflow 3.4 on: in the folder, and moved there from the task state store of Airflow 3.3."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ledger_storage import CountingFolder, CountingState, Killed

from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.moved_store import MovedLedgerStore
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import STATE_KEY, FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)


def part(number: int, **fields: Any) -> Part:
    sent = {"token": f"{number:012}", "first": number, "last": number, "count": 1, "size": 100, "attempt": "a1"}
    return Part(**sent, round=0, intended_at=NOW, batch_id=f"msgbatch_{number}", **fields)


def ledger(*parts: Part, attempt: str = "a1") -> Ledger:
    return Ledger(submission_id="s", input_digest="d", attempt=attempt, attempt_began_at=NOW, parts=parts)


#: So many parts that some of them are in chunks.
MANY = ledger(*(part(number, landed=True) for number in range(40)))
FIRST, SECOND = ledger(part(1), attempt="a1"), ledger(part(1), part(2), attempt="a2")


@pytest.fixture
def states() -> CountingState:
    return CountingState()


@pytest.fixture
def folder(tmp_path: Path) -> CountingFolder:
    return CountingFolder(tmp_path)


def take_over(store: LedgerStore, ledger: Ledger) -> LedgerRecord:
    claim_ledger(store)
    load_ledger(store)
    return LedgerRecord.take_over(store, ledger)


def moved(states: CountingState, folder: CountingFolder) -> MovedLedgerStore:
    """Return the store of a new process."""
    return MovedLedgerStore(states, folder)


def test_ledger_is_in_the_folder_alone_and_outlives_the_task_state(
    states: CountingState, folder: CountingFolder
) -> None:
    take_over(moved(states, folder), MANY)

    assert states.values == {}
    assert load_ledger(moved(states, folder)) == MANY
    assert load_ledger(FolderLedgerStore(folder)) == MANY


def test_store_asks_for_the_task_state_once(states: CountingState, folder: CountingFolder) -> None:
    record = take_over(moved(states, folder), FIRST)
    record.save(FIRST.with_part(part(2)))
    record.check_ownership()

    assert states.traffic.reads == [STATE_KEY]


def test_reading_leaves_the_ledger_in_the_task_state_store(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), MANY)
    stored = states.values

    assert load_ledger(moved(states, folder)) == MANY
    assert states.values == stored
    assert folder.names() == []


def test_next_attempt_moves_the_ledger_with_its_chunks(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), MANY)
    store = moved(states, folder)

    claim_ledger(store)

    assert states.values == {}
    assert load_ledger(store) == MANY
    record = LedgerRecord.take_over(store, SECOND)
    record.check_ownership()
    assert load_ledger(moved(states, folder)) == SECOND


def test_resumed_attempt_moves_the_ledger_by_its_first_save(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), FIRST)
    store = moved(states, folder)
    record = LedgerRecord(store, load_ledger(store) or MANY)

    record.check_ownership()
    record.save(FIRST.with_part(part(2)))

    assert states.values == {}
    record.check_ownership()
    assert load_ledger(moved(states, folder)) == FIRST.with_part(part(2))


def test_ledger_in_the_task_state_store_is_newer_than_the_one_in_the_folder(
    states: CountingState, folder: CountingFolder
) -> None:
    take_over(FolderLedgerStore(folder), FIRST)
    take_over(StateLedgerStore(states, folder), SECOND)

    assert load_ledger(moved(states, folder)) == SECOND
    store = moved(states, folder)
    claim_ledger(store)
    assert load_ledger(store) == SECOND


def test_resumed_attempt_that_lost_its_ledger_to_another_stops(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), FIRST)
    store = moved(states, folder)
    record = LedgerRecord(store, load_ledger(store) or MANY)
    take_over(StateLedgerStore(states, folder), SECOND)

    with pytest.raises(SubmissionTakenOverError):
        record.save(FIRST.with_part(part(3)))
    assert load_ledger(moved(states, folder)) == SECOND


def test_attempt_whose_successor_has_moved_the_ledger_stops(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), FIRST)
    store = moved(states, folder)
    record = LedgerRecord(store, load_ledger(store) or MANY)
    take_over(moved(states, folder), SECOND)

    with pytest.raises(SubmissionTakenOverError):
        record.save(FIRST.with_part(part(3)))
    assert load_ledger(moved(states, folder)) == SECOND


def test_kill_before_the_ledger_is_removed_from_the_task_state_store_loses_nothing(
    states: CountingState, folder: CountingFolder
) -> None:
    take_over(StateLedgerStore(states, folder), MANY)

    def kill(_: str) -> None:
        raise Killed

    states.traffic.before_remove = kill
    with pytest.raises(Killed):
        moved(states, folder).claim()
    states.traffic.before_remove = lambda _: None

    assert load_ledger(moved(states, folder)) == MANY
    store = moved(states, folder)
    claim_ledger(store)
    assert load_ledger(store) == MANY
    assert states.values == {}


def test_missing_chunk_in_the_task_state_store_stops_the_task(states: CountingState, folder: CountingFolder) -> None:
    take_over(StateLedgerStore(states, folder), MANY)
    for key in list(states.texts):
        if key != STATE_KEY:
            states.delete(key)
    store = moved(states, folder)

    claim_ledger(store)

    with pytest.raises(SubmissionRecordError, match="chunk"):
        load_ledger(store)
