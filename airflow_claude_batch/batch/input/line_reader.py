"""Read the lines of a file of JSON, one by one: one line is in memory at a time, and only if its values fit there."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, Final

import msgspec

from airflow_claude_batch.api.limits import MAX_BATCH_BYTES
from airflow_claude_batch.batch.input.file_format import UTF8_MARK, Lines
from airflow_claude_batch.batch.input.json_text import TextError, explain_bytes
from airflow_claude_batch.exceptions import NOTHING_SENT, InvalidMessageError

#: Lines of files up to this length are read in memory.
LONG_LINE_BYTES: Final = 4 * 1024 * 1024
#: Strings, brackets and commas in a longer line. A list takes three bytes in the file and 64 in memory.
_MOST_TOKENS: Final = 2_000_000
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{,]', re.DOTALL)


class LineReader:
    """The lines of a file.

    :param uri: the path or URI, for errors.
    :param argument: which argument named the file, for errors.
    :param noun: what a line holds, for errors.
    """

    def __init__(self, uri: str, *, argument: str = "messages", noun: str = "element") -> None:
        self.uri = uri
        #: The number of the line that was read last, from 1.
        self.line_number = 0
        self._argument = argument
        self._noun = noun

    def read(self, file: Lines) -> Iterator[bytes]:
        """Yield the lines that are not blank, without the byte order marks that joined files have inside.

        :raises InvalidMessageError: a line is longer than any request, or has more values.
        """
        for part in iter(partial(file.readline, LONG_LINE_BYTES), b""):
            is_whole = len(part) < LONG_LINE_BYTES or part.endswith(b"\n")
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
                        f"{self._next_line} has more than {MAX_BATCH_BYTES:,} bytes.",
                        f"{NOTHING_SENT} A whole batch may have no more.",
                        f"Write each {self._noun} on a line of its own, and pass large documents by reference "
                        "(Files API).",
                    )
                part = b"" if part.endswith(b"\n") else file.readline(LONG_LINE_BYTES)
            line.seek(0)
            return self.of_few_values(line.read())

    def of_few_values(self, line: bytes) -> bytes:
        """Return a long line whose values fit in memory.

        :raises InvalidMessageError: it has more values than any request.
        """
        if next(islice(_TOKEN.finditer(line), _MOST_TOKENS, None), None) is not None:
            raise InvalidMessageError(
                f"{self._next_line} has millions of values.",
                f"{NOTHING_SENT} They would not fit into this worker's memory, and no model reads so many.",
                f"Write each {self._noun} on a line of its own, and large data as text.",
            )
        return line

    @property
    def _next_line(self) -> str:
        return f"{self._argument}: line {self.line_number + 1} of {self.uri}"


def decode_line(line: bytes) -> Any:
    """Decode a line.

    :raises ValueError: it is not JSON.
    """
    try:
        return msgspec.json.decode(line)
    except (msgspec.MsgspecError, RecursionError) as error:  # with msgspec 0.19 its errors are no ValueErrors
        raise ValueError from error


def explain_line(line: bytes) -> TextError:
    """Explain why a line is no JSON. To look for the place in a long one would take its memory several times."""
    if len(line) > LONG_LINE_BYTES:
        return TextError("is not JSON", "Write each element as JSON on a line of its own.")
    return explain_bytes(line)
