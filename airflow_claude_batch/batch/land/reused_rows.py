"""Make the row of a request that an earlier submission has asked already, of the answer that was stored then."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.parse_result import ParsedResult, parse_result
from airflow_claude_batch.batch.land.rows import NULL, ReusedFrom, RowBody, Status
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable

#: The stop reasons of complete answers. Asked again, a refused or cut-off request may get a better answer.
COMPLETE: Final = frozenset({"end_turn", "stop_sequence", "tool_use"})


class _Answer(msgspec.Struct, frozen=True, gc=False):
    """The fields of a row that tell whether its answer may be reused."""

    batch_id: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    replaced: msgspec.Raw = NULL
    raw: msgspec.Raw = NULL


_answer = msgspec.json.Decoder(_Answer)


class ReusableAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer for the store: the message batch and the model that gave it, and the row body."""

    batch_id: str
    model: str
    body: bytes


def reusable_answer(body: bytes) -> ReusableAnswer | None:
    """Return a valid answer of this submission for the store. None if it is not complete, or came in an odd line.

    :param body: of its row. Earlier answers that it has replaced are left out.
    """
    row = _answer.decode(b"{" + body)
    if row.batch_id is None or row.model is None or row.stop_reason not in COMPLETE or row.raw != NULL:
        return None
    if row.replaced != NULL:
        body = msgspec.structs.replace(RowBody.decode(body), replaced=msgspec.UNSET).encode()
    return ReusableAnswer(row.batch_id, row.model, body)


def reused_result(
    body: bytes,
    *,
    submission_id: str,
    answered_at: datetime,
    custom_id: str,
    prices: PriceTable,
    validator: OutputValidator | None,
) -> ParsedResult | None:
    """Make the row of a request of the body that an earlier submission has landed. None if it is not valid today.

    The message is read and validated anew: the schema, or the rules by which messages are read, may have changed.

    :param submission_id: the submission that has paid for the answer, and ``answered_at`` when.
    :param custom_id: names the request in this submission.
    """
    try:
        stored = RowBody.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # written by a later version
        return None
    if stored.batch_id is None or stored.custom_id is None or stored.message == NULL:
        return None
    result = wire.ResultLine(custom_id, wire.Result("succeeded", stored.message))
    parsed = parse_result(result, stored.batch_id, prices, validator)
    if parsed.status is not Status.SUCCEEDED or parsed.stop_reason not in COMPLETE:
        return None
    reused_from = ReusedFrom(
        submission_id=submission_id,
        batch_id=stored.batch_id,
        custom_id=stored.custom_id,
        answered_at=answered_at,
        cost_usd=stored.cost_usd,
    )
    row = msgspec.structs.replace(RowBody.decode(parsed.body), usage=NULL, cost_usd="0", reused_from=reused_from)
    return ParsedResult(Status.REUSED, row.encode(), parsed.model, parsed.stop_reason, reused_from=reused_from)
