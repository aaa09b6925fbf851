"""Ledgers of many parts: what is stored comes back whole, and a save costs what has changed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_storage import Killed, Place

from airflow_claude_batch.batch.ledger.chunks import (
    ARCHIVED_PER_CHUNK,
    PARTS_PER_CHUNK,
    Chunk,
    Head,
    chunk_name,
    join,
    split,
)
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord, claim_ledger, load_ledger, save_ledger
from airflow_claude_batch.batch.ledger.stores import CHUNK_RETENTION, STATE_RETENTION
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def part(number: int, **fields: Any) -> Part:
    values = {"batch_id": f"msgbatch_{number:024}", "created_at": NOW, "expires_at": NOW} | fields
    return Part(
        token=f"{number:012}",
        first=number,
        last=number,
        count=1,
        size=1000,
        attempt="a1",
        round=0,
        intended_at=NOW,
        watermark=f"msgbatch_{number - 1:024}",
        watermark_at=NOW,
        **values,
    )


def ledger(*parts: Part, **fields: Any) -> Ledger:
    values = {"submission_id": "s", "input_digest": "d", "attempt": "a1", "attempt_began_at": NOW}
    return Ledger(parts=parts, **values | fields)


def landed(count: int) -> tuple[Part, ...]:
    return tuple(part(number, landed=True) for number in range(count))


def archived(count: int) -> Ledger:
    return ledger(*landed(count)).archive_landed()


MANY = ledger(*landed(40), part(40))


@pytest.fixture(params=["folder", "state"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return Place(request.param, tmp_path)


def take_over(place: Place, ledger: Ledger) -> LedgerRecord:
    """Begin an attempt in a new process."""
    store = place.store()
    claim_ledger(store)
    load_ledger(store)
    return LedgerRecord.take_over(store, ledger)


def resume(place: Place) -> LedgerRecord:
    """Continue an attempt in a new process."""
    store = place.store()
    known = load_ledger(store)
    assert known is not None
    return LedgerRecord(store, known)


# ---------------------------------------------------------------- what is stored


def joined(head: bytes, chunks: dict[str, bytes]) -> Ledger:
    read = {name: msgspec.json.decode(data, type=Chunk) for name, data in chunks.items()}
    return join(msgspec.json.decode(head, type=Head), read)


@pytest.mark.parametrize(
    "small", [ledger(*landed(PARTS_PER_CHUNK)), archived(ARCHIVED_PER_CHUNK)], ids=["parts", "archived"]
)
def test_small_ledger_is_stored_as_by_earlier_releases(small: Ledger) -> None:
    assert split(small) == (msgspec.json.encode(small), {})


def test_landed_parts_are_in_chunks_and_the_last_ones_in_the_head() -> None:
    head, chunks = split(MANY)
    stored = json.loads(head)

    assert [entry["first"] for entry in stored["parts"]] == [*range(32, 41)]
    assert [(ref["at"], len(json.loads(chunks[ref["name"]])["parts"])) for ref in stored["chunks"]] == [
        (0, 16),
        (16, 16),
    ]
    assert joined(head, chunks) == MANY


def test_parts_beside_one_that_is_open_stay_in_the_head() -> None:
    parts = [*landed(60)]
    parts[20] = part(20)
    head, chunks = split(ledger(*parts))

    assert [ref["at"] for ref in json.loads(head)["chunks"]] == [0, 32]
    assert joined(head, chunks) == ledger(*parts)


def test_archived_batches_are_in_chunks_with_their_numbers_of_requests() -> None:
    many = archived(2 * ARCHIVED_PER_CHUNK + 1)
    head, chunks = split(many)

    assert len(json.loads(head)["settled"]) == len(json.loads(head)["archived_counts"]) == 1
    assert len(chunks) == 2
    assert joined(head, chunks) == many
    assert joined(head, chunks).request_count(many.archived_batch_ids[0]) == 1


def test_ledger_with_chunks_has_a_version_that_earlier_releases_refuse() -> None:
    assert json.loads(split(ledger(*landed(17)))[0])["version"] == 2
    assert joined(*split(ledger(*landed(17)))).version == 1


def test_head_and_chunks_as_this_release_stores_them_are_read() -> None:
    parts = b"""{"parts":[{"token":"0123456789ab","first":0,"last":2,"count":3,"size":900,"attempt":"a","round":0,
        "intended_at":"2026-11-22T09:00:00Z","batch_id":"msgbatch_a","landed":true}]}"""
    archive = b'{"settled":["msgbatch_b"],"archived_counts":{"msgbatch_b":4}}'
    head = f'''{{"submission_id":"s","input_digest":"d","attempt":"a","attempt_began_at":"2026-11-22T09:00:00Z",
        "parts":[],"settled":["msgbatch_c"],"archived_counts":{{"msgbatch_c":5}},"version":2,
        "chunks":[{{"name":"{chunk_name(parts)}","at":0}},{{"name":"{chunk_name(archive)}","at":0}}]}}'''
    ledger = joined(head.encode(), {chunk_name(data): data for data in (parts, archive)})

    assert (chunk_name(parts), chunk_name(archive)) == ("21062661a9cdfd32", "75a353e832396abc")
    assert ledger.batch_ids == ("msgbatch_b", "msgbatch_c", "msgbatch_a")
    assert [ledger.request_count(batch_id) for batch_id in ledger.batch_ids] == [4, 5, 3]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "create", "land", "archive", "refuse", "lose", "take over", "resume", "other input"]),
        st.integers(1, 40),
        st.booleans(),
    ),
    max_size=12,
)


@contextmanager
def new_place(kind: str) -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as path:
        yield Place(kind, Path(path))


@settings(deadline=None)
@given(steps=STEPS, kind=st.sampled_from(["folder", "state"]))
def test_any_history_comes_back_from_storage_and_leaves_no_chunk_behind(steps: Any, kind: str) -> None:
    with new_place(kind) as place:
        record, made = take_over(place, ledger(attempt="a0")), 0
        for step, number, early in steps:
            if step == "resume":
                record = resume(place)
                continue
            known = record.ledger
            if step == "take over":
                record = take_over(place, msgspec.structs.replace(known, attempt=new_token()))
            else:
                changed, made = change(known, step, number, made, early=early)
                record.save(changed)
            assert joined(*split(record.ledger)) == record.ledger == load_ledger(place.store())
            own = [data for name, data in place.chunks.items() if kind == "state" or is_current(name, place)]
            assert sorted(map(chunk_name, own)) == sorted(split(record.ledger)[1])


def is_current(name: str, place: Place) -> bool:
    """Return whether a file is the last owner's."""
    return int(name.split("-")[1]) == max(int(file.split("-")[1]) for file in place.folder.names())


