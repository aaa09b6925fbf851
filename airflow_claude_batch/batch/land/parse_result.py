"""Turn a result line into the row that its request ends as."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.land.answer_text import join_texts, texts_to_validate
from airflow_claude_batch.batch.land.row_errors import is_permanent, read_error
from airflow_claude_batch.batch.land.rows import DIRECT, NULL, RawLine, ReusedFrom, RowBody, Status
from airflow_claude_batch.batch.money.pricing import Charge, PriceTable

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.validate_output import OutputValidator

#: The stop reason of an answer that reached ``max_tokens``.
CUT_OFF: Final = "max_tokens"
#: Stop reasons with which the same request would end again.
_FINAL_STOP_REASONS: Final = frozenset({"refusal", "model_context_window_exceeded", "pause_turn", "tool_use"})

# To look up a member of an enum, or its word, takes ten times as long as a global: too long for each of a million rows.
_SUCCEEDED: Final = Status.SUCCEEDED
_SUCCEEDED_WORD: Final = _SUCCEEDED.word
_UNANSWERED: Final = frozenset({"errored", "expired", "canceled"})
_STATUS_BY_TYPE: Final = {"expired": Status.EXPIRED, "canceled": Status.CANCELED}
#: The error messages of rows without an error of the API's.
_WHY: Final = {
    Status.EXPIRED: "The API did not process the request within the 24 hours of its batch. It is not billed.",
    Status.CANCELED: "The batch was canceled before the API processed the request. It is not billed.",
}


class ParsedResult(msgspec.Struct, frozen=True, gc=False):
    """A result line as a row: its status, the row body as JSON, and what the bill needs.

    ``model``, ``stop_reason`` and ``charge`` are None without an answer that could be read. ``flat_bytes`` is the size
    of a message that certainly has no lists or objects inside each other but those of the API's form, else 0.
    ``reused_from`` is None unless the answer is of an earlier submission. It is not billed then. ``is_direct``: it came
    from the Messages API, at full price.
    """

    status: Status
    body: bytes
    model: str | None = None
    stop_reason: str | None = None
    charge: Charge | None = None
    flat_bytes: int = 0
    reused_from: ReusedFrom | None = None
    is_direct: bool = False

    @property
    def is_unreadable(self) -> bool:
        """Tell whether there is an answer that could not be read."""
        return self.model is None and self.status is Status.INVALID_OUTPUT


#: Stands for the message batch of answers that came from the Messages API. Their rows have none.
NO_BATCH: Final = ""


class _Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The fields of a message that a row needs."""

    model: str
    content: list[wire.ContentBlock]
    usage: msgspec.Raw = NULL
    stop_reason: str | None = None


# A row copies the whole message, so that what nobody reads must be valid JSON too. msgspec checks only what it decodes:
# an answer of text with no other fields than these is checked while it is read. Any other is decoded a second time, in
# full.


class _FlatBlock(wire.ContentBlock, frozen=True, gc=False, forbid_unknown_fields=True):
    """A content block of text or thinking, without lists or objects in it."""

    citations: None = None
    thinking: str | None = None
    signature: str | None = None


