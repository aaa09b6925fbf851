"""Reads the elements of a file: JSON lines, or one JSON array, packed or not.

Only one line is in memory at a time. JSON that goes over several lines is read as a whole.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from io import BufferedReader
from typing import Any, Final

from airflow_claude_batch.batch.input.file_format import (
    GZIP_ERRORS,
    Lines,
    cut_gzip_error,
    folder_error,
    is_json_array_file,
    missing_error,
    open_lines,
)
from airflow_claude_batch.batch.input.json_text import NotJsonError, TextError, is_beginning, read_values
from airflow_claude_batch.batch.input.line_reader import LONG_LINE_BYTES, LineReader, decode_line, explain_line
from airflow_claude_batch.exceptions import NOTHING_SENT, ConfigurationError, InvalidMessageError

#: JSON that goes over several lines is held in memory as a whole, so it may not be longer.
_LONGEST_DOCUMENT: Final = 64 * 1024 * 1024


class MessageFile(Iterator[Any]):
    """The elements of a file.

    :param uri: the path or URI, for errors.
    :param location: where it is looked for, if ``uri`` does not say that.
    :param open_file: opens the file.
    :raises InputError: the file is missing, or not JSON; names the line and the remedy. Raised while iterating.
    """

    def __init__(
        self, uri: str, open_file: Callable[[], AbstractContextManager[BufferedReader]], *, location: str | None = None
    ) -> None:
        self.uri = uri
        self._location = location
        self.line_number = 0
        self._reader = LineReader(uri)
        self._is_document = False
        self._open_file = open_file
        self._elements = self._read()

    def __next__(self) -> Any:
        return next(self._elements)

    @property
    def place(self) -> str:
        """Where the last element stands: its line, unless the file is one array."""
        return self.uri if self._is_document else f"line {self.line_number} of {self.uri}"

    def _read(self) -> Iterator[Any]:
        try:
            with self._open_file() as raw:
                yield from self._values(open_lines(raw, self.uri))
        except (FileNotFoundError, NotADirectoryError):
            raise missing_error(self.uri, self._location) from None
        except IsADirectoryError:
            raise folder_error(self.uri) from None
        except PermissionError as error:
            raise ConfigurationError(
                f"messages: this worker may not read {self.uri}.",
                NOTHING_SENT,
                "Let its user, or the connection that the URI names, read the file.",
            ) from error
        except GZIP_ERRORS as error:
            raise cut_gzip_error("messages", self.uri, self.line_number) from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise missing_error(self.uri, self._location) from None
        except UnicodeDecodeError as error:
            raise self._error(
                TextError(f"is not {error.encoding.upper()}", "Write the file again, in UTF-8."), self.line_number + 1
            ) from None

    def _lines(self, file: Lines) -> Iterator[bytes]:
        for line in self._reader.read(file):
            self.line_number = self._reader.line_number
            yield line

    def _values(self, file: Lines) -> Iterator[Any]:
        lines = self._lines(file)
        first = next(lines, None)
        if first is None:
            return
        first_number = self.line_number
        try:
            value = decode_line(first)
        except ValueError:
            yield from self._document(first, lines)
            return
        second = next(lines, None)
        if second is None and self._is_array(value):
            self._is_document = True
            yield from value
            return
        second_number, self.line_number = self.line_number, first_number
        yield value
        self.line_number = second_number
        if second is not None:
            yield self._decode_line(second)
        yield from map(self._decode_line, lines)

    def _is_array(self, value: Any) -> bool:
        """Return True for the list of all elements. A line of JSON lines with a list of messages is one element."""
        if not isinstance(value, list):
            return False
        is_conversation = bool(value) and all(isinstance(item, Mapping) and "role" in item for item in value)
        return not is_conversation or is_json_array_file(self.uri)

    def _decode_line(self, line: bytes) -> Any:
        try:
            return decode_line(line)
        except ValueError:
            raise self._error(explain_line(line), self.line_number) from None

    def _document(self, first: bytes, lines: Iterator[bytes]) -> Iterator[Any]:
        """Read JSON that goes over several lines, such as a pretty-printed array."""
        start = self.line_number
        if len(first) > LONG_LINE_BYTES or not _is_beginning(first):
            raise self._error(explain_line(first), start)
        self._is_document = True
        document, number = bytearray(first), start
        for line in lines:
            document += b"\n" * (self.line_number - number - 1) + line  # with the blank lines, for the line of an error
            number = self.line_number
            if len(document) > _LONGEST_DOCUMENT:
                raise self._error(
                    TextError(
                        f"begins JSON over several lines, with more than {_LONGEST_DOCUMENT:,} bytes",
                        "Write each element on a line of its own: jq -c '.[]' old.json > new.jsonl",
                    ),
                    start,
                )
        try:
            values = read_values(self._reader.of_few_values(bytes(document)).decode())
        except NotJsonError as error:
            raise self._error(error.error, start + error.error.line - 1) from None
        yield from values[0] if len(values) == 1 and self._is_array(values[0]) else values

    def _error(self, error: TextError, line: int) -> InvalidMessageError:
        return InvalidMessageError(f"messages: line {line} of {self.uri} {error.problem}.", NOTHING_SENT, error.remedy)


def _is_beginning(line: bytes) -> bool:
    try:
        return is_beginning(line.decode())
    except UnicodeDecodeError:
        return False
