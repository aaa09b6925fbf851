"""The requests of the next create call, compared with a loop over all of them."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import create_request_file, write_requests
from airflow_claude_batch.batch.land.rows import FINAL, Status
from airflow_claude_batch.batch.ledger.ledger import VERSION, Ledger
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.send.create import REPAIRABLE, next_slice, repairable_statuses

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def expected(ledger: Ledger, requests: RequestFile, statuses: bytes, policy: Policy) -> list[int] | None:
    """Return the next requests in the plainest way, one request after the other."""
    eligible = repairable_statuses(policy) if ledger.round else REPAIRABLE | {Status.CANCELED}
    sent = bytearray(len(statuses))
    for part in ledger.parts:
        if part.answers != AnswerUse.CURRENT:
            continue
        for index in range(part.first, part.last + 1):
            if (part.attempt, part.round) == (ledger.attempt, ledger.round) or not part.landed:
                sent[index] = 1
            elif part.missing and policy.on_lost == "stop":
                sent[index] |= statuses[index] == Status.NONE
    for run in runs(statuses, eligible, sent, requests):
        size, found = 15, list[int]()
        for index in run:
            if found and (len(found) == policy.max_requests or size + requests.wire_size(index) > policy.max_bytes):
                break
            found.append(index)
            size += requests.wire_size(index)
        return found
    return None


def runs(statuses: bytes, eligible: frozenset[Status], sent: bytearray, requests: RequestFile) -> Iterator[array[int]]:
    run: array[int] = array("I")
    for index, status in enumerate(statuses):
        if index in requests.duplicates or (status in FINAL and status not in eligible):
            continue
        if sent[index]:
            if run:
                yield run
            run = array("I")
        elif status in eligible:
            run.append(index)
    if run:
        yield run


@st.composite
def parts(draw: st.DrawFn, count: int) -> Part:
    first, last = sorted((draw(st.integers(0, count - 1)), draw(st.integers(0, count - 1))))
    values: dict[str, Any] = {
        "attempt": draw(st.sampled_from("ab")),
        "round": draw(st.integers(0, 1)),
        "landed": draw(st.booleans()),
        "missing": draw(st.integers(0, 1)),
        "answers": draw(st.sampled_from([AnswerUse.CURRENT, AnswerUse.CURRENT, AnswerUse.DISCARD])),
    }
    return Part(token="t", first=first, last=last, count=1, size=1, intended_at=NOW, **values)


def ledger_of(*parts: Part, round_: int = 0) -> Ledger:
    return Ledger(
        version=VERSION,
        submission_id="s",
        input_digest="d",
        attempt="a",
        attempt_began_at=NOW,
        try_number=1,
        generation=0,
        round=round_,
        parts=parts,
    )


@contextmanager
def requests_with(contents: list[int], *, deduplicate: bool = False) -> Iterator[RequestFile]:
    with tempfile.TemporaryDirectory() as path:
        requests = create_request_file(
            Path(path, "requests.jsonl"),
            lambda file, index: write_requests(
                (Request(n, n, {"content": content}) for n, content in enumerate(contents)),
                file,
                index,
                deduplicate=deduplicate,
            ),
        )
        with requests:
            yield requests


@pytest.mark.parametrize(
    ("status", "first"),
    [(Status.NONE, [0]), (Status.ERRORED, [0]), (Status.CANCELED, [0]), (Status.SUCCEEDED, [0, 2])],
)
def test_a_request_that_is_in_another_batch_ends_the_slice_unless_it_is_answered(
    status: Status, first: list[int]
) -> None:
    part = Part(token="t", first=1, last=1, count=1, size=1, attempt="a", round=0, intended_at=NOW)
    with requests_with([0, 1, 2]) as requests:
        found = next_slice(ledger_of(part, round_=1), requests, bytes([0, status, 0]), Policy())
    assert found is not None
    assert list(found.indices) == first


@given(data=st.data())
def test_the_next_requests_are_those_that_a_loop_finds(data: st.DataObject) -> None:
    contents = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=30))
    count = len(contents)
    originals = {index: contents.index(content) for index, content in enumerate(contents)}
    statuses = bytearray(data.draw(st.lists(st.sampled_from(Status), min_size=count, max_size=count)))
    ledger = ledger_of(*data.draw(st.lists(parts(count), max_size=4)), round_=data.draw(st.integers(0, 1)))
    policy = Policy(
        max_requests=data.draw(st.integers(1, 6)),
        max_bytes=data.draw(st.integers(100, 1000)),
        on_lost=data.draw(st.sampled_from(["stop", "resend"])),
        repair_invalid=data.draw(st.booleans()),
    )
    with requests_with(contents, deduplicate=data.draw(st.booleans())) as requests:
        assert requests.duplicates.items() <= originals.items()
        found = next_slice(ledger, requests, statuses, policy)
        assert (None if found is None else list(found.indices)) == expected(ledger, requests, statuses, policy)
