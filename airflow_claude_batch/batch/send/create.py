"""Create message batches, each under an intent that was written first.

Invariant: intent before money. The ledger holds the part and the watermark before the create call leaves, and the batch
id before anything else happens after the response. A create call without a response leaves its intent in the ledger, so
that nothing is sent again before ``recover`` has found out what happened.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import compress
from typing import TYPE_CHECKING, Final

import msgspec

from airflow_claude_batch.api.limits import DEFAULT_LIST_LIMIT
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.rows import FINAL, Status, indices_where
from airflow_claude_batch.batch.ledger.ledger import Ledger, new_token
from airflow_claude_batch.batch.ledger.part import AnswerUse, Part
from airflow_claude_batch.batch.ledger.record import LedgerRecord
from airflow_claude_batch.batch.policy import LOST_CREATE_GRACE, Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.recover.decide import create_timeout, oldest_creation, possible_batches
from airflow_claude_batch.batch.recover.resolve import LIST
from airflow_claude_batch.batch.recover.search import list_batches_since
from airflow_claude_batch.batch.send.splitting import Slice, split
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    MalformedResponseError,
    OverloadedError,
    RateLimitError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: In an empty workspace only clocks tell what is old. A batch that claims to be a day older than the call is.
MAX_CLOCK_ERROR = timedelta(days=1)

#: Statuses that a repair round sends again. Canceled requests wait for a later attempt: somebody wanted them stopped.
REPAIRABLE = frozenset({Status.NONE, Status.ERRORED, Status.EXPIRED})

#: Statuses of requests without an answer that the first round of an attempt sends.
_ASKABLE: Final = REPAIRABLE | {Status.CANCELED}

#: Marks of requests: to send, and sent in an open part or in this round.
_SEND: Final = 1
_SENT: Final = 2


def repairable_statuses(policy: Policy) -> frozenset[Status]:
    """Return the statuses that a repair round sends again."""
    return REPAIRABLE | {Status.REPAIRABLE_OUTPUT} if policy.repair_invalid else REPAIRABLE


def next_slice(ledger: Ledger, requests: RequestFile, statuses: bytes | bytearray, policy: Policy) -> Slice | None:
    """Return the requests of the next create call, None if the round has no more.

    They are unanswered, in no open batch, and not yet sent in this round. A slice never spans requests of another part.
    So ``first`` and ``last`` of a part tell which requests are its own, except those of a sample, which has a list.

    :param statuses: status of every request, by index.
    """
    return first_slice(_first_run(_mark_runs(ledger, requests, statuses, policy)), requests, policy)


def unsent_requests(
    ledger: Ledger, requests: RequestFile, statuses: bytes | bytearray, policy: Policy
) -> Iterator[int]:
    """Iterate over the requests that the round has still to send, in order."""
    return indices_where(_mark_runs(ledger, requests, statuses, policy), {_SEND})


def directly_askable(
    ledger: Ledger, requests: RequestFile, statuses: bytes | bytearray, policy: Policy
) -> Iterator[int]:
    """Iterate over the requests that may be asked through the Messages API, in order.

    They have no answer for good: canceled, expired, failed by the API, or never sent. A request of a batch that may
    still answer it is not among them, because it could be paid for twice. Nor is one that was sent and got no row.
    """
    if any(part.answers == AnswerUse.PREVIOUS_INPUT for part in ledger.parts if not part.landed):
        return iter(())
    open_parts = [part for part in ledger.parts if part.answers == AnswerUse.CURRENT and not part.landed]
    return indices_where(_marks(ledger, requests, statuses, policy, _ASKABLE, open_parts), {_SEND})


def first_slice(
    indices: Iterable[int], requests: RequestFile, policy: Policy, *, is_sample: bool = False
) -> Slice | None:
    """Return as many of these requests as one create call carries, None if there are none.

    :param indices: ascending.
    """
    sizes = ((index, requests.wire_size(index)) for index in indices)
    found = next(split(sizes, max_requests=policy.max_requests, max_bytes=policy.max_bytes), None)
    return found and replace(found, is_sample=is_sample)


def send_slice(
    request_slice: Slice,
    record: LedgerRecord,
    requests: RequestFile,
    client: ClaudeClient,
    *,
    clock: Callable[[], datetime],
    grace: timedelta = LOST_CREATE_GRACE,
) -> None:
    """Create one message batch, and record its intent before and its id after the call.

    The call is aborted ``create_timeout`` after its intent. Recovery counts a later arrival as not accepted.

    :param grace: time in which the batch of a call without a response may still appear.
    :raises APIError: if ``may_have_been_accepted``, the intent stays in the ledger and must be resolved. It also stays
        if the API refused the call for now: a look at the listing is cheap. Otherwise nothing was accepted, and the
        intent is removed.
    :raises SubmissionRecordError: a request is damaged. Nothing was sent.
    :raises ResultsError: the requests cannot be read now. Nothing was sent.
    """
    requests.verify(request_slice.indices)
    began = clock()
    part = _write_intent(request_slice, record, client, clock=clock)
    body = CreateBody(requests, request_slice.indices, part.token)
    try:
        time_left = _time_left(part, clock() - began)
        batch = client.create_batch(
            body,
            deadline_seconds=time_left.total_seconds(),
            may_send_again=lambda: not _may_exist(part, record, client, clock=clock, grace=grace),
        )
    except (RateLimitError, OverloadedError) as error:
        if not error.may_have_been_accepted:
            record.save(record.ledger.with_part(msgspec.structs.replace(part, refused=True)))
        raise
    except APIError as error:
        if not error.may_have_been_accepted:
            record.save(record.ledger.without_part(part))
        raise
    _check_created(batch, part, record)
    record.add_batch(part, batch)
    expiry = f", which expires at {batch.expires_at:%Y-%m-%d %H:%M:%S %Z}" if batch.expires_at else ""
    log.info("Sent %s as message batch %s%s.", quantity(part.count, "request"), batch.id, expiry)


def _write_intent(
    request_slice: Slice, record: LedgerRecord, client: ClaudeClient, *, clock: Callable[[], datetime]
) -> Part:
    """Record what is about to be sent, and the newest batches of the workspace at this moment."""
    # Several, so that an odd one does not matter: an older watermark only makes a search longer.
    newest = client.list_batches(limit=DEFAULT_LIST_LIMIT)
    now = clock()
    watermark = newest.data[0] if newest.data else None
    part = Part(
        token=new_token(),
        first=request_slice.first,
        last=request_slice.last,
        count=len(request_slice.indices),
        size=request_slice.size,
        attempt=record.ledger.attempt,
        round=record.ledger.round,
        intended_at=newest.server_time or now,
        intended_at_worker=now if newest.server_time else None,
        watermark=watermark.id if watermark else None,
        watermark_at=watermark.created_at if watermark else None,
        listed_before=_listed_before(newest.data),
        unreadable_before=newest.unreadable,
        sample=tuple(request_slice.indices) if request_slice.is_sample else (),
    )
    record.save(record.ledger.without_repeated(LIST).with_part(part))
    return part


def _listed_before(newest: Sequence[MessageBatch]) -> tuple[str, ...]:
    """Return the batches that a search for a newer one would see too, because their creation times are so near."""
    return tuple(batch.id for batch in newest[1:] if batch.created_at >= oldest_creation(newest[0].created_at))


def _may_exist(
    part: Part, record: LedgerRecord, client: ClaudeClient, *, clock: Callable[[], datetime], grace: timedelta
) -> bool:
    """Return whether a batch is listed that may be the part's, or the listing cannot be read."""
    try:
        listing = list_batches_since(client, part, clock=clock)
    except APIError:
        return True
    known = record.ledger.batch_ids
    return bool(possible_batches(part, listing.batches, known=known, now=listing.now, grace=grace))


