"""Read the rows of several files as one source, file by file."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.file_format import NotTextError, text_lines
from airflow_claude_batch.batch.input.rows.columns import check_same, shown_path
from airflow_claude_batch.batch.input.rows.csv_rows import CsvRows
from airflow_claude_batch.batch.input.rows.json_rows import JsonRows
from airflow_claude_batch.batch.input.rows.parquet_rows import ParquetRows
from airflow_claude_batch.batch.input.rows.row_file import CSV, PARQUET, RowFile, format_of, suffix_of, text_errors
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError


class FileRowSource:
    """Rows of files, in the order of the files. All have the columns of the first file, which may be in another order.

    Example::

        file = RowFile("/data/a.csv", lambda: open("/data/a.csv", "rb"))
        for row in FileRowSource(lambda: [file]):
            print(row["id"])

    :param list_files: returns the files. Each iteration lists them anew.
    """

    def __init__(self, list_files: Callable[[], Sequence[RowFile]]) -> None:
        self._list_files = list_files
        self._columns: tuple[str, ...] = ()
        self._first_uri = ""
        self._reader: CsvRows | JsonRows | ParquetRows | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the first file. Empty before the first row, and if all files are empty texts."""
        return self._columns

    @property
    def place(self) -> str:
        """Where the last row stands: its line, or its row from 0, and its file."""
        return self._reader.place if self._reader else ""

    def __iter__(self) -> Iterator[SourceRow]:
        self._columns = ()
        for file in self._list_files():
            with file.opened() as raw:
                yield from self._rows(file.uri, raw)

    def _rows(self, uri: str, raw: io.RawIOBase) -> Iterator[SourceRow]:
        self._reader = reader = _reader_of(uri)
        rows = reader.read(raw) if isinstance(reader, ParquetRows) else _text_rows(reader, raw)
        first = next(rows, None)
        if not reader.columns:
            return  # a text without a line, not even a header
        self._check_columns(uri, reader.columns)
        if first is None:
            return
        columns = self._columns
        is_ordered = reader.columns == columns
        yield first if is_ordered else {name: first[name] for name in columns}
        yield from rows if is_ordered else ({name: row[name] for name in columns} for row in rows)

    def _check_columns(self, uri: str, columns: tuple[str, ...]) -> None:
        if not self._columns:
            self._columns, self._first_uri = columns, uri
        check_same(columns, self._columns, f"rows: {shown_path(uri)}", self._first_uri)


def _reader_of(uri: str) -> CsvRows | JsonRows | ParquetRows:
    format_ = format_of(uri)
    if format_ == PARQUET:
        return ParquetRows(uri)
    if format_ == CSV:
        return CsvRows(uri, "\t" if suffix_of(uri) == "tsv" else ",")
    return JsonRows(uri)


def _text_rows(reader: CsvRows | JsonRows, raw: io.RawIOBase) -> Iterator[SourceRow]:
    """Yield the rows of a text, packed with gzip or not, whatever its name says."""
    try:
        with text_errors(reader.uri, lambda: reader.line_number):
            yield from reader.read(text_lines(io.BufferedReader(raw, storage.BUFFER_BYTES)))
    except NotTextError as error:
        raise InputError(
            f"rows: {shown_path(reader.uri)} is {error.format}, not {format_of(reader.uri)}.",
            NOTHING_SENT,
            "Give the file a name that ends in its own format, or write it anew.",
        ) from None
