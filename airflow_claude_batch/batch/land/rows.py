"""Rows: the final word on each request, one line of ``results.jsonl``."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any, Final

import msgspec

RESULTS_FILE: Final = "results.jsonl"


class Status(IntEnum):
    """How a request ended. One byte each in memory."""

    #: No result came yet.
    NONE = 0
    SUCCEEDED = 1
    #: The answer does not satisfy the output schema, and another one would not either.
    INVALID_OUTPUT = 2
    #: The API refused the request, and would refuse it again.
    REFUSED = 3
    #: The API failed. The same request may succeed when it is sent again.
    ERRORED = 4
    EXPIRED = 5
    CANCELED = 6
    #: Invalid, but another answer may be valid. Sent again only with ``repair_invalid``, since that is paid for.
    REPAIRABLE_OUTPUT = 7
    #: Has a valid answer of an earlier submission, from the answer store. It costs nothing now.
    REUSED = 8

    @property
    def word(self) -> str:
        """The ``status`` of the row. Several statuses share a word."""
        return _WORDS[self]


_WORDS = {
    **{status: status.name.lower() for status in Status},
    Status.NONE: "missing",
    Status.REFUSED: "errored",
    Status.REPAIRABLE_OUTPUT: "invalid_output",
    Status.REUSED: "succeeded",
}

#: Needs no further call: answered, or refused for good.
FINAL: Final = frozenset(
    {Status.SUCCEEDED, Status.INVALID_OUTPUT, Status.REPAIRABLE_OUTPUT, Status.REFUSED, Status.REUSED}
)

#: Has a valid answer.
ANSWERED: Final = frozenset({Status.SUCCEEDED, Status.REUSED})

#: Needs no further call because of what the API said for this submission.
ASKED: Final = FINAL - {Status.REUSED}

#: Was answered for this submission, validly or not. These answers are billed.
PAID: Final = frozenset({Status.SUCCEEDED, Status.INVALID_OUTPUT, Status.REPAIRABLE_OUTPUT})


def count_statuses(statuses: bytes | bytearray) -> dict[str, int]:
    """Count how the requests ended, by the rows' words."""
    counts = dict.fromkeys(("succeeded", "errored", "expired", "canceled", "missing", "invalid_output"), 0)
    for status in Status:
        counts[status.word] += statuses.count(status)
    return counts


def count_where(statuses: bytes | bytearray, wanted: Iterable[int]) -> int:
    """Count the requests that have one of these statuses. A million take a millisecond."""
    return sum(map(statuses.count, wanted))


def indices_where(statuses: bytes | bytearray, wanted: Collection[int]) -> Iterator[int]:
    """Yield the requests that have one of these statuses, in order. The others in between take no time."""
    found = statuses.translate(bytes(status in wanted for status in range(256)))
    index = found.find(1)
    while index >= 0:
        yield index
        index = found.find(1, index + 1)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """The final word on one request: one line of ``results.jsonl``.

    Every request ends as exactly one row. A field that does not apply is None::

        for row in read_rows(manifest):
            if row.status == "succeeded":
                print(row.key, row.text, row.cost_usd)
            elif row.error:
                print(row.key, row.status, row.error["message"])
    """

    #: Position of the request in the input, from 0. For batches made elsewhere, the order of arrival.
    index: int
    #: The request's key as the author gave it, any JSON value. Without one, the position in the input.
    #: For batches made elsewhere it is the ``custom_id``, or None if no result came.
    key: Any
    #: The kept columns of the source row that the request was made of (``keep=``), by name: numbers, texts, booleans,
    #: None and nested values. Decimals, dates and times are texts. None without ``keep``.
    input: dict[str, Any] | None = None
    #: ``succeeded``: there is an answer. ``invalid_output``: there is one, but it does not satisfy the output schema
    #: or cannot be read. ``errored``: the API refused the request or failed. ``expired``: the batch ended before the
    #: request ran. ``canceled``: the batch was canceled first. ``missing``: the batch has no result for the request.
    status: str
    #: The answer's text blocks, joined. None if there is no answer, or no text in it.
    text: str | None = None
    #: The text as a JSON value. None without an output schema, or if the text does not satisfy it.
    output: Any = None
    #: Why the answer ended, in the API's words: ``end_turn``, ``max_tokens``, ``refusal`` … None without an answer.
    stop_reason: str | None = None
    #: The model that answered, with its full id. None without an answer.
    model: str | None = None
    #: Tokens used, as the API sent them. None without an answer, and for a duplicate or a reused answer, which are not
    #: paid for.
    usage: dict[str, Any] | None = None
    #: Price of the answer in US dollars, in decimal digits. ``"0"`` for a duplicate or a reused answer. None without an
    #: answer, or if the model's price is not known.
    cost_usd: str | None = None
    #: Why there is no valid answer: ``type`` and ``message``; ``request_id`` if the API sent one; ``path`` of the
    #: invalid place in the answer. None if the request succeeded. Rows that earlier versions landed also have None if
    #: it expired or was canceled.
    error: dict[str, Any] | None = None
    #: The message batch that the result came from. None if no result came.
    batch_id: str | None = None
    #: The request's id in that batch. None if no result came. For a reused answer, a name of the request in this
    #: submission.
    custom_id: str | None = None
    #: The whole message as the API sent it. None without an answer, or if it is not valid JSON.
    message: dict[str, Any] | None = None
    #: Earlier answers to the same request that were invalid and paid for too, oldest first: rows without ``index``,
    #: ``key`` and ``message``. None if there are none.
    replaced: list[dict[str, Any]] | None = None
    #: The result line as it came, if it was not in the API's form: ``reason``, and ``text`` or, if it is no text,
    #: ``base64``. What could be read of it is in the other fields, with U+FFFD for what is no character. None for
    #: ordinary results, which lose nothing.
    raw: dict[str, Any] | None = None
    #: Where a reused answer comes from: ``submission_id``, ``batch_id``, ``custom_id``, ``answered_at`` (ISO 8601, UTC)
    #: and ``cost_usd``, what it cost then. None for an answer of this submission.
    reused_from: dict[str, Any] | None = None
    #: ``direct`` for an answer of the Messages API, at full price (``on_timeout="ask_directly"``). It has no
    #: ``batch_id``. None for one of a message batch.
    way: str | None = None