def _check_created(batch: MessageBatch, part: Part, record: LedgerRecord) -> None:
    """Check that a response to the create call names a batch that certainly is the part's.

    :raises MalformedResponseError: it may name another one, so the part's own must be searched for. A new one with odd
        numbers is recorded as a candidate.
    """
    existed = batch.id in record.ledger.batch_ids or batch.id in (part.watermark, *part.listed_before)
    if existed:
        problem = "which existed before the call"
    elif batch.request_counts.total != part.count:
        problem = f"which has {quantity(batch.request_counts.total, 'request')} instead of {part.count}"
    elif batch.created_at < _earliest_creation(part):
        problem = f"which was created at {batch.created_at:%Y-%m-%d %H:%M:%S} UTC, before the call"
    else:
        return
    if not existed:
        record.save(
            record.ledger.with_part(msgspec.structs.replace(part, candidates=(batch.id,), odd_candidates=(batch.id,)))
        )
    raise MalformedResponseError(
        f"The response to a create call names message batch {batch.id}, {problem}.",
        "The message batch of the call may have been created, and is then billed: it is looked for.",
        "Check what proxies or gateways on the way to the API do to POST requests.",
        may_have_been_accepted=True,
    )


def _earliest_creation(part: Part) -> datetime:
    """Return how early the part's batch may claim to be created."""
    if part.watermark_at is not None:
        return oldest_creation(part.watermark_at)
    return min(part.intended_at, part.intended_at_worker or part.intended_at) - MAX_CLOCK_ERROR