def change(known: Ledger, step: str, number: int, made: int, *, early: bool) -> tuple[Ledger, int]:
    """Do one step with up to ``number`` parts, the first or the last ones."""
    chosen = slice(0, number) if early else slice(-number, None)
    match step:
        case "send":
            parts = (part(n, batch_id=None, created_at=None, expires_at=None) for n in range(made, made + number))
            return msgspec.structs.replace(known, parts=(*known.parts, *parts)), made + number
        case "create":
            for each in known.intents[chosen]:
                known = known.with_part(msgspec.structs.replace(each, batch_id=f"msgbatch_{each.token}"))
        case "land":
            known = known.with_landed([str(each.batch_id) for each in known.open_parts[chosen]], NOW)
        case "refuse":
            for each in known.intents[chosen][:3]:
                known = known.without_part(each)
        case "lose":
            for each in known.open_parts[chosen][:3]:
                known = known.without_batch(str(each.batch_id))
        case "archive":
            known = known.archive_landed()
        case "other input":
            open_parts = tuple(each for each in known.parts if not each.landed)
            known = msgspec.structs.replace(known.archive_landed(), parts=open_parts, input_digest=str(number))
    return known, made


# ---------------------------------------------------------------- what a save costs


def send_one_after_the_other(record: LedgerRecord, count: int) -> None:
    for number in range(count):
        intent = part(number, batch_id=None, created_at=None, expires_at=None)
        record.save(record.ledger.with_part(intent))
        record.save(record.ledger.with_part(part(number)))
        record.save(record.ledger.with_landed([part(number).batch_id or ""], NOW))


