"""Split a stream of bytes into lines, at ``\\n`` only.

Result lines are JSON, whose strings may hold U+2028, U+0085 and other characters that ``str.splitlines`` and
``httpx.Response.iter_lines`` treat as line ends. Those would break a row in two.
"""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.exceptions import MalformedResponseError

#: Many times the longest answer. A stream without line ends must not fill the memory.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
#: A longer line is shortened if it ends within this many bytes. So it costs no other line anything.
MAX_SHORTENED_BYTES: Final = 4 * MAX_LINE_BYTES
#: What is kept of a shortened line: its beginning, and its end, where the custom_id may stand.
_HEAD_BYTES: Final = 1024 * 1024
_TAIL_BYTES: Final = 4096


class UnendedLine(bytes):
    """The last line of a stream, if it came without its ``\\n``. The stream may have been cut in it."""


class ShortenedLine(bytes):
    """The beginning and the end of a line that was too long to be kept, with a line end between them.

    :ivar left_out: the number of bytes between them.
    """

    left_out: int = 0


class LineSplitter:
    """Collects chunks of any size and returns whole lines without their ``\\n``. Blank lines are left out.

    :param max_bytes: the longest line, including what is left out of a :class:`ShortenedLine`.
    """

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._length = 0
        self._head = b""  # of a line that is being shortened

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes.

        :raises MalformedResponseError: a line is longer than ``max_bytes``.
        """
        first, *others = chunk.split(b"\n")
        self._pieces.append(first)
        self._length += len(first)
        if self._length > MAX_LINE_BYTES:
            self._shorten()
        if not others:
            return []
        lines = self._finish()
        self._pieces.append(others.pop())
        self._length = len(self._pieces[0])
        lines += [line for line in others if line and not line.isspace()]
        return lines

    def end(self) -> list[bytes]:
        """Return the last line if it is not blank. It needs no ``\\n``."""
        return [UnendedLine(line) for line in self._finish()]

    def _finish(self) -> list[bytes]:
        line = b"".join(self._pieces)
        if self._head:
            left_out = self._length - len(self._head) - len(line)
            line = ShortenedLine(self._head + b"\n" + line)  # with a line end in it, it is no JSON
            line.left_out = left_out
        self._pieces.clear()
        self._length, self._head = 0, b""
        return [line] if line.strip() else []

    def _shorten(self) -> None:
        """Keep only the beginning and the end of the line that is being collected."""
        if self._length > self._max_bytes:
            raise MalformedResponseError(f"A line of the results has more than {self._max_bytes:,} bytes.")
        line = b"".join(self._pieces)
        if not self._head:
            self._head, line = line[:_HEAD_BYTES], line[_HEAD_BYTES:]
        self._pieces = [line[-_TAIL_BYTES:]]
