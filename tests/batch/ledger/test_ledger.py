from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import MessageBatch, RequestCounts
from airflow_claude_batch.batch.ledger.ledger import Ledger, RepeatedAnswer, new_token
from airflow_claude_batch.batch.ledger.moved_store import MovedLedgerStore
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger, save_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


class Store:
    """Ledger store in memory that can be made to fail."""

    def __init__(self, data: bytes | None = None, error: Exception | None = None) -> None:
        self.data = data
        self.chunks: dict[str, bytes] = {}
        self.error = error
        self.save_error: Exception | None = None

    def claim(self) -> None:
        if self.error:
            raise self.error

    def load(self) -> bytes | None:
        if self.error:
            raise self.error
        return self.data

    def load_chunk(self, name: str) -> bytes | None:
        return self.chunks.get(name)

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        if error := self.save_error or self.error:
            raise error
        self.data, self.chunks = head, dict(chunks)

    def check_owner(self, attempt: str) -> None:
        if self.error:
            raise self.error


def part(token: str = "t1", **fields: Any) -> Part:
    values = {"first": 0, "last": 9, "count": 10, "size": 1000, "attempt": "a1", "round": 0, "intended_at": NOW}
    return Part(token=token, **values | fields)


def ledger(*parts: Part, **fields: Any) -> Ledger:
    values = {"submission_id": "s", "input_digest": "d", "attempt": "a1", "attempt_began_at": NOW}
    return Ledger(parts=parts, **values | fields)


def damaged_ledger(**fields: Any) -> Store:
    return Store(json.dumps({**json.loads(msgspec.json.encode(ledger())), **fields}).encode())


def damaged_part(**fields: Any) -> Store:
    return damaged_ledger(parts=[{**json.loads(msgspec.json.encode(part())), **fields}])


INTENT = part("t1")
OPEN = part("t2", batch_id="b2")
LANDED = part("t3", batch_id="b3", landed=True)


# ---------------------------------------------------------------- its properties and changes


def test_parts_are_intents_open_or_landed() -> None:
    known = ledger(INTENT, OPEN, LANDED, archived_batch_ids=("b0",))

    assert known.intents == (INTENT,)
    assert known.open_parts == (OPEN,)
    assert known.open_batch_ids == ("b2",)
    assert known.landed_batch_ids == {"b0", "b3"}
    assert known.batch_ids == ("b0", "b2", "b3")


def test_with_part_replaces_a_part_with_the_same_token() -> None:
    known = ledger(INTENT, OPEN).with_part(part("t1", batch_id="b1"))

    assert known.parts == (part("t1", batch_id="b1"), OPEN)


def test_with_part_appends_a_new_part() -> None:
    assert ledger(OPEN).with_part(INTENT).parts == (OPEN, INTENT)


def test_without_part_removes_only_that_intent() -> None:
    assert ledger(INTENT, OPEN).without_part(INTENT).parts == (OPEN,)


def test_lost_batch_stays_in_the_list_of_batches() -> None:
    known = ledger(OPEN, LANDED).without_batch("b2")

    assert known.open_parts == ()
    assert set(known.batch_ids) == {"b2", "b3"}
    assert known.landed_batch_ids == {"b3"}
    assert known.closed_batch_ids == {"b2", "b3"}


def test_archive_landed_keeps_only_the_batch_ids_of_landed_parts() -> None:
    known = ledger(INTENT, LANDED, OPEN, archived_batch_ids=("b0",)).archive_landed()

    assert known.parts == (INTENT, OPEN)
    assert known.archived_batch_ids == ("b0", "b3")


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        pytest.param(None, None, None, id="never known"),
        pytest.param(None, NOW, NOW, id="first"),
        pytest.param(NOW, None, NOW, id="not known now"),
        pytest.param(NOW, NOW - timedelta(hours=1), NOW, id="earlier than known"),
        pytest.param(NOW, NOW + timedelta(hours=1), NOW + timedelta(hours=1), id="later than known"),
    ],
)
def test_ended_at_is_the_latest_end_of_a_batch(
    before: datetime | None, now: datetime | None, expected: datetime | None
) -> None:
    known = ledger(OPEN, part("t4", batch_id="b4"), ended_at=before).with_landed({"b2"}, now)

    assert known.ended_at == expected
    assert known.open_batch_ids == ("b4",)
    assert known.landed_batch_ids == {"b2"}


