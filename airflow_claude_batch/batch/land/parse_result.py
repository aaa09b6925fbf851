"""A result line becomes the row that a request ends as."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.batch.money.pricing import Charge, PriceTable
from airflow_claude_batch.batch.send import longer_answers as repair
from airflow_claude_batch.exceptions import MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.validate_output import OutputValidator

FILE = "results.jsonl"


class Status(IntEnum):
    """How a request stands; a byte each in memory. The names are the rows' words."""

    NONE = 0
    SUCCEEDED = 1
    INVALID_OUTPUT = 2
    #: Errored in a way that the same request would meet again.
    REFUSED = 3
    ERRORED = 4
    EXPIRED = 5
    CANCELED = 6
    #: Invalid, but another answer may be valid. Asked for only if the author pays for that: ``repair_invalid``.
    REPAIRABLE_OUTPUT = 7

    @property
    def word(self) -> str:
        """The ``status`` of the row."""
        return _WORDS[self]


_WORDS = {
    **{status: status.name.lower() for status in Status},
    Status.NONE: "missing",
    Status.REFUSED: "errored",
    Status.REPAIRABLE_OUTPUT: "invalid_output",
}
#: What needs no further call: answered, or refused for good.
FINAL = frozenset({Status.SUCCEEDED, Status.INVALID_OUTPUT, Status.REPAIRABLE_OUTPUT, Status.REFUSED})
ANSWERED = frozenset({Status.SUCCEEDED})
#: Nested error types that the same request would meet again (design: what is worth retrying).
PERMANENT_ERRORS = frozenset({"invalid_request_error", "not_found_error"})

_BY_TYPE = {"expired": Status.EXPIRED, "canceled": Status.CANCELED}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The final word on one request: one line of ``results.jsonl``.

    ``status``: succeeded, errored, expired, canceled, missing or invalid_output. ``text``: the text blocks
    joined, None if there is none. ``output``: what the text says, if it was asked for with an output schema and
    satisfies it. ``usage`` and ``message`` are as
    the API sent them. ``cost_usd``: decimal digits, None if the model's price is not known. ``custom_id`` and
    ``batch_id`` find the request in the vendor's books. ``replaced``: earlier answers to the request, invalid and paid
    for too, as rows without index, key and message.
    """

    index: int
    key: Any
    status: str
    text: str | None = None
    output: Any = None
    stop_reason: str | None = None
    model: str | None = None
    usage: dict[str, Any] | None = None
    cost_usd: str | None = None
    error: dict[str, Any] | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    message: dict[str, Any] | None = None
    replaced: list[dict[str, Any]] | None = None


class Tail(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row without index and key, in the rows' order of fields."""

    status: str
    text: str | None = None
    output: Any = None
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")
    cost_usd: str | None = None
    error: dict[str, Any] | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    message: msgspec.Raw = msgspec.Raw(b"null")
    replaced: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def decode(cls, tail: bytes) -> Tail:
        """Read what :meth:`encode` has written."""
        return msgspec.json.decode(b"{" + tail, type=cls)

    def encode(self) -> bytes:
        """The row from ``"status":`` on."""
        return _encoder.encode(self)[1:]


