"""Reads the elements of a file: JSON lines, or one JSON array, packed or not.

Only one line is in memory at a time. JSON that goes over several lines is read as a whole.
"""

from __future__ import annotations

import errno
import gzip
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from io import BufferedReader
from itertools import islice
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.limits import MAX_BATCH_BYTES
from airflow_claude_batch.batch.input.file_format import (
    NOTHING_SENT,
    UTF8_MARK,
    Lines,
    folder_error,
    is_json_array_file,
    missing_error,
    open_lines,
)
from airflow_claude_batch.batch.input.json_text import (
    NotJsonError,
    TextError,
    explain_bytes,
    is_beginning,
    read_values,
)
from airflow_claude_batch.exceptions import ConfigurationError, InputError, InvalidMessageError

#: Lines of files up to this length are read in memory.
_LONG_LINE_BYTES: Final = 4 * 1024 * 1024
#: JSON that goes over several lines is held in memory as a whole, so it may not be longer.
_LONGEST_DOCUMENT: Final = 64 * 1024 * 1024
#: Strings, brackets and commas in a longer line. A list takes three bytes in the file and 64 in memory.
_MOST_TOKENS: Final = 2_000_000
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


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
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"messages: {self.uri} breaks off after line {self.line_number}: its gzip data is cut or damaged.",
                NOTHING_SENT,
                "Write the file again, whole.",
            ) from error
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise missing_error(self.uri, self._location) from None
        except UnicodeDecodeError as error:
            raise self._error(
                TextError(f"is not {error.encoding.upper()}", "Write the file again, in UTF-8."), self.line_number + 1
            ) from None

    def _values(self, file: Lines) -> Iterator[Any]:
        lines = self._lines(file)
        first = next(lines, None)
        if first is None:
            return
        first_number = self.line_number
        try:
            value = _decode(first)
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
            return _decode(line)
        except ValueError:
            raise self._error(_explain(line), self.line_number) from None

    def _document(self, first: bytes, lines: Iterator[bytes]) -> Iterator[Any]:
        """Read JSON that goes over several lines, such as a pretty-printed array."""
        start = self.line_number
        if len(first) > _LONG_LINE_BYTES or not _is_beginning(first):
            raise self._error(_explain(first), start)
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
            values = read_values(self._of_few_values(bytes(document)).decode())
        except NotJsonError as error:
            raise self._error(error.error, start + error.error.line - 1) from None
        yield from values[0] if len(values) == 1 and self._is_array(values[0]) else values

    def _error(self, error: TextError, line: int) -> InvalidMessageError:
        return InvalidMessageError(f"messages: line {line} of {self.uri} {error.problem}.", NOTHING_SENT, error.remedy)

    def _lines(self, file: Lines) -> Iterator[bytes]:
        """Yield the lines that are not blank, without the byte order marks that joined files have inside."""
        for part in iter(partial(file.readline, _LONG_LINE_BYTES), b""):
            is_whole = len(part) < _LONG_LINE_BYTES or part.endswith(b"\n")
            line = part if is_whole else self._long_line(part, file)
            self.line_number += 1
            if (line := line.removeprefix(UTF8_MARK)).strip():
                yield line

    def _long_line(self, beginning: bytes, file: Lines) -> bytes:
        """Read the rest of a line by way of the disk: a small file can unpack to a line of any length.

        :raises InvalidMessageError: the line is longer than any request.
        """
        with tempfile.TemporaryFile() as line:
            part = beginning
            while part:
                line.write(part)
                if line.tell() > MAX_BATCH_BYTES:
                    raise InvalidMessageError(
                        f"messages: line {self.line_number + 1} of {self.uri} has more than {MAX_BATCH_BYTES:,} bytes.",
                        f"{NOTHING_SENT} A whole batch may have no more.",
                        "Write each element on a line of its own, and pass large documents by reference (Files API).",
                    )
                part = b"" if part.endswith(b"\n") else file.readline(_LONG_LINE_BYTES)
            line.seek(0)
            return self._of_few_values(line.read())

    def _of_few_values(self, line: bytes) -> bytes:
        """Return a long line whose values fit in memory.

        :raises InvalidMessageError: it has more values than any request.
        """
        if next(islice(_TOKEN.finditer(line), _MOST_TOKENS, None), None) is not None:
            raise InvalidMessageError(
                f"messages: line {self.line_number + 1} of {self.uri} has millions of values.",
                f"{NOTHING_SENT} They would not fit into this worker's memory, and no model reads so many.",
                "Write each element on a line of its own, and large data as text.",
            )
        return line


def _decode(line: bytes) -> Any:
    """Decode a line.

    :raises ValueError: it is not JSON.
    """
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:  # with msgspec 0.19 its errors are no ValueErrors
        raise ValueError from error


def _explain(line: bytes) -> TextError:
    """Explain why a line is no JSON. To look for the place in a long one would take its memory several times."""
    if len(line) > _LONG_LINE_BYTES:
        return TextError("is not JSON", "Write each element as JSON on a line of its own.")
    return explain_bytes(line)


def _is_beginning(line: bytes) -> bool:
    try:
        return is_beginning(line.decode())
    except UnicodeDecodeError:
        return False
