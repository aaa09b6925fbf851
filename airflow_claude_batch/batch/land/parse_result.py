"""A result line becomes the row that a request ends as."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.rows import NULL, PERMANENT_ERRORS, RowBody, Status
from airflow_claude_batch.batch.money.pricing import Charge, PriceTable
from airflow_claude_batch.exceptions import MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.validate_output import OutputValidator


#: The stop reason of an answer that reached ``max_tokens``.
CUT_OFF: Final = "max_tokens"
#: The same request would end the same way again.
_FINAL_STOP_REASONS: Final = frozenset({"refusal", "model_context_window_exceeded", "pause_turn", "tool_use"})

_BY_TYPE = {"expired": Status.EXPIRED, "canceled": Status.CANCELED}


class _Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a row needs of a message."""

    model: str
    content: list[wire.ContentBlock]
    usage: msgspec.Raw
    stop_reason: str | None = None


class ParsedResult(msgspec.Struct, frozen=True, gc=False):
    """What one result line says: its status, its row from ``"status":`` on, and what the bill needs."""

    status: Status
    tail: bytes
    model: str | None = None
    stop_reason: str | None = None
    charge: Charge | None = None


class KnownBlock(wire.ContentBlock, frozen=True, gc=False, forbid_unknown_fields=True):
    """A block of which every field is read."""

    citations: Any = None
    thinking: Any = None
    signature: Any = None
    id: Any = None
    name: Any = None
    input: Any = None
    caller: Any = None


class KnownMessage(_Message, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message of which every field but ``usage`` is read: what is skipped is not checked."""

    content: list[KnownBlock]  # type: ignore[assignment]  # narrower
    id: Any = None
    type: Any = None
    role: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None
    diagnostics: Any = None


class _KnownUsage(wire.Usage, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A usage without anything new in it."""


_known_message = msgspec.json.Decoder(KnownMessage)
known_usage = msgspec.json.Decoder(_KnownUsage)
_message = msgspec.json.Decoder(_Message)
_whole = msgspec.json.Decoder()
_usage = msgspec.json.Decoder(wire.Usage)


def parse_result(
    line: wire.ResultLine, batch_id: str, prices: PriceTable, validator: OutputValidator | None = None
) -> ParsedResult:
    """Understand one result line, whatever it holds: the others of its batch wait behind it.

    A type that is not known yet is kept as an error that a retry may mend. A succeeded result without a proper message
    was paid for: it is kept as ``invalid_output``, which is not asked for again. So is an answer that is not what the
    ``validator`` wants.
    """
    result = line.result
    if result.type == "succeeded":
        try:
            return _succeeded(result.message or NULL, line.custom_id, batch_id, prices, validator)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _unreadable(result.message or NULL, line.custom_id, batch_id, error)
    if (status := _BY_TYPE.get(result.type)) is not None:
        tail = RowBody(status=status.word, batch_id=batch_id, custom_id=line.custom_id)
        return ParsedResult(status, tail.encode())
    return _errored(result, line.custom_id, batch_id)


def _succeeded(
    raw: msgspec.Raw, custom_id: str, batch_id: str, prices: PriceTable, validator: OutputValidator | None
) -> ParsedResult:
    message, usage = _read(raw)
    charge = prices.charge(usage, message.model)
    texts = [block.text for block in message.content if block.type == "text" and block.text is not None]
    text = "".join(texts) if texts else None
    output, error = validator.read(text, message.stop_reason) if validator is not None else (None, None)
    status = Status.SUCCEEDED if error is None else invalid_status(message.stop_reason, usage, message.model, prices)
    tail = RowBody(
        status=status.word,
        text=text,
        output=output,
        stop_reason=message.stop_reason,
        model=message.model,
        usage=message.usage,
        cost_usd=charge.usd,
        error=error,
        batch_id=batch_id,
        custom_id=custom_id,
        message=raw,
    )
    return ParsedResult(status, tail.encode(), message.model, message.stop_reason, charge)


def _read(raw: msgspec.Raw) -> tuple[_Message, wire.Usage]:
    """Read a message. What is not looked at is copied into the row, and must not make that unreadable."""
    try:
        known = _known_message.decode(raw)
        return known, known_usage.decode(known.usage)
    except msgspec.ValidationError:  # the API has something new, or the message is none
        message = _message.decode(raw)
        _whole.decode(raw)
        return message, _usage.decode(message.usage)


def _unreadable(raw: msgspec.Raw, custom_id: str, batch_id: str, error: Exception) -> ParsedResult:
    try:
        message: dict[str, Any] | None = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = None
    why = {"type": "unreadable_message", "message": f"answered and billed, but not in the API's form: {_reason(error)}"}
    tail = RowBody(
        status=Status.INVALID_OUTPUT.word,
        error=why,
        batch_id=batch_id,
        custom_id=custom_id,
        message=msgspec.Raw(msgspec.json.encode(message)),
    )
    return ParsedResult(Status.INVALID_OUTPUT, tail.encode())


def _reason(error: Exception) -> str:
    """What was wrong, without the text that it was found in."""
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error)


def _may_improve(stop_reason: str | None, usage: wire.Usage, model: str, prices: PriceTable) -> bool:
    """Tell whether another answer may be valid. A truncated one may, if the model allows a longer answer."""
    if stop_reason != CUT_OFF:
        return stop_reason not in _FINAL_STOP_REASONS
    cap = prices.max_answer_tokens(model)
    return cap is None or usage.output_tokens < cap


def invalid_status(stop_reason: str | None, usage: wire.Usage, model: str, prices: PriceTable) -> Status:
    """How a request stands whose answer is not valid."""
    may_improve = _may_improve(stop_reason, usage, model, prices)
    return Status.REPAIRABLE_OUTPUT if may_improve else Status.INVALID_OUTPUT


def _errored(result: wire.Result, custom_id: str, batch_id: str) -> ParsedResult:
    error = _error(result)
    status = Status.REFUSED if error["type"] in PERMANENT_ERRORS else Status.ERRORED
    tail = RowBody(status="errored", error=error, batch_id=batch_id, custom_id=custom_id)
    return ParsedResult(status, tail.encode())


def _error(result: wire.Result) -> dict[str, Any]:
    """The real error: it is nested twice (errored rows carry a whole error envelope)."""
    if result.error is None:
        return {"type": result.type, "message": f"result of type {result.type!r} without an error"}
    try:
        envelope = wire.decode_error(result.error)
    except MalformedResponseError as error:
        return {"type": "unknown", "message": str(error)}
    return {
        "type": envelope.type or "unknown",
        "message": envelope.message,
        "request_id": envelope.request_id,
    }