class _Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a row needs of a message."""

    model: str
    content: list[wire.ContentBlock]
    usage: msgspec.Raw
    stop_reason: str | None = None


class Outcome(msgspec.Struct, frozen=True, gc=False):
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
_encoder = msgspec.json.Encoder()
_NOTHING = msgspec.Raw(b"null")


def read_outcome(
    line: wire.ResultLine, batch_id: str, prices: PriceTable, validator: OutputValidator | None = None
) -> Outcome:
    """Understand one result line, whatever it holds: the others of its batch wait behind it.

    A type that is not known yet is kept as an error that a retry may mend. A succeeded result without a proper message
    was paid for: it is kept as ``invalid_output``, which is not asked for again. So is an answer that is not what the
    ``validator`` wants.
    """
    result = line.result
    if result.type == "succeeded":
        try:
            return _succeeded(result.message or _NOTHING, line.custom_id, batch_id, prices, validator)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return _unreadable(result.message or _NOTHING, line.custom_id, batch_id, error)
    if (status := _BY_TYPE.get(result.type)) is not None:
        tail = Tail(status=status.word, batch_id=batch_id, custom_id=line.custom_id)
        return Outcome(status, tail.encode())
    return _errored(result, line.custom_id, batch_id)


def _succeeded(
    raw: msgspec.Raw, custom_id: str, batch_id: str, prices: PriceTable, validator: OutputValidator | None
) -> Outcome:
    message, usage = _read(raw)
    charge = prices.charge(usage, message.model)
    texts = [block.text for block in message.content if block.type == "text" and block.text is not None]
    text = "".join(texts) if texts else None
    output, error = validator.read(text, message.stop_reason) if validator is not None else (None, None)
    status = Status.SUCCEEDED if error is None else invalid_status(message.stop_reason, usage, message.model, prices)
    tail = Tail(
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
    return Outcome(status, tail.encode(), message.model, message.stop_reason, charge)


def _read(raw: msgspec.Raw) -> tuple[_Message, wire.Usage]:
    """Read a message. What is not looked at is copied into the row, and must not make that unreadable."""
    try:
        known = _known_message.decode(raw)
        return known, known_usage.decode(known.usage)
    except msgspec.ValidationError:  # the API has something new, or the message is none
        message = _message.decode(raw)
        _whole.decode(raw)
        return message, _usage.decode(message.usage)


def _unreadable(raw: msgspec.Raw, custom_id: str, batch_id: str, error: Exception) -> Outcome:
    try:
        message: dict[str, Any] | None = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        message = None
    why = {"type": "unreadable_message", "message": f"answered and billed, but not in the API's form: {_reason(error)}"}
    tail = Tail(
        status=Status.INVALID_OUTPUT.word,
        error=why,
        batch_id=batch_id,
        custom_id=custom_id,
        message=msgspec.Raw(_encoder.encode(message)),
    )
    return Outcome(Status.INVALID_OUTPUT, tail.encode())


def _reason(error: Exception) -> str:
    """What was wrong, without the text that it was found in."""
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error)


def invalid_status(stop_reason: str | None, usage: wire.Usage, model: str, prices: PriceTable) -> Status:
    """How a request stands whose answer is not valid."""
    worthwhile = repair.is_worthwhile(stop_reason, usage, model, prices)
    return Status.REPAIRABLE_OUTPUT if worthwhile else Status.INVALID_OUTPUT


def _errored(result: wire.Result, custom_id: str, batch_id: str) -> Outcome:
    error = _error(result)
    status = Status.REFUSED if error["type"] in PERMANENT_ERRORS else Status.ERRORED
    tail = Tail(status="errored", error=error, batch_id=batch_id, custom_id=custom_id)
    return Outcome(status, tail.encode())


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


def twin_tail(tail: bytes) -> bytes:
    """The row of a request that was not sent, since an equal one was: the same answer, paid for there."""
    row = Tail.decode(tail)
    return msgspec.structs.replace(row, usage=_NOTHING, cost_usd="0", replaced=msgspec.UNSET).encode()


def replacing_tail(tail: bytes, held: bytes) -> bytes:
    """A row that takes the place of another that was paid for too, and says so."""
    row, old = map(Tail.decode, (tail, held))
    bare = msgspec.structs.replace(old, message=_NOTHING, replaced=msgspec.UNSET)
    replaced = [*(old.replaced or ()), msgspec.Raw(_encoder.encode(bare))]
    return msgspec.structs.replace(row, replaced=replaced).encode()


def missing_tail(reason: str) -> bytes:
    """The row of a request for which no result line came."""
    return Tail(status="missing", error={"type": "missing", "message": reason}).encode()