def test_bytes_of_all_saves_grow_with_the_parts_and_not_with_their_square(tmp_path: Path) -> None:
    for kind in ("folder", "state"):
        written = {}
        for count in (10, 40, 160):
            place = Place(kind, tmp_path / kind / str(count))
            send_one_after_the_other(take_over(place, ledger()), count)
            written[count] = place.traffic.bytes_written / count

        assert written[10] < 10_000
        assert written[160] < 1.25 * written[40] < 2 * written[10]


def test_save_costs_one_write_and_one_read_and_each_chunk_one_write_more(place: Place) -> None:
    record = take_over(place, ledger())
    place.traffic.clear()
    send_one_after_the_other(record, 40)

    assert len(place.chunks) == 2
    assert len(place.traffic.writes) == 3 * 40 + 2
    assert len(place.traffic.reads) == 3 * 40
    assert place.traffic.removed == []


def test_check_of_the_owner_costs_one_read(place: Place) -> None:
    record = take_over(place, MANY)
    place.traffic.clear()
    record.check_ownership()

    assert (place.traffic.writes, len(place.traffic.reads)) == ([], 1)


def test_resumed_process_writes_no_chunk_again(place: Place) -> None:
    take_over(place, MANY)
    record = resume(place)
    place.traffic.clear()
    record.save(record.ledger.with_part(part(41)))

    assert len(place.traffic.writes) == 1
    assert load_ledger(place.store()) == MANY.with_part(part(41))


def test_chunks_that_the_head_does_not_name_any_more_are_removed(place: Place) -> None:
    record = take_over(place, MANY)
    assert len(place.chunks) == 2
    record.save(MANY.archive_landed())

    assert place.chunks == {}
    assert load_ledger(place.store()) == MANY.archive_landed()


def test_chunk_that_cannot_be_removed_stops_nothing(place: Place) -> None:
    def refuse(name: str) -> None:
        raise PermissionError(name)

    record = take_over(place, MANY)
    place.traffic.before_remove = refuse
    record.save(MANY.archive_landed())

    assert len(place.chunks) == 2
    assert load_ledger(place.store()) == MANY.archive_landed()


def test_chunk_file_that_vanished_is_written_again(tmp_path: Path) -> None:
    place = Place("folder", tmp_path)
    record = take_over(place, MANY)
    place.folder.remove(min(place.chunks))
    for number in (41, 42):
        record.save(record.ledger.with_part(part(number)))

    assert load_ledger(place.store()) == record.ledger


# ---------------------------------------------------------------- killed in the middle of a save


def kill_before(place: Place, fragment: str) -> None:
    def kill(name: str) -> None:
        if (fragment in name) if fragment else ("chunk" not in name):
            raise Killed

    place.traffic.before_write = kill


@pytest.mark.parametrize("fragment", ["chunk", ""], ids=["before the chunk", "between chunk and head"])
def test_kill_in_the_middle_of_a_save_leaves_the_ledger_before_it(place: Place, fragment: str) -> None:
    before = ledger(*landed(15), part(15), part(16))
    record = take_over(place, before)
    kill_before(place, fragment)
    with pytest.raises(Killed):
        record.save(ledger(*landed(16), part(16)))
    place.traffic.before_write = lambda name: None

    assert len(place.chunks) == (0 if fragment else 1)
    assert load_ledger(place.store()) == before
    resumed = resume(place)
    resumed.save(ledger(*landed(16), part(16)))
    assert load_ledger(place.store()) == ledger(*landed(16), part(16))
    assert len(place.chunks) == 1


