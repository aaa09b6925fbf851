"""Split a stream of bytes into lines, at ``\\n`` only.

Result lines are JSON, whose strings may hold U+2028, U+0085 and other characters that ``str.splitlines`` and
``httpx.Response.iter_lines`` treat as line ends. Those would break a row in two.
"""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.exceptions import MalformedResponseError

#: Many times the longest answer. A stream without line ends must not fill the memory.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class LineSplitter:
    """Collects chunks of any size and returns whole lines without their ``\\n``. Blank lines are left out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes.

        :raises MalformedResponseError: a line is longer than ``MAX_LINE_BYTES``.
        """
        first, *others = chunk.split(b"\n")
        self._pieces.append(first)
        self._length += len(first)
        if self._length > MAX_LINE_BYTES:
            raise MalformedResponseError(f"A line of the results has more than {MAX_LINE_BYTES:,} bytes.")
        if not others:
            return []
        lines = self.end()
        self._pieces.append(others.pop())
        self._length = len(self._pieces[0])
        lines += [line for line in others if line and not line.isspace()]
        return lines

    def end(self) -> list[bytes]:
        """Return the last line if it is not blank. It needs no ``\\n``."""
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return [line] if line.strip() else []
