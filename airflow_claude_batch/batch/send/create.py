"""Sending what is to be sent, each request under a written intent."""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable, Container, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.rows import FINAL, Status
from airflow_claude_batch.batch.ledger.ledger import AnswerUse, Ledger, Part, new_token
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.recover.decide import create_timeout
from airflow_claude_batch.batch.send.splitting import Slice, split
from airflow_claude_batch.exceptions import APIConnectionError, APIError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: What another round may mend. Canceled ones wait for a later attempt: somebody wanted them stopped.
REPAIRABLE = frozenset({Status.NONE, Status.ERRORED, Status.EXPIRED})


def repairable_statuses(policy: Policy) -> frozenset[Status]:
    """What a repair round asks for."""
    return REPAIRABLE | {Status.REPAIRABLE_OUTPUT} if policy.repair_invalid else REPAIRABLE


def next_slice(ledger: Ledger, requests: RequestFile, statuses: Sequence[int], policy: Policy) -> Slice | None:
    """The requests of the next create call: unanswered, not in flight, not yet sent in this round.

    A piece never spans requests in flight, so that ``first`` and ``last`` of a part tell which requests are its own.
    """
    eligible = repairable_statuses(policy) if ledger.round else REPAIRABLE | {Status.CANCELED}
    sizes = (
        ((index, requests.wire_size(index)) for index in run)
        for run in _runs(statuses, eligible, _taken(ledger, len(requests)), requests.duplicates)
    )
    pieces = (
        piece for run in sizes for piece in split(run, max_requests=policy.max_requests, max_bytes=policy.max_bytes)
    )
    return next(pieces, None)


def send_slice(
    piece: Slice, record: LedgerRecord, requests: RequestFile, client: ClaudeClient, *, clock: Callable[[], datetime]
) -> None:
    """Create one message batch, within its deadline from the moment of its intent: later, others take it for lost.

    :raises APIError: with ``may_have_been_accepted``, the intent stays in the ledger and is to be settled; otherwise
        nothing was sent, and the ledger says so.
    """
    began = clock()
    part = _intend(piece, record, client, clock=clock)
    body = CreateBody(requests, piece.indices, part.token)
    try:
        left = _time_left(part, clock() - began)
        batch = client.create_batch(body, deadline_seconds=left.total_seconds())
    except APIError as error:
        if not error.may_have_been_accepted:
            record.save(record.ledger.without_part(part))
        raise
    record.add_batch(part, batch)


def _intend(piece: Slice, record: LedgerRecord, client: ClaudeClient, *, clock: Callable[[], datetime]) -> Part:
    """Write down what is about to be sent, and the workspace's newest batch at this moment."""
    newest = client.list_batches(limit=1)
    watermark = newest.data[0] if newest.data else None
    part = Part(
        token=new_token(),
        first=piece.first,
        last=piece.last,
        count=len(piece.indices),
        size=piece.size,
        attempt=record.ledger.attempt,
        round=record.ledger.round,
        intended_at=newest.server_time or clock(),
        watermark=watermark.id if watermark else None,
        watermark_at=watermark.created_at if watermark else None,
    )
    record.save(record.ledger.with_part(part))
    return part


def _time_left(part: Part, passed: timedelta) -> timedelta:
    """What is left of the time for a create whose intent is so old.

    :raises APIConnectionError: nothing; it was not sent.
    """
    left = create_timeout(part.size) - passed
    if left <= timedelta():
        raise APIConnectionError(
            f"could not create a message batch: {passed} went by after the intent was written, because this process "
            "stood still or its ledger was slow. Nothing was created."
        )
    return left


def is_in_current_round(part: Part, ledger: Ledger) -> bool:
    """Whether the part was made in the round that is under way."""
    return part.attempt == ledger.attempt and part.round == ledger.round


def _taken(ledger: Ledger, request_count: int) -> bytearray:
    """A mark for every request that is in flight, or was sent in this round already."""
    taken = bytearray(request_count)
    for part in ledger.parts:
        if part.answers == AnswerUse.CURRENT and (is_in_current_round(part, ledger) or not part.landed):
            taken[part.first : part.last + 1] = b"\1" * (part.last + 1 - part.first)
    return taken


def _runs(
    statuses: Sequence[int], eligible: frozenset[Status], taken: bytearray, duplicates: Container[int]
) -> Iterator[array[int]]:
    """Runs of requests to send, broken where one in between is taken."""
    run: array[int] = array("I")
    for index, status in enumerate(statuses):
        if index in duplicates or (status in FINAL and status not in eligible):
            continue
        if taken[index]:
            if run:
                yield run
            run = array("I")
        elif status in eligible:
            run.append(index)
    if run:
        yield run