#: The ``way`` of rows that the Messages API has answered.
DIRECT: Final = "direct"
NULL: Final = msgspec.Raw(b"null")


class RawLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A result line as it came: as text, or in base64 if it is no text.

    ``left_out`` is the number of bytes that were too many to be kept.
    """

    reason: str
    text: str | None = None
    base64: str | None = None
    left_out: int = 0

    @classmethod
    def of(cls, reason: str, line: bytes, left_out: int = 0) -> RawLine:
        """Keep the bytes of a line."""
        try:
            return cls(reason=reason, text=line.decode(), left_out=left_out)
        except UnicodeDecodeError:
            return cls(reason=reason, base64=base64.b64encode(line).decode(), left_out=left_out)


class ReusedFrom(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a reused answer comes from.

    ``cost_usd`` is what it cost then. It is ``"0"`` in the row of a duplicate, and None if it was not known.
    """

    submission_id: str
    batch_id: str
    custom_id: str
    answered_at: datetime
    cost_usd: str | None = None


class RowBody(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row without its index and key. The fields are in the order of :class:`Row`."""

    status: str
    text: str | None = None
    output: Any = None
    stop_reason: str | None = None
    model: str | None = None
    usage: msgspec.Raw = NULL
    cost_usd: str | None = None
    error: dict[str, Any] | None = None
    batch_id: str | None = None
    custom_id: str | None = None
    message: msgspec.Raw = NULL
    replaced: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET
    raw: RawLine | msgspec.UnsetType = msgspec.UNSET
    reused_from: ReusedFrom | msgspec.UnsetType = msgspec.UNSET
    way: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def decode(cls, body: bytes) -> RowBody:
        """Read the bytes that :meth:`encode` has written."""
        return _decoder.decode(b"{" + body)

    def encode(self) -> bytes:
        """Write the row as JSON, from ``"status":`` to the closing brace."""
        return _encoder.encode(self)[1:]


# Numbers of an output keep their digits.
_encoder = msgspec.json.Encoder(decimal_format="number")
_decoder = msgspec.json.Decoder(RowBody, float_hook=Decimal)


class _Head(msgspec.Struct, frozen=True, gc=False):
    index: int
    key: msgspec.Raw
    input: msgspec.Raw = msgspec.Raw()


_head = msgspec.json.Decoder(_Head)


def line_of(index: int, key: bytes, body: bytes, kept: bytes = b"") -> bytes:
    """Make the line of a row.

    :param key: as JSON.
    :param kept: the kept columns as a JSON object, empty if there are none.
    """
    if kept:
        return b'{"index":%d,"key":%b,"input":%b,%b\n' % (index, key, kept, body)
    return b'{"index":%d,"key":%b,%b\n' % (index, key, body)


def body_of_line(line: bytes) -> bytes:
    """Return the body of a row's line: what follows its index, its key and its kept columns.

    :raises ValueError: the line is not as :func:`line_of` has made it.
    :raises msgspec.MsgspecError: it is not a row.
    """
    row = _head.decode(line)
    head = line_of(row.index, bytes(row.key), b"", bytes(row.input)).rstrip(b"\n")
    if not line.startswith(head):
        raise ValueError("the line does not begin with index and key")
    return line[len(head) :].rstrip(b"\n")


def body_of_duplicate(body: bytes) -> bytes:
    """Make the row of a request that was not sent because an earlier one equals it: same answer, no cost."""
    row, own = RowBody.decode(body), dict[str, Any]()
    if row.reused_from:
        own["reused_from"] = msgspec.structs.replace(row.reused_from, cost_usd="0")
    return msgspec.structs.replace(
        row, usage=NULL, cost_usd="0", replaced=msgspec.UNSET, raw=msgspec.UNSET, **own
    ).encode()


def body_with_cost(body: bytes, cost_usd: str | None) -> bytes:
    """Replace the cost of a row."""
    return msgspec.structs.replace(RowBody.decode(body), cost_usd=cost_usd).encode()


def body_with_replaced(body: bytes, earlier: bytes) -> bytes:
    """Add an earlier row, which was paid for too, to the ``replaced`` answers of the row that takes its place."""
    row, old = map(RowBody.decode, (body, earlier))
    bare = msgspec.structs.replace(old, message=NULL, replaced=msgspec.UNSET)
    replaced = [*(old.replaced or ()), msgspec.Raw(_encoder.encode(bare))]
    return msgspec.structs.replace(row, replaced=replaced).encode()


def body_of_missing(reason: str) -> bytes:
    """Make the row of a request for which no result came."""
    return RowBody(status="missing", error={"type": "missing", "message": reason}).encode()
