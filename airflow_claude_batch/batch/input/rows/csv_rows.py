"""Read the rows of a CSV file. All values are texts, and an empty field is an empty text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from airflow_claude_batch.batch.input.file_format import UTF8_MARK, Lines
from airflow_claude_batch.batch.input.rows.columns import check_names, shown_path
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

#: A quote that is never closed takes all lines up to the end of the file. ``csv`` holds four bytes for a character.
_LONGEST_ROW: Final = 64 * 1024 * 1024
_QUOTING: Final = (
    'Put quotes around fields with separators, quotes or line breaks, and double the quotes inside: "a ""b""".'
)
#: A separator between two names.
_OTHER_DELIMITER: Final = re.compile(r"""\w["']?([;\t|])["']?\w""")
#: What the messages of ``csv`` mean, by words in them.
_PROBLEMS: Final = {
    "unexpected end": "begins a field in quotes that do not end",
    "expected after": "has a text after closing quotes",
    "new-line character": "has a carriage return outside of quotes",
}


class CsvRows:
    """Rows of a CSV file, whose first line names the columns.

    :param uri: the path or URI, for errors.
    :param delimiter: what separates fields.
    """

    def __init__(self, uri: str, delimiter: str = ",") -> None:
        self.uri = uri
        #: Empty until the first line is read, and for an empty file.
        self.columns: tuple[str, ...] = ()
        #: The last line that was read, from 1, and the one on which the last row begins.
        self.line_number = 0
        self._first_line = 0
        self._delimiter = delimiter
        self._row_bytes = 0
        csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_ROW))  # it holds for the whole process

    @property
    def place(self) -> str:
        return f"line {self._first_line} of {self.uri}"

    def read(self, lines: Lines) -> Iterator[SourceRow]:
        """Yield the rows.

        :raises InputError: it is not CSV, a row has more or fewer fields than the header, or a name is not unique.
        """
        records = self._records(self._texts(lines))
        header = next(records, None)
        if header is None:
            return
        self._check_delimiter(header)
        self.columns = check_names(header, f"rows: the header of {shown_path(self.uri)}")
        width = len(self.columns)
        for values in records:
            if len(values) != width:
                raise self._error(f"has {quantity(len(values), 'field')}, its header {width}", _QUOTING)
            yield dict(zip(self.columns, values, strict=True))

    def _records(self, texts: Iterator[str]) -> Iterator[list[str]]:
        """Yield the fields of each record. Blank lines are none."""
        reader = csv.reader(texts, delimiter=self._delimiter, strict=True)
        try:
            for values in reader:
                self._row_bytes = 0
                if values:
                    yield values
                self._first_line = self.line_number + 1
        except csv.Error as error:
            problem = next((words for key, words in _PROBLEMS.items() if key in str(error)), "is not CSV")
            raise self._error(problem, _QUOTING) from None

    def _texts(self, lines: Lines) -> Iterator[str]:
        self._first_line = 1
        for line in iter(partial(lines.readline, _LONGEST_ROW), b""):
            self._row_bytes += len(line)
            if self._row_bytes >= _LONGEST_ROW:
                raise self._error(
                    f"begins a row of more than {_LONGEST_ROW:,} bytes",
                    f"If no value is that long, a quote is not closed. {_QUOTING}",
                )
            text = (line if self.line_number else line.removeprefix(UTF8_MARK)).decode()
            self.line_number += 1
            yield text

    def _check_delimiter(self, header: list[str]) -> None:
        found = _OTHER_DELIMITER.search(header[0])
        if len(header) == 1 and found and self._delimiter == ",":
            raise self._error(
                f"has no comma, but {found[1]!r}: another separator",
                "Write the file with commas. One with tabs must have a name that ends in .tsv.",
            )

    def _error(self, problem: str, remedy: str) -> InputError:
        return InputError(f"rows: line {self._first_line} of {shown_path(self.uri)} {problem}.", NOTHING_SENT, remedy)