STEPS = st.lists(st.tuples(st.sampled_from(["intend", "create", "refuse", "land", "archive", "lose"]), st.integers(0)))


@given(steps=STEPS)
def test_no_order_of_changes_loses_a_batch(steps: list[tuple[str, int]]) -> None:
    known, made, archived_batch_ids = ledger(), 0, 0
    for step, number in steps:
        intents, open_ = known.intents, known.open_parts
        if step == "intend":
            known = known.with_part(part(new_token()))
        elif step == "create" and intents:
            chosen = intents[number % len(intents)]
            known, made = known.with_part(msgspec.structs.replace(chosen, batch_id=f"b{made}")), made + 1
        elif step == "refuse" and intents:
            known = known.without_part(intents[number % len(intents)])
        elif step == "land" and open_:
            known = known.with_landed([str(open_[number % len(open_)].batch_id)], NOW)
        elif step == "lose" and open_:
            known = known.without_batch(str(open_[number % len(open_)].batch_id))
        elif step == "archive":
            known = known.archive_landed()
        assert sorted(known.batch_ids) == sorted(f"b{n}" for n in range(made))
        assert len(known.archived_batch_ids) >= archived_batch_ids
        archived_batch_ids = len(known.archived_batch_ids)
        open_now, dropped = set(known.open_batch_ids), set(known.dropped)
        assert open_now.isdisjoint(known.landed_batch_ids)
        assert dropped.isdisjoint(open_now | known.landed_batch_ids)
        assert open_now | known.landed_batch_ids | dropped == open_now | known.closed_batch_ids == set(known.batch_ids)


def test_tokens_are_twelve_characters_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(len(token) == 12 and set(token) <= set("0123456789abcdef") for token in tokens)


# ---------------------------------------------------------------- saving and loading