class _FlatMessage(_Message, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A message without lists or objects in it but its content and its usage."""

    content: list[_FlatBlock]  # type: ignore[assignment]  # narrower
    id: str | None = None
    type: str | None = None
    role: str | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    diagnostics: None = None


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


_flat_message = msgspec.json.Decoder(_FlatMessage)
_known_usage = msgspec.json.Decoder(_KnownUsage)
_message = msgspec.json.Decoder(_Message)
_any_json = msgspec.json.Decoder()


def parse_result(
    line: wire.ResultLine,
    batch_id: str,
    prices: PriceTable,
    validator: OutputValidator | None = None,
    raw: RawLine | None = None,
) -> ParsedResult:
    """Turn a result line into a row, whatever it holds. Never raises: the other lines of the batch must be read too.

    * A result of an unknown type becomes ``errored``, and may be sent again. With a message it is an answer.
    * A result of type errored, expired or canceled that has a message and no error is an answer, too.
    * A succeeded result without a readable message was paid for. It becomes ``invalid_output``, with the raw message,
      and is not sent again.
    * So does an answer that the ``validator`` refuses.
    * An answer whose usage cannot be read is an answer all the same. Its cost is not known.

    :param raw: the line as it came, if it is not in the API's form.
    """
    result, message = line.result, line.result.message
    kept = msgspec.UNSET if raw is None else raw
    if result.type == "succeeded" or (result.type not in _UNANSWERED and message is not None):
        try:
            return _succeeded(message or NULL, line.custom_id, batch_id, prices, validator, kept)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return _unreadable(message or NULL, line.custom_id, batch_id, error, kept)
    if message is not None and result.error is None:
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _succeeded(message, line.custom_id, batch_id, prices, validator, kept)
    if (status := _STATUS_BY_TYPE.get(result.type)) is not None:
        why = {"type": status.word, "message": _WHY[status]}
        body = RowBody(status=status.word, error=why, batch_id=batch_id, custom_id=line.custom_id, raw=kept)
        return ParsedResult(status, body.encode())
    return _errored(result, line.custom_id, batch_id, kept)


def parse_direct(line: wire.ResultLine, prices: PriceTable, validator: OutputValidator | None = None) -> ParsedResult:
    """Turn a result of the Messages API into a row, whatever it holds.

    :param prices: those of message batches. The full ones count.
    """
    parsed = parse_result(line, NO_BATCH, prices.full, validator)
    row = msgspec.structs.replace(RowBody.decode(parsed.body), batch_id=None, way=DIRECT)
    return msgspec.structs.replace(parsed, body=row.encode(), is_direct=True)


def _succeeded(
    raw: msgspec.Raw,
    custom_id: str,
    batch_id: str,
    prices: PriceTable,
    validator: OutputValidator | None,
    kept: RawLine | msgspec.UnsetType,
) -> ParsedResult:
    message, usage = _read(raw)
    charge = prices.charge(usage, message.model)
    text = join_texts(message.content)
    output, error = None, None
    if validator is not None:
        output, error = validator.read(text, message.stop_reason)
        if error is not None and len(message.content) > 1:
            output, error = validator.read_first_valid(texts_to_validate(message.content), message.stop_reason)
    status, word = _SUCCEEDED, _SUCCEEDED_WORD
    if error is not None:
        status = invalid_status(message.stop_reason, usage, message.model, prices)
        word = status.word
    body = RowBody(
        status=word,
        text=text,
        output=output,
        stop_reason=message.stop_reason,
        model=message.model,
        usage=message.usage if usage is not None or bytes(message.usage).startswith(b"{") else NULL,
        cost_usd=charge.usd,
        error=error,
        batch_id=batch_id,
        custom_id=custom_id,
        message=raw,
        raw=kept,
    )
    is_flat = isinstance(message, _FlatMessage) and usage is not None and usage.iterations is None
    flat_bytes = len(raw) if is_flat else 0
    return ParsedResult(status, body.encode(), message.model, message.stop_reason, charge, flat_bytes)


def _read(raw: msgspec.Raw) -> tuple[_Message, wire.BilledUsage | None]:
    try:
        flat = _flat_message.decode(raw)
        return flat, _known_usage.decode(flat.usage)
    except msgspec.ValidationError:  # it has more than text, or a field is new, or this is not a message
        message = _message.decode(raw)
        _any_json.decode(raw)
        return message, wire.decode_usage(message.usage)


def _unreadable(
    raw: msgspec.Raw, custom_id: str, batch_id: str, error: Exception, kept: RawLine | msgspec.UnsetType
) -> ParsedResult:
    try:
        message: dict[str, Any] | None = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = None
    text = None if message is None else _loose_text(message.get("content"))
    # The text of a UnicodeDecodeError quotes the answer.
    reason = error.reason if isinstance(error, UnicodeDecodeError) else str(error)
    why = {
        "type": "unreadable_message",
        "message": f"The request was answered and billed, but the answer is not in the API's form: {reason}",
    }
    body = RowBody(
        status=Status.INVALID_OUTPUT.word,
        text=text,
        error=why,
        batch_id=batch_id,
        custom_id=custom_id,
        message=NULL if message is None else raw,
        raw=kept,
    )
    return ParsedResult(Status.INVALID_OUTPUT, body.encode())


def _loose_text(content: Any) -> str | None:
    """Join whatever texts there are in a content that is not in the API's form."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else [content]
    texts = [block.get("text") if isinstance(block, dict) else block for block in blocks]
    found = [text for text in texts if isinstance(text, str)]
    return "".join(found) if found else None


def unreadable_result(reason: str, batch_id: str, custom_id: str, raw: RawLine | None = None) -> ParsedResult:
    """Make the row of a request whose result came but cannot be read. It may have been paid for."""
    error = {
        "type": "unreadable_result",
        "message": f"The result of the request cannot be read: {reason}. It may be billed and is not sent again.",
    }
    body = RowBody(
        status=Status.INVALID_OUTPUT.word,
        error=error,
        batch_id=batch_id,
        custom_id=custom_id,
        raw=msgspec.UNSET if raw is None else raw,
    )
    return ParsedResult(Status.INVALID_OUTPUT, body.encode())


def invalid_status(stop_reason: str | None, usage: wire.BilledUsage | None, model: str, prices: PriceTable) -> Status:
    """Decide whether a request with an invalid answer may be repaired by asking again."""
    may_improve = _may_improve(stop_reason, usage, model, prices)
    return Status.REPAIRABLE_OUTPUT if may_improve else Status.INVALID_OUTPUT


def _may_improve(stop_reason: str | None, usage: wire.BilledUsage | None, model: str, prices: PriceTable) -> bool:
    """Tell whether another answer may be valid. A truncated one may, if the model allows a longer answer."""
    if stop_reason != CUT_OFF:
        return stop_reason not in _FINAL_STOP_REASONS
    cap = prices.max_answer_tokens(model)
    return cap is None or usage is None or usage.output_tokens < cap


def _errored(result: wire.Result, custom_id: str, batch_id: str, kept: RawLine | msgspec.UnsetType) -> ParsedResult:
    error = read_error(result)
    status = Status.REFUSED if is_permanent(error["type"], error["message"]) else Status.ERRORED
    body = RowBody(status="errored", error=error, batch_id=batch_id, custom_id=custom_id, raw=kept)
    return ParsedResult(status, body.encode())
