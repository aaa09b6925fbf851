"""Find rows and requests for the page: the first ones, those without an answer, and one by its key.

Each search stops when it has found what is shown, or when the budget is spent. Then it says how far it has looked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.canonical_json import canonical
from airflow_claude_batch.batch.input.json_encoder import encode_json
from airflow_claude_batch.batch.input.request_lines import KEY_START
from airflow_claude_batch.web.bounded_folder import BoundedFolder
from airflow_claude_batch.web.row_lines import LandedRows, Line, LineFile, LineReader, read_chunks, read_line
from airflow_claude_batch.web.shown_row import ShownRow, fields_of, show_row

#: Rows of a page.
PAGE_ROWS: Final = 20
#: What comes before the key of a row, and how many digits an index may have.
_ROW_HEAD: Final = b'{"index":'
_MAX_HEAD_BYTES: Final = len(_ROW_HEAD) + 10


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Some rows, and where a search goes on.

    :param next_position: of the first line that was not looked at. None if all were.
    :param size: bytes of all rows.
    """

    rows: Sequence[ShownRow]
    next_position: int | None
    size: int


class _Status(msgspec.Struct):
    status: str


_status: Final = msgspec.json.Decoder(_Status).decode


def list_rows(
    folder: BoundedFolder, landed: LandedRows, position: int = 0, *, failed: bool = False, most: int = PAGE_ROWS
) -> FoundRows:
    """Return the next rows from a position on.

    :param failed: only those without a valid answer.
    :param most: how many rows to return.
    :raises OSError: the storage cannot be read.
    """
    rows, reader = list[ShownRow](), LineReader(folder, landed.files, position)
    for file, line in reader:
        if len(rows) >= most:
            return FoundRows(rows, line.position, landed.size)
        if failed and _has_succeeded(line):
            continue
        row = show_row(line)
        if row.index is None or not landed.is_superseded(file, row.index):
            rows.append(row)
    return FoundRows(rows, reader.position if reader.position < landed.size else None, landed.size)


def _has_succeeded(line: Line) -> bool:
    if not line.is_cut:
        try:
            return _status(line.data).status == "succeeded"
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False
    fields, _ = fields_of(line, max_bytes=len(line.data))
    return fields is not None and fields.get("status") == "succeeded"


def row_at(folder: BoundedFolder, landed: LandedRows, position: int) -> Line | None:
    """Return the line of the row at a position.

    :raises OSError: the storage cannot be read.
    """
    found = read_line(folder, landed.files, position)
    return None if found is None else found[1]


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line that was searched for.

    :param next_position: where the search goes on. None if the line was found, or if all was looked at.
    """

    line: Line | None
    next_position: int | None


def find_key(folder: BoundedFolder, landed: LandedRows, key: str, position: int = 0) -> FoundLine:
    """Find the row with a key, by searching the bytes of its beginning.

    :param key: a text, or a number or an object as JSON.
    :raises OSError: the storage cannot be read.
    """
    needles = [b',"key":%b,"' % form for form in key_forms(key)]
    for file in landed.files:
        if position >= file.end:
            continue
        found = _find(folder, file, max(position, file.start), needles, _start_of_row)
        if found.next_position is not None:
            return found
        if found.line is not None and not _is_superseded(landed, file, found.line):
            return found
    return FoundLine(None, None)


def _is_superseded(landed: LandedRows, file: LineFile, line: Line) -> bool:
    index = show_row(line).index
    return index is not None and landed.is_superseded(file, index)


def find_request(folder: BoundedFolder, file: LineFile, keys: Sequence[bytes], position: int = 0) -> FoundLine:
    """Find the request that has one of these keys.

    :param file: ``requests.jsonl``.
    :param keys: as JSON.
    :raises OSError: the storage cannot be read.
    """
    offset = KEY_START - len(b',"key":')
    needles = [b',"key":%b,"params":' % key for key in keys]
    return _find(folder, file, position, needles, lambda _, at: at - offset)


def find_request_by_hash(folder: BoundedFolder, file: LineFile, hash_: bytes, position: int = 0) -> FoundLine:
    """Find the first request with a content hash. Those after it are equal, and were not sent.

    :param file: ``requests.jsonl``.
    :raises OSError: the storage cannot be read.
    """
    return _find(folder, file, position, [b'{"hash":"%b","key":' % hash_], lambda _, at: at)


def key_forms(text: str) -> list[bytes]:
    """Return how the key that a person has written may stand in the files: as a text, or as other JSON.

    >>> key_forms("12")
    [b'"12"', b'12']
    """
    forms = [encode_json(text.encode(errors="replace").decode())]
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return forms
    try:
        forms.append(canonical(encode_json(value)))
        forms.append(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode())
    except (ValueError, TypeError, RecursionError):
        pass
    return list(dict.fromkeys(forms))


def _start_of_row(before: bytes, at: int) -> int | None:
    """Return where the row begins whose key was found, None if the match is not the key of a row.

    :param before: the bytes up to the match.
    :param at: position of the match.
    """
    head = before[-_MAX_HEAD_BYTES:].rpartition(b"\n")[2]
    start = head.find(_ROW_HEAD)
    digits = head[start + len(_ROW_HEAD) :]
    return at - len(_ROW_HEAD) - len(digits) if start >= 0 and digits.isdigit() else None


def _find(
    folder: BoundedFolder,
    file: LineFile,
    position: int,
    needles: Sequence[bytes],
    start_of: Callable[[bytes, int], int | None],
) -> FoundLine:
    """Search a file for any of the needles.

    :param start_of: returns where the line of a match begins, None if it is another one.
    """
    overlap = max(map(len, needles)) + _MAX_HEAD_BYTES + KEY_START
    before, looked_up_to = b"", position
    for at, data in read_chunks(folder, file, position):
        window, first = before + data, at - len(before)
        for match in _matches(window, needles):
            start = start_of(window[:match], first + match)
            if start is not None and (found := read_line(folder, [file], start)) is not None:
                return FoundLine(found[1], None)
        before, looked_up_to = window[-overlap:], at + len(data)
    return FoundLine(None, max(position, looked_up_to - overlap) if looked_up_to < file.end else None)


def _matches(window: bytes, needles: Sequence[bytes]) -> Iterator[int]:
    for needle in needles:
        at = window.find(needle)
        while at >= 0:
            yield at
            at = window.find(needle, at + 1)
