"""Turn a result line into the row that its request ends as."""

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
#: Stop reasons with which the same request would end again.
_FINAL_STOP_REASONS: Final = frozenset({"refusal", "model_context_window_exceeded", "pause_turn", "tool_use"})

_STATUS_BY_TYPE: Final = {"expired": Status.EXPIRED, "canceled": Status.CANCELED}


class ParsedResult(msgspec.Struct, frozen=True, gc=False):
    """A result line as a row: its status, the row body as JSON, and what the bill needs.

    ``model``, ``stop_reason`` and ``charge`` are None without an answer that could be read.
    """

    status: Status
    body: bytes
    model: str | None = None
    stop_reason: str | None = None
    charge: Charge | None = None


class _Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a message that a row needs."""

    model: str
    content: list[wire.ContentBlock]
    usage: msgspec.Raw
    stop_reason: str | None = None


# A row copies the whole message, so that what nobody reads must be valid JSON too. msgspec checks only what it decodes:
# a message with no other fields than these is checked while it is read. Any other is decoded a second time, in full.


class _KnownBlock(wire.ContentBlock, frozen=True, gc=False, forbid_unknown_fields=True):
    """A content block with all fields that are known."""

    citations: Any = None
    thinking: Any = None
    signature: Any = None
    id: Any = None
    name: Any = None
    input: Any = None
    caller: Any = None


class _KnownMessage(_Message, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message with all fields that are known."""

    content: list[_KnownBlock]  # type: ignore[assignment]  # narrower
    id: Any = None
    type: Any = None
    role: Any = None
    stop_sequence: Any = None
    stop_details: Any = None
    container: Any = None
    diagnostics: Any = None


class _KnownCacheCreation(wire.CacheCreation, frozen=True, gc=False, forbid_unknown_fields=True):
    pass


class _KnownOutputTokensDetails(wire.OutputTokensDetails, frozen=True, gc=False, forbid_unknown_fields=True):
    pass


class _KnownServerToolUse(wire.ServerToolUse, frozen=True, gc=False, forbid_unknown_fields=True):
    pass


class _KnownUsage(wire.Usage, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A usage with all fields that are known."""

    cache_creation: _KnownCacheCreation | None = None
    output_tokens_details: _KnownOutputTokensDetails | None = None
    server_tool_use: _KnownServerToolUse | None = None


_known_message = msgspec.json.Decoder(_KnownMessage)
_known_usage = msgspec.json.Decoder(_KnownUsage)
_message = msgspec.json.Decoder(_Message)
_usage = msgspec.json.Decoder(wire.Usage)
_any_json = msgspec.json.Decoder()


def parse_result(
    line: wire.ResultLine, batch_id: str, prices: PriceTable, validator: OutputValidator | None = None
) -> ParsedResult:
    """Turn a result line into a row, whatever it holds. Never raises: the other lines of the batch must be read too.

    * An unknown result type becomes ``errored``. It may be sent again.
    * A succeeded result without a readable message was paid for. It becomes ``invalid_output``, with the raw message,
      and is not sent again.
    * So does an answer that the ``validator`` refuses.
    """
    result = line.result
    if result.type == "succeeded":
        try:
            return _succeeded(result.message or NULL, line.custom_id, batch_id, prices, validator)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _unreadable(result.message or NULL, line.custom_id, batch_id, error)
    if (status := _STATUS_BY_TYPE.get(result.type)) is not None:
        body = RowBody(status=status.word, batch_id=batch_id, custom_id=line.custom_id)
        return ParsedResult(status, body.encode())
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
    body = RowBody(
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
    return ParsedResult(status, body.encode(), message.model, message.stop_reason, charge)


def _read(raw: msgspec.Raw) -> tuple[_Message, wire.Usage]:
    try:
        known = _known_message.decode(raw)
        return known, _known_usage.decode(known.usage)
    except msgspec.ValidationError:  # a field is new, or this is not a message
        message = _message.decode(raw)
        _any_json.decode(raw)
        return message, _usage.decode(message.usage)


def _unreadable(raw: msgspec.Raw, custom_id: str, batch_id: str, error: Exception) -> ParsedResult:
    try:
        message: dict[str, Any] | None = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = None
    # The text of a UnicodeDecodeError quotes the answer.
    reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    why = {
        "type": "unreadable_message",
        "message": f"The request was answered and billed, but the answer is not in the API's form: {reason}",
    }
    body = RowBody(
        status=Status.INVALID_OUTPUT.word,
        error=why,
        batch_id=batch_id,
        custom_id=custom_id,
        message=msgspec.Raw(msgspec.json.encode(message)),
    )
    return ParsedResult(Status.INVALID_OUTPUT, body.encode())


def invalid_status(stop_reason: str | None, usage: wire.Usage, model: str, prices: PriceTable) -> Status:
    """Decide whether a request with an invalid answer may be repaired by asking again."""
    may_improve = _may_improve(stop_reason, usage, model, prices)
    return Status.REPAIRABLE_OUTPUT if may_improve else Status.INVALID_OUTPUT


def _may_improve(stop_reason: str | None, usage: wire.Usage, model: str, prices: PriceTable) -> bool:
    """Tell whether another answer may be valid. A truncated one may, if the model allows a longer answer."""
    if stop_reason != CUT_OFF:
        return stop_reason not in _FINAL_STOP_REASONS
    cap = prices.max_answer_tokens(model)
    return cap is None or usage.output_tokens < cap


def _errored(result: wire.Result, custom_id: str, batch_id: str) -> ParsedResult:
    error = _error(result)
    status = Status.REFUSED if error["type"] in PERMANENT_ERRORS else Status.ERRORED
    body = RowBody(status="errored", error=error, batch_id=batch_id, custom_id=custom_id)
    return ParsedResult(status, body.encode())


def _error(result: wire.Result) -> dict[str, Any]:
    """Return the row's error. The API nests it twice: errored results carry a whole error response."""
    if result.error is None:
        return {"type": result.type, "message": f"The API sent a result of type {result.type!r} without an error."}
    try:
        envelope = wire.decode_error(result.error)
    except MalformedResponseError as error:
        return {"type": "unknown", "message": str(error)}
    return {
        "type": envelope.type or "unknown",
        "message": envelope.message,
        "request_id": envelope.request_id,
    }
