"""Rows: the final word on each request, one line of ``results.jsonl``."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec

RESULTS_FILE = "results.jsonl"


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


class RowBody(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    def decode(cls, tail: bytes) -> RowBody:
        """Read what :meth:`encode` has written."""
        return msgspec.json.decode(b"{" + tail, type=cls)

    def encode(self) -> bytes:
        """The row from ``"status":`` on."""
        return _encoder.encode(self)[1:]


_encoder = msgspec.json.Encoder()


NULL = msgspec.Raw(b"null")


def twin_tail(tail: bytes) -> bytes:
    """The row of a request that was not sent, since an equal one was: the same answer, paid for there."""
    row = RowBody.decode(tail)
    return msgspec.structs.replace(row, usage=NULL, cost_usd="0", replaced=msgspec.UNSET).encode()


def replacing_tail(tail: bytes, held: bytes) -> bytes:
    """A row that takes the place of another that was paid for too, and says so."""
    row, old = map(RowBody.decode, (tail, held))
    bare = msgspec.structs.replace(old, message=NULL, replaced=msgspec.UNSET)
    replaced = [*(old.replaced or ()), msgspec.Raw(_encoder.encode(bare))]
    return msgspec.structs.replace(row, replaced=replaced).encode()


def missing_tail(reason: str) -> bytes:
    """The row of a request for which no result line came."""
    return RowBody(status="missing", error={"type": "missing", "message": reason}).encode()