batch_ids = st.text(st.sampled_from("abcXYZ019_-"), min_size=1)
times = st.datetimes(datetime(2000, 1, 1), datetime(2999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@given(
    parts=st.lists(
        st.builds(
            part,
            token=st.text(),
            batch_id=st.none() | batch_ids,
            watermark=st.none() | batch_ids,
            created_at=st.none() | times,
            landed=st.booleans(),
            answers=st.sampled_from(["ours", "moved", "unwanted"]),
        ),
        max_size=4,
    ),
    archived_batch_ids=st.lists(batch_ids, max_size=3).map(tuple),
    began=times,
    estimate=st.none() | st.dictionaries(st.text(), st.text(), max_size=2),
)
def test_ledger_comes_back_as_it_was_saved(parts: Any, archived_batch_ids: Any, began: datetime, estimate: Any) -> None:
    store = Store()
    written = ledger(*parts, archived_batch_ids=archived_batch_ids, attempt_began_at=began, estimate=estimate)
    save_ledger(store, written)

    assert load_ledger(store) == written


def test_ledger_in_a_folder_comes_back(tmp_path: Path) -> None:
    store = FolderLedgerStore(LocalFolder(tmp_path))
    assert load_ledger(store) is None

    save_ledger(store, ledger(OPEN))
    assert load_ledger(store) == ledger(OPEN)
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("ledger-1-")


def test_ledger_takes_a_few_hundred_bytes_a_part() -> None:
    store = Store()
    save_ledger(store, ledger(*(part(new_token(), batch_id="msgbatch_" + "x" * 24) for _ in range(100))))

    assert len(store.data or b"") < 100 * 400


def test_fields_of_a_later_release_of_the_same_version_are_ignored() -> None:
    store = Store()
    save_ledger(store, ledger(OPEN))
    value = json.loads(store.data or b"")
    value["new"] = value["parts"][0]["new"] = 1

    assert load_ledger(Store(json.dumps(value).encode())) == ledger(OPEN)


@pytest.mark.parametrize(
    ("store", "says"),
    [
        pytest.param(Store(b""), "damaged", id="empty"),
        pytest.param(Store(b'{"version":1,"submi'), "damaged", id="cut"),
        pytest.param(Store(b"[]"), "damaged", id="not a ledger"),
        pytest.param(Store(b'{"version":1}'), "damaged", id="without fields"),
        pytest.param(Store(b'{"submission_id":"s"}'), "damaged", id="without version"),
        pytest.param(Store(b'{"version":1,"x":"\xff"}'), "damaged|could not be read", id="not UTF-8"),
        pytest.param(
            Store(b'{"version":3}'), "(?s)version 3, but this release understands versions up to 2.*Upgrade", id="newer"
        ),
        pytest.param(Store(b"[" * 5000), "damaged|could not be read", id="nested without end"),
        pytest.param(damaged_ledger(settled=["../v1/messages"]), r"damaged.*settled", id="an id that is a path"),
        pytest.param(damaged_ledger(attempt_began_at="2026-11-22T09:00:00"), "damaged.*timezone", id="no time zone"),
        pytest.param(
            damaged_ledger(attempt_began_at="9999-12-31T23:59:59Z"), "damaged.*year is not between", id="year 9999"
        ),
        pytest.param(damaged_part(last=-1), "damaged.*last", id="a negative index"),
        pytest.param(damaged_part(first=5, last=1), "damaged.*counts", id="last before first"),
        pytest.param(damaged_part(last=1), "damaged.*counts", id="fewer requests than counted"),
        pytest.param(Store(error=OSError("disk on fire")), "OSError: disk on fire", id="unreadable"),
        pytest.param(Store(error=RuntimeError("no route")), "RuntimeError: no route", id="store down"),
    ],
)
def test_damaged_ledger_never_counts_as_no_ledger(store: Store, says: str) -> None:
    with pytest.raises(SubmissionRecordError, match=says) as error:
        load_ledger(store)

    assert "othing was sent" in str(error.value)


def test_error_of_the_store_itself_passes_unchanged() -> None:
    with pytest.raises(SubmissionRecordError, match=r"^from below$"):
        load_ledger(Store(error=SubmissionRecordError("from below")))


def test_ledger_that_cannot_be_written_stops_and_names_the_batches() -> None:
    store = Store()
    record = LedgerRecord.take_over(store, ledger(OPEN))
    store.save_error = OSError("disk full")

    with pytest.raises(SubmissionRecordError, match=r"(?s)OSError: disk full.*batches known now: b2, b3"):
        record.save(ledger(OPEN, LANDED))
    assert record.ledger == ledger(OPEN)


class StateStore:
    """Airflow's task state store, with the methods that are used."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.retention: timedelta | None = None

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def set(self, key: str, value: Any, *, retention: timedelta) -> None:
        self.values[key] = json.loads(json.dumps(value))
        self.retention = retention

    def delete(self, key: str) -> None:
        self.values.pop(key, None)


def test_ledger_in_the_state_store_outlives_the_results_and_leaves_no_file(tmp_path: Path) -> None:
    states = StateStore()
    store = StateLedgerStore(states, LocalFolder(tmp_path))
    claim_ledger(store)
    assert load_ledger(store) is None

    save_ledger(store, ledger(OPEN, INTENT))
    assert load_ledger(store) == ledger(OPEN, INTENT)
    assert states.retention is not None
    assert states.retention > timedelta(days=29)
    assert list(tmp_path.iterdir()) == []


def test_ledger_in_the_folder_counts_until_one_is_in_the_state_store(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    save_ledger(FolderLedgerStore(folder), ledger(OPEN))
    store = StateLedgerStore(StateStore(), folder)
    assert load_ledger(store) == ledger(OPEN)

    LedgerRecord(store, ledger(OPEN)).check_ownership()
    save_ledger(store, ledger(LANDED))
    assert load_ledger(store) == ledger(LANDED)


# ---------------------------------------------------------------- ownership


@pytest.fixture
def folder(tmp_path: Path) -> LocalFolder:
    return LocalFolder(tmp_path)


@pytest.fixture(params=["folder", "state", "moved"])
def store(request: pytest.FixtureRequest, folder: LocalFolder) -> LedgerStore:
    if request.param == "folder":
        return FolderLedgerStore(folder)
    return (StateLedgerStore if request.param == "state" else MovedLedgerStore)(StateStore(), folder)


def test_record_of_this_attempt_continues(store: LedgerStore) -> None:
    claim_ledger(store)
    record = LedgerRecord.take_over(store, ledger())
    record.save(ledger(OPEN))

    record.check_ownership()
    assert record.ledger == load_ledger(store) == ledger(OPEN)


@pytest.mark.parametrize("gone", [True, False], ids=["ledger gone", "another attempt's"])
def test_record_of_another_attempt_stops(gone: bool, folder: LocalFolder) -> None:
    states = StateStore()
    store = StateLedgerStore(states, folder)
    claim_ledger(store)
    record = LedgerRecord.take_over(store, ledger(OPEN))
    if gone:
        states.values.clear()
    else:
        successor = StateLedgerStore(states, folder)
        claim_ledger(successor)
        LedgerRecord.take_over(successor, ledger(OPEN, attempt="a2"))

    with pytest.raises(SubmissionTakenOverError, match="known to it: b2"):
        record.check_ownership()
    before = dict(states.values)
    with pytest.raises(SubmissionTakenOverError, match="known to it: b3"):
        record.save(ledger(LANDED))
    assert states.values == before


def test_owner_that_cannot_be_read_stops_the_attempt() -> None:
    store = Store()
    record = LedgerRecord.take_over(store, ledger(OPEN))
    store.error = OSError("disk on fire")

    with pytest.raises(SubmissionRecordError, match=r"could not be read .OSError: disk on fire"):
        record.check_ownership()


def test_record_stops_if_its_file_is_gone(folder: LocalFolder) -> None:
    record = owner(folder, "a1")
    for file in folder.names():
        folder.remove(file)

    with pytest.raises(SubmissionTakenOverError):
        record.check_ownership()


def test_part_is_an_intent_without_a_batch_and_open_until_landed() -> None:
    assert [(item.is_intent, item.is_open) for item in (INTENT, OPEN, LANDED)] == [
        (True, False),
        (False, True),
        (False, False),
    ]


# ---------------------------------------------------------------- two owners at once, in a folder


def owner(folder: LocalFolder, attempt: str) -> LedgerRecord:
    store = FolderLedgerStore(folder)
    claim_ledger(store)
    load_ledger(store)
    return LedgerRecord.take_over(store, ledger(attempt=attempt))


def test_previous_owner_cannot_change_its_successor_s_ledger(folder: LocalFolder) -> None:
    previous = owner(folder, "a1")
    successor = owner(folder, "a2")

    with pytest.raises(SubmissionTakenOverError):
        previous.save(ledger(OPEN, attempt="a1"))
    successor.save(ledger(INTENT, attempt="a2"))
    assert load_ledger(FolderLedgerStore(folder)) == ledger(INTENT, attempt="a2")


def test_save_after_another_claim_raises(folder: LocalFolder) -> None:
    previous = owner(folder, "a1")

    class Meanwhile(FolderLedgerStore):
        """Another owner claims the ledger just before we write."""

        def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
            claim_ledger(FolderLedgerStore(folder))
            super().save(head, chunks)

    store = Meanwhile(folder)
    record = LedgerRecord(store, load_ledger(store) or previous.ledger)
    with pytest.raises(SubmissionTakenOverError):
        record.save(ledger(INTENT, attempt="a1"))


def test_new_owner_reads_what_was_saved_before_its_claim(folder: LocalFolder) -> None:
    previous = owner(folder, "a1")
    previous.save(ledger(INTENT, attempt="a1"))
    store = FolderLedgerStore(folder)
    claim_ledger(store)

    assert load_ledger(store) == ledger(INTENT, attempt="a1")


def test_owners_that_claim_at_the_same_moment_do_not_both_go_on(folder: LocalFolder) -> None:
    class Rival(LocalFolder):
        """Another owner claims the ledger between our listing and our claim."""

        claimed = False

        def replace_file(self, name: str) -> Any:
            if not self.claimed:
                self.claimed = True
                claim_ledger(FolderLedgerStore(folder))
            return super().replace_file(name)

    with pytest.raises(SubmissionTakenOverError, match="at the same moment"):
        claim_ledger(FolderLedgerStore(Rival(folder.path)))


def test_claim_that_cannot_be_written_stops() -> None:
    with pytest.raises(
        SubmissionRecordError, match=r"could not be claimed .OSError: disk full.\.\nNothing was sent now"
    ):
        claim_ledger(Store(error=OSError("disk full")))


def test_repeated_answer_is_counted_stored_and_forgotten():
    ledger = Ledger(submission_id="s", input_digest="d", attempt="a", attempt_began_at=NOW)
    once = ledger.with_repeated("results of msgbatch_1", NOW)
    stored = msgspec.json.decode(msgspec.json.encode(once), type=Ledger)
    thrice = stored.with_repeated("results of msgbatch_1", NOW + timedelta(minutes=1)).with_repeated(
        "results of msgbatch_1", NOW + timedelta(minutes=2)
    )
    answer = thrice.repeated_answer("results of msgbatch_1")

    assert answer == RepeatedAnswer(call="results of msgbatch_1", since=NOW, count=3)
    assert not answer.has_lasted(NOW + timedelta(seconds=599))
    assert answer.has_lasted(NOW + timedelta(seconds=600))
    assert thrice.repeated_answer("results of msgbatch_2") is None
    assert thrice.without_repeated("results of msgbatch_1") == ledger
    assert b"repeated" not in msgspec.json.encode(ledger)


def test_repeated_answer_does_not_last_because_a_clock_was_set_back():
    ledger = Ledger(submission_id="s", input_digest="d", attempt="a", attempt_began_at=NOW)
    earlier = NOW - timedelta(hours=1)
    answer = ledger.with_repeated("x", NOW).with_repeated("x", earlier).with_repeated("x", earlier).repeated_answer("x")

    assert not answer.has_lasted(earlier + timedelta(seconds=599))


def test_part_as_this_release_stores_a_search_is_read():
    stored = b"""{"token":"0123456789ab","first":0,"last":2,"count":3,"size":900,"attempt":"a","round":0,
        "intended_at":"2026-11-22T09:00:00Z","intended_at_worker":"2026-11-22T09:00:01.500000Z","watermark":"msgbatch_w",
        "watermark_at":"2026-11-22T08:00:00Z","listed_before":["msgbatch_v"],"unreadable_before":1,"refused":true,
        "searched_since":"2026-11-22T09:00:30Z","candidates":["msgbatch_x"],"foreign":["msgbatch_y"],
        "has_all_candidates":true}"""
    part = msgspec.json.decode(stored, type=Part)

    assert msgspec.json.decode(msgspec.json.encode(part)) == msgspec.json.decode(stored)
    assert part.is_intent
    assert (part.candidates, part.foreign, part.listed_before) == (("msgbatch_x",), ("msgbatch_y",), ("msgbatch_v",))


def test_part_with_its_batch_stores_nothing_of_the_search():
    batch = MessageBatch(
        id="msgbatch_x", processing_status="in_progress", request_counts=RequestCounts(processing=3), created_at=NOW
    )
    searched = Part(
        token="0123456789ab",
        first=0,
        last=2,
        count=3,
        size=900,
        attempt="a",
        round=0,
        intended_at=NOW,
        listed_before=("msgbatch_v",),
        unreadable_before=1,
        refused=True,
        searched_since=NOW,
        candidates=("msgbatch_x",),
        foreign=("msgbatch_y",),
        has_all_candidates=True,
    )
    fields = set(msgspec.json.decode(msgspec.json.encode(searched.with_batch(batch))))

    assert fields == {
        "token", "first", "last", "count", "size", "attempt", "round", "intended_at", "batch_id", "created_at",
    }  # fmt: skip
