"""The row that each request has so far, by its index. Rows come in any order and leave in input order.

Rows that were read now are on the local disk. Those of landed parts stay where they are.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Final, TypeVar

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.disk_sort import DiskSorter
from airflow_claude_batch.batch.land.landed_part import DamagedPartError, LandedPart
from airflow_claude_batch.batch.land.landed_parts import merge_lines
from airflow_claude_batch.batch.land.outcomes import Outcomes
from airflow_claude_batch.batch.land.parse_result import NO_BATCH, ParsedResult
from airflow_claude_batch.batch.land.rows import (
    ANSWERED,
    FINAL,
    NULL,
    PAID,
    RowBody,
    Status,
    body_of_duplicate,
    body_of_line,
    body_with_replaced,
)
from airflow_claude_batch.batch.money.bill import Bill, BillSums
from airflow_claude_batch.batch.money.pricing import PriceTable

_REPAIRABLE: Final = Status.REPAIRABLE_OUTPUT
_T = TypeVar("_T")


class PaidAnswer(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that tell how an answer ended and what was paid for it.

    ``model`` is None if the answer could not be read, and ``batch_id`` if it came from the Messages API.
    """

    batch_id: str | None = None
    model: str | None = None
    _usage: msgspec.Raw = msgspec.field(name="usage", default=NULL)
    stop_reason: str | None = None
    replaced: list[PaidAnswer] = []
    way: str | None = None

    @property
    def usage(self) -> wire.BilledUsage | None:
        """The billed tokens, None if they are in a form that is not known."""
        return wire.decode_usage(self._usage)


class _CustomId(msgspec.Struct, frozen=True, gc=False):
    custom_id: str


class _BatchId(msgspec.Struct, frozen=True, gc=False):
    batch_id: str | None = None
    replaced: list[_BatchId] | None = None


class _AnswerIds(msgspec.Struct, frozen=True, gc=False):
    custom_id: str | None = None
    replaced: list[_AnswerIds] = []


def _custom_ids(body: bytes) -> set[str | None]:
    """Return the custom_ids of the answer in a row, and of those that it has replaced."""
    row = msgspec.json.decode(b"{" + body, type=_AnswerIds)
    return {row.custom_id, *(earlier.custom_id for earlier in row.replaced)}


