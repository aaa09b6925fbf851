"""The row that each request has so far, by its index. Rows come in any order and leave in input order.

Memory is 13 bytes a request. The rows themselves are on the local disk.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.disk_sort import DiskSorter
from airflow_claude_batch.batch.land.parse_result import ParsedResult
from airflow_claude_batch.batch.land.rows import ANSWERED, FINAL, NULL, PAID, Status, body_with_replaced
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable

_REPAIRABLE: Final = Status.REPAIRABLE_OUTPUT
#: A stop reason is a byte in memory. The API has seven.
_MOST_STOP_REASONS: Final = 254


class PaidAnswer(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that tell how an answer ended and what was paid for it.

    ``model`` is None if the answer could not be read.
    """

    batch_id: str
    model: str | None = None
    _usage: msgspec.Raw = msgspec.field(name="usage", default=NULL)
    stop_reason: str | None = None
    replaced: list[PaidAnswer] = []

    @property
    def usage(self) -> wire.BilledUsage | None:
        """The billed tokens, None if they are in a form that is not known."""
        return wire.decode_usage(self._usage)


class _CustomId(msgspec.Struct, frozen=True, gc=False):
    custom_id: str


class _BatchId(msgspec.Struct, frozen=True, gc=False):
    batch_id: str | None = None
    replaced: list[_BatchId] | None = None


class RowTable:
    """Keeps the best row of each request, and the bill of all answers. Close it: the rows are in a temporary file.

    ``statuses`` holds a :class:`~.rows.Status` for each request.
    """

    def __init__(self, count: int, prices: PriceTable) -> None:
        self.statuses = bytearray(count)
        self.bill = Bill(prices)
        self._bodies = DiskSorter(count)
        # Names are kept once; each request has their numbers. 0 is for requests without an answer.
        self._stop_reason_numbers = {"": 0}
        self._stop_reasons = bytearray(count)
        self._model_numbers: dict[str | None, int] = {None: 0}
        self._models = array("H", bytes(2 * count))

    def close(self) -> None:
        """Remove the rows from the disk."""
        self._bodies.close()

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
                body = body_with_replaced(body, self._bodies.get(index))
        self._bodies.put(index, body)
        self.statuses[index] = parsed.status
        self._stop_reasons[index] = 0 if charge is None else self._stop_reason_number(parsed.stop_reason or "none")
        self._models[index] = self._model_number(parsed.model)
        if charge is not None:
            self.bill.add_charge(charge)
        elif parsed.is_unreadable:
            self.bill.unreadable_answers += 1

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
        return answer.batch_id == batch_id and answer.model is None

    def copy_to_duplicates(self, duplicates: Mapping[int, int]) -> None:
        """Give each duplicate the status, stop reason and model of the request whose answer it shares."""
        for duplicate, first in duplicates.items():
            self.statuses[duplicate] = self.statuses[first]
            self._stop_reasons[duplicate] = self._stop_reasons[first]
            self._models[duplicate] = self._models[first]

    def body(self, index: int) -> bytes:
        """Return the row body of one request, empty if there is none."""
        return self._bodies.get(index)

    def bodies(self) -> Iterator[bytes]:
        """Yield the row body of each request in input order, empty if there is none."""
        return iter(self._bodies)

    def answer(self, index: int) -> PaidAnswer:
        """Return how the answer of a row ended, and what was paid for it. There must be a row of a result."""
        return msgspec.json.decode(b"{" + self._bodies.get(index), type=PaidAnswer)

    def custom_id(self, index: int) -> str:
        """Return the custom_id of the result that a request's row was made of. There must be one."""
        return msgspec.json.decode(b"{" + self._bodies.get(index), type=_CustomId).custom_id

    def answers_by_batch(self) -> Counter[str]:
        """Count the answers of each batch that are in the rows. Slow: it reads every row."""
        kept = Counter[str]()
        for status, body in zip(self.statuses, self.bodies(), strict=True):
            if body and status in PAID:
                answer = msgspec.json.decode(b"{" + body, type=PaidAnswer)
                kept.update([answer.batch_id, *(before.batch_id for before in answer.replaced)])
        return kept

    def count_of_batch(self, batch_id: str) -> tuple[int, int]:
        """Count the rows that came from a batch, and how many of them are answers. Slow: it reads every row."""
        rows = answers = 0
        for status, body in zip(self.statuses, self.bodies(), strict=True):
            if not body:
                continue
            row = msgspec.json.decode(b"{" + body, type=_BatchId)
            replaced = any(earlier.batch_id == batch_id for earlier in row.replaced or ())
            if row.batch_id == batch_id or replaced:
                rows += 1
                answers += replaced or status in PAID
        return rows, answers

    def model(self, index: int) -> str | None:
        """Return the model that answered a request, None if none did."""
        return list(self._model_numbers)[self._models[index]]

    def models(self) -> Iterator[str | None]:
        """Yield for each request the model that answered it, None if none did."""
        names = list(self._model_numbers)
        return (names[number] for number in self._models)

    def stop_reasons(self) -> dict[str, int]:
        """Count why the answers ended, the most frequent reason first."""
        found, reasons = Counter(self._stop_reasons), list(self._stop_reason_numbers)
        return {reasons[number]: count for number, count in found.most_common() if number}

    def _paid_batch_ids(self, index: int) -> set[str]:
        """Return the batches that have answered a request so far."""
        answer = self.answer(index)
        return {answer.batch_id, *(before.batch_id for before in answer.replaced)}

    def _model_number(self, name: str | None) -> int:
        if (number := self._model_numbers.get(name)) is None:
            number = self._model_numbers[name] = len(self._model_numbers)
        return number

    def _stop_reason_number(self, reason: str) -> int:
        if (number := self._stop_reason_numbers.get(reason)) is None:
            if (number := len(self._stop_reason_numbers)) > _MOST_STOP_REASONS:
                return 0
            self._stop_reason_numbers[reason] = number
        return number
