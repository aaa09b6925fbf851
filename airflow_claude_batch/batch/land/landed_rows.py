"""Read back the rows that an earlier attempt has landed."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.parse_result import NO_BATCH, ParsedResult, invalid_status
from airflow_claude_batch.batch.land.row_errors import is_permanent
from airflow_claude_batch.batch.land.row_table import PaidAnswer
from airflow_claude_batch.batch.land.rows import (
    DIRECT,
    NULL,
    RawLine,
    ReusedFrom,
    Row,
    Status,
    body_of_line,
    body_with_cost,
)
from airflow_claude_batch.batch.money.pricing import PriceTable

#: Words of the statuses of answers.
_ANSWERS: Final = frozenset({Status.SUCCEEDED.word, Status.INVALID_OUTPUT.word})


class LandedRow(msgspec.Struct, frozen=True, gc=False):
    """A landed row as the result that it was made of.

    ``replaced``: invalid answers that were paid for before. ``is_shortened``: not all of the answer was kept.
    ``is_copy``: the row shares the answer of an equal request.
    """

    custom_id: str
    batch_id: str
    parsed: ParsedResult
    replaced: list[PaidAnswer]
    is_shortened: bool = False
    is_copy: bool = False

    @property
    def batch_ids(self) -> set[str]:
        """The batches of this submission that have answered the request. A reused answer has none."""
        if self.parsed.reused_from is not None:
            return set()
        ids = (self.batch_id, *(answer.batch_id or NO_BATCH for answer in self.replaced))
        return {batch_id for batch_id in ids if batch_id != NO_BATCH}


class _Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that tell how its request ended, and what was paid."""

    status: str
    custom_id: str | None = None
    batch_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: msgspec.Raw = NULL
    error: wire.ErrorObject | None = None
    cost_usd: str | None = None
    replaced: list[PaidAnswer] = []
    raw: RawLine | None = None
    reused_from: ReusedFrom | None = None
    way: str | None = None


_row = msgspec.json.Decoder(Row)
_fields = msgspec.json.Decoder(_Fields)


def read_landed_row(line: bytes, prices: PriceTable) -> LandedRow | None:
    """Read one line of ``results.jsonl``, None if no result came for its request.

    :raises ValueError: the line is not as it was written.
    :raises msgspec.MsgspecError: it is not a row.
    """
    row = _fields.decode(line)
    _row.decode(line)  # read_rows decodes it like this: a row that it cannot read must not be kept
    is_direct = row.way == DIRECT
    if row.custom_id is None or (row.batch_id is None and not is_direct):
        return None
    body = body_of_line(line)
    is_answer = row.status in _ANSWERS and row.model is not None and row.reused_from is None and not _is_duplicate(row)
    usage = wire.decode_usage(row.usage)
    rates = prices.full if is_direct else prices
    charge = rates.charge(usage, row.model) if is_answer and row.model is not None else None
    if charge is not None and usage is not None and usage.iterations is not None and charge.usd != row.cost_usd:
        body = body_with_cost(body, charge.usd)  # earlier releases left out what iterations cost
    status = _status(row, usage, prices)
    parsed = ParsedResult(
        status, body, row.model, row.stop_reason, charge, reused_from=row.reused_from, is_direct=is_direct
    )
    left_out = row.raw is not None and row.raw.left_out > 0
    return LandedRow(row.custom_id, row.batch_id or NO_BATCH, parsed, row.replaced, left_out, _is_duplicate(row))


def _is_duplicate(row: _Fields) -> bool:
    """Tell whether the row shares the answer of an equal request, which is paid for once."""
    return row.usage == NULL and row.cost_usd == "0" and row.reused_from is None


class _Ids(msgspec.Struct, frozen=True, gc=False):
    custom_id: str | None = None
    batch_id: str | None = None


_ids = msgspec.json.Decoder(_Ids)


def count_rows_by_batch(lines: Iterable[bytes]) -> Counter[str]:
    """Count the landed rows of each batch that name their request. A damaged line is not counted."""
    counts: Counter[str] = Counter()
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = _ids.decode(line)
            if row.batch_id is not None and row.custom_id is not None:
                counts[row.batch_id] += 1
    return counts


class _Outcome(msgspec.Struct, frozen=True, gc=False):
    status: str


_outcome = msgspec.json.Decoder(_Outcome)


def count_results(lines: Iterable[bytes]) -> int:
    """Count the landed rows for which a result came. A damaged line is not counted."""
    count = 0
    for line in lines:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            count += _outcome.decode(line).status != Status.NONE.word
    return count


def _status(row: _Fields, usage: wire.BilledUsage | None, prices: PriceTable) -> Status:
    if row.reused_from is not None:
        return Status.REUSED
    if row.status == "errored":
        permanent = row.error is not None and is_permanent(row.error.type, row.error.message)
        return Status.REFUSED if permanent else Status.ERRORED
    if row.status == Status.INVALID_OUTPUT.word and row.model is not None:
        return invalid_status(row.stop_reason, usage, row.model, prices)
    if row.status.upper() not in Status.__members__:
        raise ValueError(f"the status {row.status!r} is not known")
    return Status[row.status.upper()]
