"""Read what can be read of result lines that are not in the API's form. Ordinary lines never come here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_claude_batch.api import wire
from airflow_claude_batch.api.lenient_json import LenientObject, read_object
from airflow_claude_batch.api.line_splitter import ShortenedLine
from airflow_claude_batch.batch.land.rows import NULL, RawLine

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n"
_CUSTOM_ID: Final = re.compile(rb'"custom_id"\s*:\s*"([^"\\\x00-\x1f]{1,256})"')
#: The beginning of a result in the middle of a line: the line end before it was lost.
_BEGINNING: Final = re.compile(rb'\{\s*"custom_id"')
#: What may stand before, between and behind results: blanks, and the marks of a list.
_SEPARATORS: Final = re.compile(rb"(?<=\})[\s,\]]+|[\s,\[]+(?=\{)|\s+")
#: Consecutive lines are read as one text up to this size, because a line end may stand unescaped in a string.
_MOST_JOINED_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OddLine:
    """A result that could not be read as it came, or something in its place.

    :param raw: the bytes as they came.
    :param reason: what is odd about them. It quotes nothing of them.
    :param custom_id: the id that they name, None if there is none to be found.
    :param result: the result, None if it cannot be read.
    :param may_be_damaged: reading the stream again may give other bytes.
    :param is_json: the line is an object, if perhaps not in standard JSON.
    :param left_out: the number of bytes that were too many to be kept.
    """

    raw: bytes
    reason: str
    custom_id: str | None = None
    result: wire.Result | None = None
    may_be_damaged: bool = True
    is_json: bool = False
    left_out: int = 0

    @property
    def raw_line(self) -> RawLine:
        """The bytes and the reason, as the row keeps them."""
        return RawLine.of(self.reason, self.raw, self.left_out)

    @classmethod
    def of_shortened(cls, line: ShortenedLine) -> OddLine:
        """Take the beginning and the end of a line that is too long."""
        reason = f"it is {len(line) + line.left_out:,} bytes long; {line.left_out:,} bytes in its middle are left out"
        return cls(bytes(line), reason, find_custom_id(line), may_be_damaged=False, left_out=line.left_out)

    @classmethod
    def joined(cls, lines: Sequence[OddLine]) -> OddLine:
        """Join the lines that may be the result of one request."""
        if len(lines) == 1:
            return lines[0]
        left_out = sum(line.left_out for line in lines)
        return cls(b"\n".join(line.raw for line in lines), lines[0].reason, left_out=left_out)


class _LooseLine(msgspec.Struct, gc=False):
    custom_id: Any = None
    result: msgspec.Raw = NULL


class _LooseResult(msgspec.Struct, gc=False):
    type: Any = None
    message: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_KNOWN_TYPES: Final = frozenset({"succeeded", "errored", "expired", "canceled"})
_loose_line = msgspec.json.Decoder(_LooseLine)
_loose_result = msgspec.json.Decoder(_LooseResult)


def without_mark(line: bytes) -> bytes:
    """Remove a byte order mark, which is no part of the line."""
    return line.removeprefix(_BYTE_ORDER_MARK)


def read_odd_line(line: bytes) -> OddLine:
    """Read one line that is not a result in the API's form."""
    start = len(line) - len(line.lstrip(_BLANKS))
    value = read_object(line, start)
    if value is None or line[value.end :].strip(_BLANKS):
        return OddLine(line, "it is not JSON", find_custom_id(line))
    return _odd_object(line, value)


def read_odd_lines(lines: Iterable[tuple[int, bytes]]) -> list[OddLine]:
    """Read lines that are not results by themselves, given with their numbers.

    A line end may stand unescaped in a string, so that one result is on several lines. Or a line end was lost, so that
    several results are on one line.
    """
    return [odd for text in _consecutive(lines) for odd in _parts(text)]


def find_custom_id(raw: bytes) -> str | None:
    """Find the custom_id in what is not JSON as a whole."""
    found = _CUSTOM_ID.search(raw)
    return found[1].decode(errors="replace") if found else None


def _consecutive(lines: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Join lines that came one after another."""
    joined: list[bytes] = []
    size, expected = 0, -1
    for number, line in lines:
        if joined and (number != expected or size + len(line) > _MOST_JOINED_BYTES):
            yield b"\n".join(joined)
            joined, size = [], 0
        joined.append(line)
        size, expected = size + len(line), number + 1
    if joined:
        yield b"\n".join(joined)


def _parts(text: bytes) -> Iterator[OddLine]:
    """Cut a text into the results in it and the pieces that are none."""
    place = 0
    while place < len(text):
        if (between := _SEPARATORS.match(text, place)) is not None:
            place = between.end()
        elif (value := read_object(text, place)) is not None:
            yield _odd_object(text[place : value.end], value, is_part=True)
            place = value.end
        else:
            end = _next_place(text, place)
            piece = text[place:end].strip(_BLANKS)
            yield OddLine(piece, "it is not JSON", find_custom_id(piece))
            place = end


def _next_place(text: bytes, place: int) -> int:
    """Return where the next result may begin."""
    line_end = text.find(b"\n", place)
    end = len(text) if line_end < 0 else line_end + 1
    beginning = _BEGINNING.search(text, place + 1, end)
    return beginning.start() if beginning else end


def _odd_object(raw: bytes, value: LenientObject, *, is_part: bool = False) -> OddLine:
    """Read an object.

    :param is_part: the line holds more than the object. So it may be damaged, and a result of an unknown type with
        nothing in it may be what is left of an answer.
    """
    loose = _loose_line.decode(value.json)
    custom_id = loose.custom_id if isinstance(loose.custom_id, str) and loose.custom_id else None
    result = _result(loose.result)
    if result is not None and (is_part or value.may_be_damaged) and _may_have_lost_an_answer(result):
        result = None
    problems = sorted(value.problems)
    if result is None:
        problems.append("no result in the API's form")
    if custom_id is None:
        problems.append("no custom_id")
    reason = f"it has {', '.join(problems)}" if problems else "it is not in the API's form"
    return OddLine(raw, reason, custom_id, result, value.may_be_damaged, is_json=True)


def _may_have_lost_an_answer(result: wire.Result) -> bool:
    return result.type not in _KNOWN_TYPES and result.message is None and result.error is None


def _result(raw: msgspec.Raw) -> wire.Result | None:
    try:
        loose = _loose_result.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if isinstance(loose.type, str):
        return wire.Result(loose.type, loose.message, loose.error)
    if loose.message != NULL:
        return wire.Result("succeeded", loose.message, loose.error)
    return wire.Result("errored", loose.message, loose.error) if loose.error != NULL else None
