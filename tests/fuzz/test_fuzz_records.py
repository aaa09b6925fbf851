"""Damage the files in a submission's folder: a damaged file never counts as empty or as other content."""

from __future__ import annotations

import contextlib
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from fsspec.implementations.memory import MemoryFileSystem
from fuzzing import damaged, fuzzed, json_values, mutated
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.attempt import Attempt
from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.custom_id import content_hash
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.output_schema import SCHEMA_FILE, read_schema, write_schema
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, load_manifest, read_manifest
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.record import claim_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, StateLedgerStore
from airflow_claude_batch.batch.start import begin_attempt, resume_attempt
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder
from airflow_claude_batch.exceptions import SubmissionRecordError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
TOKEN = "0123456789ab"


@contextlib.contextmanager
def folders(kind: str) -> Any:
    with tempfile.TemporaryDirectory() as path:
        if kind == "disk":
            yield LocalFolder(Path(path))
        else:
            yield ObjectFolder(MemoryFileSystem(), f"{path}/submission", uri=f"memory:/{path}/submission")


# ---------------------------------------------------------------- the requests


def written(count: int = 4) -> bytes:
    requests = [
        Request(index, f"k{index}", {"content": f"content {index} \u2028", "max_tokens": 10 + index})
        for index in range(count)
    ]
    with tempfile.NamedTemporaryFile() as file:
        write_requests([*requests, Request(count, "duplicate", requests[0].params)], file, deduplicate=True)
        file.seek(0)
        return file.read()


WRITTEN = written()


@fuzzed
@given(data=st.data())
def test_damaged_requests_are_refused_and_never_sent_changed(data: st.DataObject) -> None:
    content = data.draw(st.binary(max_size=200)) if data.draw(st.booleans()) else damaged(WRITTEN, data.draw)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        try:
            requests = RequestFile(Path(file.name))
        except SubmissionRecordError:
            return
        with requests:
            sent = json.loads(b"".join(CreateBody(requests, _sendable(requests), TOKEN).chunks()))["requests"]
            for index, request in zip(_sendable(requests), sent, strict=True):
                assert requests.hash(index) == content_hash(requests.params(index))
                assert request["custom_id"] == requests.custom_id(index, TOKEN)
                json.loads(requests.key(index))


def _sendable(requests: RequestFile) -> list[int]:
    return [index for index in range(len(requests)) if index not in requests.duplicates]


@fuzzed
@given(data=st.data())
def test_resuming_with_damaged_requests_is_refused_or_reads_the_input_again(data: st.DataObject) -> None:
    with folders("disk") as folder, tempfile.TemporaryDirectory() as scratch:
        attempt = Attempt(submission_id="s", try_number=1, generation=0, now=NOW)
        record, requests = begin_attempt(
            FolderLedgerStore(folder),
            folder,
            attempt,
            lambda file, index: file.write(WRITTEN),
            Path(scratch),
            reuse_answers=True,
        )
        requests.close()
        storage.write(folder, "requests.jsonl", damaged(WRITTEN, data.draw))
        try:
            resumed = resume_attempt(FolderLedgerStore(folder), folder, attempt, Path(scratch))
        except SubmissionRecordError:
            return
        if resumed is not None:
            with resumed[1]:
                assert resumed[1].digest == record.ledger.input_digest
                assert [resumed[1].params(index) for index in _sendable(resumed[1])] == [
                    msgspec.json.encode(json.loads(line)["params"])
                    for line in WRITTEN.split(b"\n")
                    if line and b"null" not in line
                ]


# ---------------------------------------------------------------- the ledger


def part(token: str, **fields: Any) -> Part:
    values = {"first": 0, "last": 9, "count": 10, "size": 1000, "attempt": "a1", "round": 0, "intended_at": NOW}
    return Part(token=token, **values | fields)


LEDGER = Ledger(
    submission_id="s",
    input_digest="d",
    attempt="a1",
    attempt_began_at=NOW,
    parts=(
        part("t1", watermark="msgbatch_0", watermark_at=NOW),
        part("t2", first=10, last=19, batch_id="msgbatch_2", created_at=NOW, expires_at=NOW),
        part("t3", first=20, last=29, batch_id="msgbatch_3", landed=True),
    ),
    archived_batch_ids=("msgbatch_4",),
    dropped=("msgbatch_5",),
    created_at=NOW,
    estimate={"requests": 30, "usd": {"expected": "1", "upper": "2"}},
)
LEDGER_BYTES = msgspec.json.encode(LEDGER)
#: Fields that protect against paying twice.
PRECIOUS = ("submission_id", "input_digest", "attempt")

ledger_bytes = st.one_of(
    st.binary(max_size=100),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"null", b"{}", b'{"version":2}', b'{"version":null}', b"[" * 5000, b'{"version":1}\n{}']),
)


def any_ledger(data: st.DataObject) -> bytes:
    match data.draw(st.sampled_from(["bytes", "damaged", "mutated"])):
        case "bytes":
            return data.draw(ledger_bytes)
        case "damaged":
            return damaged(LEDGER_BYTES, data.draw)
    return json.dumps(mutated(json.loads(LEDGER_BYTES), data.draw)).encode()


