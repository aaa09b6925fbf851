"""Read back the rows that an earlier attempt has landed."""

from __future__ import annotations

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.parse_result import ParsedResult, invalid_status
from airflow_claude_batch.batch.land.row_table import PaidAnswer
from airflow_claude_batch.batch.land.rows import PERMANENT_ERRORS, Row, Status
from airflow_claude_batch.batch.money.pricing import PriceTable


class LandedRow(msgspec.Struct, frozen=True, gc=False):
    """A landed row as the result that it was made of. ``replaced``: invalid answers that were paid for before."""

    custom_id: str
    batch_id: str
    parsed: ParsedResult
    replaced: list[PaidAnswer]

    @property
    def batch_ids(self) -> set[str]:
        """The batches that have answered the request."""
        return {self.batch_id, *(answer.batch_id for answer in self.replaced)}


class _Fields(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that tell which request it answered, how that ended, and what was paid."""

    index: int
    key: msgspec.Raw
    status: str
    custom_id: str | None = None
    batch_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    usage: wire.Usage | None = None
    error: wire.ErrorObject | None = None
    replaced: list[PaidAnswer] = []


_row = msgspec.json.Decoder(Row)
_fields = msgspec.json.Decoder(_Fields)


def read_landed_row(line: bytes, prices: PriceTable) -> LandedRow | None:
    """Read one line of ``results.jsonl``, None if no result came for its request.

    :raises ValueError: the line is not as it was written.
    :raises msgspec.MsgspecError: it is not a row.
    """
    row = _fields.decode(line)
    _row.decode(line)  # read_rows decodes it like this: a row that it cannot read must not be kept
    if row.custom_id is None or row.batch_id is None:
        return None
    head = b'{"index":%d,"key":%b,' % (row.index, row.key)
    if not line.startswith(head):
        raise ValueError("the line does not begin with index and key")
    body = line[len(head) :].rstrip(b"\n")
    charge = prices.charge(row.usage, row.model) if row.usage is not None and row.model is not None else None
    parsed = ParsedResult(_status(row, prices), body, row.model, row.stop_reason, charge)
    return LandedRow(row.custom_id, row.batch_id, parsed, row.replaced)


def _status(row: _Fields, prices: PriceTable) -> Status:
    if row.status == "errored":
        permanent = row.error is not None and row.error.type in PERMANENT_ERRORS
        return Status.REFUSED if permanent else Status.ERRORED
    if row.status == Status.INVALID_OUTPUT.word and row.model is not None and row.usage is not None:
        return invalid_status(row.stop_reason, row.usage, row.model, prices)
    if row.status.upper() not in Status.__members__:
        raise ValueError(f"the status {row.status!r} is not known")
    return Status[row.status.upper()]