def test_chunk_of_a_killed_save_is_removed_by_a_later_one(tmp_path: Path) -> None:
    place = Place("folder", tmp_path)
    before = ledger(*landed(15), part(15), part(16))
    record = take_over(place, before)
    kill_before(place, "")
    with pytest.raises(Killed):
        record.save(ledger(*landed(16), part(16)))
    place.traffic.before_write = lambda name: None
    resume(place).save(before.without_batch(str(part(15).batch_id)))

    assert place.chunks == {}


def test_kill_before_chunks_are_removed_leaves_a_ledger_that_is_read(place: Place) -> None:
    def kill(name: str) -> None:
        raise Killed

    record = take_over(place, MANY)
    place.traffic.before_remove = kill
    with pytest.raises(Killed):
        record.save(MANY.archive_landed())

    assert load_ledger(place.store()) == MANY.archive_landed()


def test_full_disk_in_the_middle_of_a_save_leaves_the_ledger_before_it(place: Place) -> None:
    def refuse(name: str) -> None:
        raise OSError("no space left on device")

    record = take_over(place, ledger(*landed(15), part(15), part(16)))
    place.traffic.before_write = refuse
    with pytest.raises(SubmissionRecordError, match=r"could not be written .OSError: no space left"):
        record.save(ledger(*landed(16), part(16)))

    assert load_ledger(place.store()) == record.ledger == ledger(*landed(15), part(15), part(16))


# ---------------------------------------------------------------- chunks that cannot be read


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(None, r"(?s)is missing\.\nNothing was sent now.*Retry the task", id="missing"),
        pytest.param(b"", "has other content than was written", id="empty"),
        pytest.param(b'{"parts":[]}', "has other content than was written", id="no parts"),
    ],
)
def test_chunk_that_is_missing_or_damaged_stops_the_task(place: Place, data: bytes | None, says: str) -> None:
    take_over(place, MANY)
    place.write_chunk(min(place.chunks), data)

    with pytest.raises(SubmissionRecordError, match=says) as error:
        load_ledger(place.store())
    assert "reuse_answers=False" in str(error.value)


def test_chunk_with_a_changed_byte_stops_the_task(place: Place) -> None:
    take_over(place, MANY)
    name, data = min(place.chunks.items())
    place.write_chunk(name, data.replace(b"0", b"1", 1))

    with pytest.raises(SubmissionRecordError, match="has other content than was written"):
        load_ledger(place.store())


@pytest.mark.parametrize("name", ["../../requests", "0123456789abcdeg", "", 5])
def test_name_of_a_chunk_is_checked(place: Place, name: Any) -> None:
    head, _ = split(MANY)
    changed = json.loads(head)
    changed["chunks"][0]["name"] = name
    store = place.store()
    claim_ledger(store)
    store.save(json.dumps(changed).encode(), {})

    with pytest.raises(SubmissionRecordError, match="damaged"):
        load_ledger(place.store())


# ---------------------------------------------------------------- owners one after another, and at once


def test_new_owner_reads_the_chunks_of_the_previous_one_and_writes_its_own(place: Place) -> None:
    take_over(place, MANY)
    before = place.chunks
    place.traffic.clear()
    take_over(place, msgspec.structs.replace(MANY, attempt="a2"))

    assert len(place.traffic.writes) == (4 if place.states is None else 3)  # a claim, two chunks, the head
    assert load_ledger(place.store()) == msgspec.structs.replace(MANY, attempt="a2")
    assert sorted(place.chunks.values())[:: 2 if place.states is None else 1] == sorted(before.values())