class RowTable:
    """Keeps the best row of each request, and the bill of all answers. Close it: rows are in a temporary file.

    Memory is 4 bytes a request, and 8 for each row that was read now.

    :param duplicates: requests that were not sent, each with the one whose answer it shares. Their rows are made when
        they are read.

    ``outcomes`` tells how each request has ended, ``statuses`` are those of the outcomes, and ``pending`` tells which
    rows are in no landed part yet.
    """

    def __init__(self, count: int, prices: PriceTable, duplicates: Mapping[int, int]) -> None:
        self.outcomes = Outcomes(count)
        self.statuses = self.outcomes.statuses
        self.bill = Bill(prices)
        self.pending = bytearray(count)
        self._duplicates = duplicates
        self._bodies = DiskSorter()
        self._parts: list[LandedPart] = []
        self._landed_sums = BillSums()

    def close(self) -> None:
        """Remove the rows from the disk."""
        self._bodies.close()
        for part in self._parts:
            part.close()

    def add_part(self, part: LandedPart) -> None:
        """Take over the rows of a landed part. They come after those of earlier ones, and before those of results."""
        self._parts.append(part)
        self.outcomes.add(part.first, part.statuses, dict(part.content.outcomes), part.details)
        self.bill.add_sums(part.content.bill)
        self._landed_sums = self.bill.sums()

    @property
    def part_names(self) -> list[str]:
        """The landed parts that these rows are in, in order."""
        return [part.name for part in self._parts]

    def land_pending(self, part: LandedPart) -> None:
        """Forget the rows that were read now. They are in this part."""
        self._parts.append(part)
        self._landed_sums = self.bill.sums()
        self.pending = bytearray(len(self.pending))
        self._bodies.close()
        self._bodies = DiskSorter()

    def pending_sums(self) -> BillSums:
        """Return the bill of the answers that are in no landed part yet."""
        return self.bill.sums(since=self._landed_sums)

    def keep(self, index: int, batch_id: str, parsed: ParsedResult) -> None:
        """Keep a result as the row of its request, unless the request has a better one.

        An answer is better than none, and the first of two stays. An invalid answer is replaced by a valid one of
        another batch, or by any if it may be repaired. The new row names the old one: both were paid for. The same
        batch may be read again: nothing counts twice.

        :raises ResultsError: the local disk refuses.
        """
        body, charge = parsed.body, parsed.charge
        if held := self.statuses[index]:
            if not self._is_better(index, held, parsed, batch_id):
                return
            if held in PAID and self._is_same_answer(index, batch_id):
                self.bill.unreadable_answers -= 1
            elif held in PAID:
                body = body_with_replaced(body, self.body(index))
            elif held == Status.REUSED:
                self.bill.reused = self.bill.reused.without_answer(self._first_usd(index))
        self._bodies.put(index, body)
        self.pending[index] = True
        why = "" if charge is None and parsed.reused_from is None else parsed.stop_reason or "none"
        self.outcomes.set(index, parsed.status, parsed.model, why)
        if charge is not None and parsed.is_direct:
            self.bill.add_direct(charge)
        elif charge is not None:
            self.bill.add_charge(charge)
        elif parsed.reused_from is not None:
            self.bill.reused = self.bill.reused.with_answer(parsed.reused_from.cost_usd, parsed.reused_from.answered_at)
        elif parsed.is_unreadable:
            self.bill.unreadable_answers += 1

    def add_second(self, index: int, custom_id: str, parsed: ParsedResult) -> None:
        """Add another answer to an answered request: both were paid for. Nothing happens if the row has it already."""
        body = self.body(index)
        if custom_id in _custom_ids(body):
            return
        self._bodies.put(index, body_with_replaced(body, parsed.body))
        self.pending[index] = True
        if parsed.charge is not None:
            self.bill.add_direct(parsed.charge)
        elif parsed.is_unreadable:
            self.bill.unreadable_answers += 1

    def note_reason(self, index: int, reason: str) -> None:
        """Say in the row of a request without an answer why there is none. A request without a row gets one.

        :param reason: sentences.
        """
        row = RowBody.decode(self.body(index)) if self.statuses[index] else RowBody(status=Status.CANCELED.word)
        known = (row.error or {}).get("message", "")
        error = {"type": row.status, **(row.error or {}), "message": f"{known} {reason}".strip()}
        body = msgspec.structs.replace(row, error=error).encode()
        self._bodies.put(index, body)
        self.pending[index] = True
        if not self.statuses[index]:
            self.outcomes.set(index, Status.CANCELED, None, "")

    def _first_usd(self, index: int) -> str | None:
        """Return what the reused answer of a request cost first."""
        reused_from = RowBody.decode(self.body(index)).reused_from
        return reused_from.cost_usd if reused_from else None

    def _is_better(self, index: int, held: int, parsed: ParsedResult, batch_id: str) -> bool:
        """Tell whether a result takes the place of the row that its request has."""
        if parsed.status not in PAID:
            return held not in FINAL
        if held not in PAID:
            return True
        if held in ANSWERED or (held != _REPAIRABLE and parsed.status not in ANSWERED):
            return False
        # The row of an answer that could not be read is replaced by that answer, once it can be.
        return self._is_same_answer(index, batch_id) or batch_id not in self._paid_batch_ids(index)

    def is_unreadable(self, index: int) -> bool:
        """Tell whether the row of a request stands for an answer that could not be read."""
        return self.statuses[index] == Status.INVALID_OUTPUT and self.answer(index).model is None

    def _is_same_answer(self, index: int, batch_id: str) -> bool:
        """Tell whether the row of a request stands for an answer of this batch that could not be read."""
        answer = self.answer(index)
        return (answer.batch_id or NO_BATCH) == batch_id and answer.model is None

    def copy_to_duplicates(self) -> None:
        """Give each duplicate the outcome of the request whose answer it shares, if that was read now."""
        for duplicate, first in self._duplicates.items():
            if self.pending[first]:
                self.pending[duplicate] = True
                self.outcomes.set(duplicate, *self.outcomes[first])

    def body(self, index: int) -> bytes:
        """Return the row body of one request, empty if there is none."""
        if self.pending[index]:
            return self._bodies.get(index)
        part = self._part_of(index)
        return b"" if part is None else self._landed_body(index, part.line(index))

    def _part_of(self, index: int) -> LandedPart | None:
        return next((part for part in reversed(self._parts) if part.has(index)), None)

    def _landed_body(self, index: int, line: bytes) -> bytes:
        try:
            return body_of_line(line)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._damaged(index, error) from error

    def _decode(self, index: int, body: bytes, type_: type[_T]) -> _T:
        try:
            return msgspec.json.decode(b"{" + body, type=type_)
        except (msgspec.MsgspecError, ValueError) as error:
            raise self._damaged(index, error) from error

    def _damaged(self, index: int, error: Exception) -> Exception:
        """Return the error of a row that is not as it was written. Its checksum is known for the whole part only."""
        part = None if self.pending[index] else self._part_of(index)
        return error if part is None else DamagedPartError(part, error)

    def landed_lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield the rows of landed parts that were not replaced now, with the indices of their requests, in order."""
        return merge_lines(self._parts, self.pending)

    def pending_bodies(self) -> Iterator[tuple[int, bytes]]:
        """Yield the bodies of the rows that were read now, with the indices of their requests, in order."""
        copies = (
            (index, body_of_duplicate(self._bodies.get(first)))
            for index, first in self._duplicates.items()
            if self.pending[first]
        )
        return heapq.merge(self._bodies, copies, key=itemgetter(0)) if self._duplicates else iter(self._bodies)

    def answered_bodies(self) -> Iterator[tuple[int, bytes]]:
        """Yield the row body of each valid answer of this submission, with its index. Slow: it reads every row."""
        for index, body in self._sent_bodies():
            if self.statuses[index] == Status.SUCCEEDED:
                yield index, body

    def _sent_bodies(self) -> Iterator[tuple[int, bytes]]:
        """Yield the row body of each request that was sent and has one, with its index. It reads every row."""
        for index, line in self.landed_lines():
            if index not in self._duplicates:
                yield index, self._landed_body(index, line)
        yield from self._bodies

    def answer(self, index: int) -> PaidAnswer:
        """Return how the answer of a row ended, and what was paid for it. There must be a row of a result."""
        return self._decode(index, self.body(index), PaidAnswer)

    def custom_id(self, index: int) -> str:
        """Return the custom_id of the result that a request's row was made of. There must be one."""
        return self._decode(index, self.body(index), _CustomId).custom_id

    def answers_by_batch(self) -> Counter[str]:
        """Count the answers of each batch that are in the rows. Slow: it reads every row."""
        kept = Counter[str]()
        for index, body in self._sent_bodies():
            if self.statuses[index] in PAID:
                answer = self._decode(index, body, PaidAnswer)
                ids = (answer.batch_id, *(before.batch_id for before in answer.replaced))
                kept.update(batch_id for batch_id in ids if batch_id is not None)
        return kept

    def count_of_batch(self, batch_id: str) -> tuple[int, int]:
        """Count the rows that came from a batch, and how many of them are answers. Slow: it reads every row."""
        rows = answers = 0
        for index, body in self._sent_bodies():
            if self.statuses[index] == Status.REUSED:
                continue
            row = self._decode(index, body, _BatchId)
            replaced = any(earlier.batch_id == batch_id for earlier in row.replaced or ())
            if row.batch_id == batch_id or replaced:
                rows += 1
                answers += replaced or self.statuses[index] in PAID
        return rows, answers

    def _paid_batch_ids(self, index: int) -> set[str]:
        """Return the batches that have answered a request so far."""
        answer = self.answer(index)
        return {each.batch_id or NO_BATCH for each in (answer, *answer.replaced)}