def _time_left(part: Part, elapsed: timedelta) -> timedelta:
    """Return how long the create call of an intent may still take.

    :raises APIConnectionError: no time is left. Nothing was sent.
    """
    time_left = create_timeout(part.size) - elapsed
    if time_left <= timedelta():
        raise APIConnectionError(
            f"A message batch could not be created within {create_timeout(part.size)} of its ledger entry.",
            "Nothing was sent.",
            f"{elapsed} passed first, because this process was suspended or the ledger's storage is slow.",
        )
    return time_left


def is_in_current_round(part: Part, ledger: Ledger) -> bool:
    """Return whether the part was made in the current round of this attempt."""
    return part.attempt == ledger.attempt and part.round == ledger.round


def _mark_runs(ledger: Ledger, requests: RequestFile, statuses: bytes | bytearray, policy: Policy) -> bytes:
    """Return one byte a request: ``_SEND`` to send it, ``_SENT`` if it ends a run, 0 if it is nothing of both.

    Sent are the requests in an open part, and those that were sent in this round. Nor is a request sent again that was
    sent and got no row, unless the author agreed that it may be paid twice.
    """
    eligible = repairable_statuses(policy) if ledger.round else _ASKABLE
    return _marks(ledger, requests, statuses, policy, eligible, _sent_parts(ledger))


def _marks(
    ledger: Ledger,
    requests: RequestFile,
    statuses: bytes | bytearray,
    policy: Policy,
    eligible: frozenset[Status],
    sent_parts: Iterable[Part],
) -> bytes:
    """Mark the requests with an eligible status, but not those of these parts, nor those that got no row."""
    unanswered = frozenset(Status) - FINAL | eligible
    marks = bytearray(statuses.translate(_table(dict.fromkeys(eligible, _SEND))))
    sent = _table(dict.fromkeys(unanswered, _SENT))
    missing = _table({**dict.fromkeys(eligible, _SEND), Status.NONE: _SENT})
    for table, parts in ((missing, _parts_with_missing(ledger, policy)), (sent, sent_parts)):
        for part in parts:
            if part.sample:
                for index in part.sample:
                    marks[index] = table[statuses[index]]
            else:
                marks[part.first : part.last + 1] = statuses[part.first : part.last + 1].translate(table)
    return requests.without_duplicates(marks)


def _sent_parts(ledger: Ledger) -> Iterator[Part]:
    """Yield the parts that are open or were made in this round."""
    for part in ledger.parts:
        if part.answers == AnswerUse.CURRENT and (is_in_current_round(part, ledger) or not part.landed):
            yield part


def _parts_with_missing(ledger: Ledger, policy: Policy) -> Iterator[Part]:
    """Yield the landed parts whose requests without a row must not be sent again."""
    for part in ledger.parts if policy.on_lost == "stop" else ():
        if part.answers == AnswerUse.CURRENT and part.landed and part.missing:
            yield part


def _table(marks: Mapping[Status, int]) -> bytes:
    """Return a table for ``bytes.translate`` that gives statuses these marks, and 0 to all others."""
    table = bytearray(256)
    for status, mark in marks.items():
        table[status] = mark
    return bytes(table)


def _first_run(marks: bytes) -> Iterator[int]:
    """Iterate over the requests to send up to one that was sent."""
    start = marks.find(_SEND)
    if start < 0:
        return iter(())
    end = marks.find(_SENT, start)
    end = len(marks) if end < 0 else end
    return compress(range(start, end), memoryview(marks)[start:end])