def test_owner_that_has_read_a_ledger_before_its_claim_only_writes_its_own_chunks(place: Place) -> None:
    take_over(place, MANY)
    store = place.store()
    load_ledger(store)
    claim_ledger(store)
    save_ledger(store, msgspec.structs.replace(MANY, attempt="a2"))

    assert load_ledger(place.store()) == msgspec.structs.replace(MANY, attempt="a2")


def test_successor_reads_every_chunk_although_the_previous_owner_drops_them_meanwhile(tmp_path: Path) -> None:
    place = Place("folder", tmp_path)
    previous = take_over(place, MANY)
    successor = place.store()
    claim_ledger(successor)
    head = successor.load()
    with pytest.raises(SubmissionTakenOverError, match=f"known to it: {part(0).batch_id}"):
        previous.save(MANY.archive_landed())

    assert head is not None
    assert all(successor.load_chunk(ref["name"]) for ref in json.loads(head)["chunks"])


def test_previous_owner_cannot_remove_a_chunk_of_its_successor(place: Place) -> None:
    previous = take_over(place, MANY)
    successor = take_over(place, msgspec.structs.replace(MANY, attempt="a2"))
    with pytest.raises(SubmissionTakenOverError):
        previous.save(MANY.archive_landed())
    with pytest.raises(SubmissionTakenOverError):
        previous.check_ownership()

    successor.check_ownership()
    assert load_ledger(place.store()) == successor.ledger


def test_claim_during_a_save_stops_the_previous_owner_before_it_removes_a_chunk(tmp_path: Path) -> None:
    place = Place("folder", tmp_path)
    previous = take_over(place, MANY)

    def claim(name: str) -> None:
        place.traffic.before_write = lambda name: None
        claim_ledger(place.store())

    place.traffic.before_write = claim
    with pytest.raises(SubmissionTakenOverError):
        previous.save(MANY.archive_landed())
    assert place.traffic.removed == []


def test_claim_after_a_save_reads_the_head_that_needs_no_removed_chunk(tmp_path: Path) -> None:
    place = Place("folder", tmp_path)
    previous = take_over(place, MANY)
    heads = []

    def claim(name: str) -> None:
        place.traffic.before_remove = lambda name: None
        store = place.store()
        claim_ledger(store)
        heads.append(store.load())

    place.traffic.before_remove = claim
    previous.save(MANY.archive_landed())
    assert [json.loads(head or b"").get("chunks") for head in heads] == [None]


# ---------------------------------------------------------------- the task state store


def test_chunks_in_the_state_store_outlive_the_head(tmp_path: Path) -> None:
    place = Place("state", tmp_path)
    take_over(place, MANY)
    assert place.states is not None
    head, *chunks = sorted(place.states.retention)

    assert len(chunks) == 2
    assert place.states.retention[head] == STATE_RETENTION
    assert {place.states.retention[key] for key in chunks} == {CHUNK_RETENTION}
    assert CHUNK_RETENTION >= 2 * STATE_RETENTION


def test_new_owner_removes_the_keys_that_only_the_previous_ledger_named(tmp_path: Path) -> None:
    place = Place("state", tmp_path)
    take_over(place, MANY)
    take_over(place, msgspec.structs.replace(MANY.archive_landed(), attempt="a2"))

    assert place.chunks == {}


def test_ledger_with_chunks_moves_from_the_folder_to_the_state_store(tmp_path: Path) -> None:
    take_over(Place("folder", tmp_path), MANY)
    place = Place("state", tmp_path)

    record = resume(place)
    assert record.ledger == MANY
    record.check_ownership()
    record.save(MANY.with_part(part(41)))
    assert len(place.chunks) == 2
    assert load_ledger(place.store()) == MANY.with_part(part(41))


def test_unclaimed_ledger_of_nobody_is_not_written_to_the_state_store(tmp_path: Path) -> None:
    place = Place("state", tmp_path)
    with pytest.raises(SubmissionTakenOverError):
        save_ledger(place.store(), MANY)
    assert place.states is not None
    assert place.states.values == {}
