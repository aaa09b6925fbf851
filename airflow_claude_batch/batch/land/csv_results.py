"""Rows as a CSV file, for people and spreadsheets. ``results.jsonl`` stays beside it.

* UTF-8 with a byte order mark: without one, Excel reads letters beyond ASCII as others. Lines end in CR LF (RFC 4180).
* A text that a spreadsheet would run as a formula gets an apostrophe before it (OWASP, "CSV injection"): answers are
  made of data that strangers may have written.
* Objects are columns with a dot in their names, other nested values are JSON text. Null is an empty cell.
* The last column, ``exact``, is JSON text for :func:`read_csv`: the row without its text and the whole messages.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.land.row_layout import EXACT, RowLayout, free_name, reserved_names
from airflow_claude_batch.batch.land.row_records import RawRow
from airflow_claude_batch.batch.land.rows import NULL, Row
from airflow_claude_batch.batch.land.table_types import ColumnType, StructType
from airflow_claude_batch.exceptions import ResultsError

CSV_FILE: Final = "results.csv"

_MARK: Final = "\ufeff"
_Path = tuple[str, ...]
#: Fields that are in no column and not in ``exact``: the whole messages, as they came.
_LEFT_OUT: Final = frozenset({"text", "message", "replaced", "raw"})
_FORMULA: Final = re.compile(r"'*[=+\-@\t\r\n]")
_NUMBER: Final = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_NESTED: Final = ("key", "input", "output", "error", "reused_from")
#: What columns tell of a reused answer.
_REUSED: Final = ("submission_id", "answered_at", "cost_usd")

_any = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def write_csv(folder: storage.Folder, lines: Iterable[bytes], layout: RowLayout | None = None) -> None:
    """Replace ``results.csv`` as a whole, one row in memory at a time.

    :param lines: rows as in ``results.jsonl``.
    :param layout: the columns. Default: one for the key, and none for the output.
    """
    columns = _columns(RowLayout() if layout is None else layout)
    decoder = msgspec.json.Decoder(RawRow)
    with folder.replace_file(CSV_FILE) as file:
        text = _Utf8(file)
        text.write(_MARK)
        writer = csv.writer(text)
        writer.writerow([*(guard_formula(name) for name, _ in columns), EXACT])
        writer.writerows(_cells(decoder.decode(line), [path for _, path in columns]) for line in lines)


def read_csv(file: IO[bytes], *, path: str = CSV_FILE) -> Iterator[Row]:
    """Yield the rows of a CSV file, without ``message``, ``replaced`` and ``raw``.

    What a person has changed in the other columns than ``text`` does not count.

    :param path: the file's name in an error.
    :raises ResultsError: the file is damaged, or it is not one of :func:`write_csv`.
    """
    csv.field_size_limit(sys.maxsize)  # of the process; an answer may be longer than the default, 131,072 characters
    text = io.TextIOWrapper(file, "utf-8-sig", newline="")
    lines = csv.reader(text, strict=True)
    rows = _read(lines)
    try:
        while (row := _next(rows, lines, path)) is not None:
            yield row
    finally:
        text.detach()


class _Utf8:
    """Writes text to a file of bytes, which stays open. A TextIOWrapper closes it, also after an error."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        return self._file.write(text.encode())


def _next(rows: Iterator[Row], lines: Any, path: str) -> Row | None:
    try:
        return next(rows, None)
    except (
        *(csv.Error, OSError, LookupError, TypeError, AttributeError),
        *(msgspec.MsgspecError, ValueError, RecursionError),
    ) as error:
        raise ResultsError(
            f"Line {lines.line_num} of {path} is damaged ({type(error).__name__}).",
            "Answers of message batches stay at the API for 29 days; a retry downloads them at no cost.",
            "Read results.jsonl beside it, or restore the file.",
        ) from None


def _read(lines: Iterator[list[str]]) -> Iterator[Row]:
    header = next(lines, [])
    exact, text = header.index(EXACT), header.index("text")
    for cells in lines:
        fields = _any.decode(cells[exact])
        yield msgspec.convert({"text": _unguarded(cells[text]) or None, **fields}, Row)


def _columns(layout: RowLayout) -> list[tuple[str, _Path]]:
    """Return the name of each column, and where its value is in a row."""
    inputs = [(column.column, ("input", column.name)) for column in layout.inputs]
    taken = reserved_names().union(name.casefold() for name, _ in inputs)
    return [
        *_flattened(("key",), layout.key, taken),
        *inputs,
        ("status", ("status",)),
        *(() if layout.output is None else _flattened(("output",), layout.output, taken)),
        ("text", ("text",)),
        *((free_name(f"error.{name}", taken), ("error", name)) for name in ("type", "message")),
        *((name, (name,)) for name in ("cost_usd", "stop_reason", "model")),
        *((free_name(f"reused_from.{name}", taken), ("reused_from", name)) for name in _REUSED if layout.reused),
        *((name, (name,)) for name in ("way",) if layout.has_way),
    ]


def _flattened(path: _Path, type_: ColumnType, taken: set[str]) -> Iterator[tuple[str, _Path]]:
    if not isinstance(type_, StructType):
        yield free_name(".".join(path), taken) if len(path) > 1 else path[0], path
        return
    for field in type_.fields:
        yield from _flattened((*path, field.name), field.type, taken)


def _cells(row: RawRow, paths: list[_Path]) -> list[str]:
    values: dict[str, Any] = {name: getattr(row, name) for name in RawRow.__struct_fields__}
    exact = {name: value for name, value in values.items() if name not in _LEFT_OUT and value not in (None, NULL)}
    for name in _NESTED:
        values[name] = _any.decode(values[name])
    cells = [_cell(_value_at(values, path)) for path in paths]
    if row.text == "":  # an empty cell is None
        exact["text"] = ""
    return [*cells, _encoder.encode({"key": None, **exact}).decode()]


def _value_at(value: Any, path: _Path) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return guard_formula(value) if isinstance(value, str) else _encoder.encode(value).decode()


def guard_formula(text: str) -> str:
    """Put an apostrophe before a formula. A text that looks as if it had one already gets another one."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