def check_usable(known: Ledger) -> None:
    """Check that an accepted ledger can be used without an error."""
    for batch_id in known.batch_ids:
        check_batch_id(batch_id)
    for each in known.parts:
        assert 0 <= each.first <= each.last
        assert 0 <= each.count <= each.last - each.first + 1
        assert each.intended_at - timedelta(days=365) < each.intended_at + timedelta(days=365)
    for at in (known.attempt_began_at, known.created_at, known.ended_at):
        assert at is None or at < NOW or at >= NOW


@fuzzed
@given(data=st.data(), kind=st.sampled_from(["disk", "object store"]))
def test_ledger_in_a_folder_is_refused_or_usable_and_never_none(data: st.DataObject, kind: str) -> None:
    content = any_ledger(data)
    with folders(kind) as folder:
        store = FolderLedgerStore(folder)
        claim_ledger(store)
        store.save(content, {})
        try:
            known = load_ledger(FolderLedgerStore(folder))
        except SubmissionRecordError as error:
            assert "othing was sent" in str(error)
            return
        if content == b'{"claim":true}':
            return
        assert known is not None
        check_usable(known)


class StateStore:
    """Airflow's task state store, with the method that is used."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def get(self, key: str) -> Any:
        return self.value


@fuzzed
@given(data=st.data())
def test_ledger_in_the_state_store_is_refused_or_usable_and_never_none(data: st.DataObject) -> None:
    value = data.draw(json_values) if data.draw(st.booleans()) else mutated(json.loads(LEDGER_BYTES), data.draw)
    if value is None:
        return  # the store's response when it has no value
    with folders("disk") as folder:
        try:
            known = load_ledger(StateLedgerStore(StateStore(value), folder))
        except SubmissionRecordError as error:
            assert "othing was sent" in str(error)
            return
        assert known is not None
        check_usable(known)


@fuzzed
@given(data=st.data())
def test_attempt_keeps_every_batch_of_any_ledger_or_is_refused(data: st.DataObject) -> None:
    content = any_ledger(data)
    if content == b'{"claim":true}':
        return
    with folders("disk") as folder, tempfile.TemporaryDirectory() as scratch:
        store = FolderLedgerStore(folder)
        claim_ledger(store)
        store.save(content, {})
        attempt = Attempt(submission_id="s", try_number=2, generation=0, now=NOW)
        try:
            record, requests = begin_attempt(
                FolderLedgerStore(folder),
                folder,
                attempt,
                lambda file, index: file.write(WRITTEN),
                Path(scratch),
                reuse_answers=True,
            )
        except SubmissionRecordError:
            return
        requests.close()
        assert set(msgspec.json.decode(content, type=Ledger).batch_ids) <= set(record.ledger.batch_ids)


# ---------------------------------------------------------------- the rest of the folder


@fuzzed
@given(data=st.data())
def test_output_schema_that_is_damaged_is_refused_or_validates(data: st.DataObject) -> None:
    with folders("disk") as folder:
        write_schema(folder, read_schema({"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}}))
        good = storage.read(folder, SCHEMA_FILE) or b""
        storage.write(folder, SCHEMA_FILE, damaged(good, data.draw))
        try:
            validator = OutputValidator.of(folder)
        except SubmissionRecordError:
            return
        assert validator is not None
        value, error = validator.read(data.draw(json_values.map(json.dumps)), "end_turn")
        assert error is None or value is None
        json.dumps(error)


MANIFEST = {
    "submission_id": "s",
    "status": "in_progress",
    "batch_ids": ["msgbatch_1"],
    "request_count": 3,
    "counts": {"succeeded": 2, "errored": 0, "expired": 0, "canceled": 0, "missing": 1, "invalid_output": 0},
    "results_path": "/tmp/results.jsonl",
    "landed_batch_ids": ["msgbatch_1"],
    "usage": {"input_tokens": 1},
    "cost": {"usd": "1", "estimated_usd": None},
    "estimate": {"requests": 3, "usd": {"expected": "1", "upper": "2"}},
    "created_at": "2026-11-22T09:00:00Z",
    "ended_at": None,
    "schema_version": 1,
}


@fuzzed
@given(data=st.data())
def test_manifest_that_is_damaged_is_refused_or_usable(data: st.DataObject) -> None:
    content = (
        damaged(json.dumps(MANIFEST).encode(), data.draw)
        if data.draw(st.booleans())
        else data.draw(st.binary() | st.just(b'{"x":' * 5000))
    )
    with folders("disk") as folder:
        storage.write(folder, MANIFEST_FILE, content)
        try:
            known = load_manifest(folder)
        except SubmissionRecordError:
            return
        assert known is not None
        for at in (known.created_at, known.ended_at):
            assert at is None or at <= NOW or at > NOW
        json.dumps(known.to_xcom())


def test_newer_manifest_is_read(tmp_path: Path) -> None:
    folder: Folder = LocalFolder(tmp_path)
    storage.write(folder, MANIFEST_FILE, json.dumps({**MANIFEST, "schema_version": 2, "news": [1]}).encode())

    known = load_manifest(folder)
    assert known is not None
    assert known.request_count == 3


@fuzzed
@given(data=st.data())
def test_any_mapping_from_xcom_is_a_manifest_or_is_refused(data: st.DataObject) -> None:
    value = mutated(MANIFEST, data.draw)
    if not isinstance(value, dict):
        return
    try:
        known = read_manifest(value)
    except ValueError as error:
        assert str(error).startswith("This is not a manifest")
        return
    for at in (known.created_at, known.ended_at):
        assert at is None or at <= NOW or at > NOW
