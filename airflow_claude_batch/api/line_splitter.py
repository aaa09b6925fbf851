"""Cutting a stream of bytes into lines.

At ``\\n`` and nowhere else: result lines are JSON, whose strings may hold U+2028, U+0085 and others that
``str.splitlines`` (and with it ``httpx.Response.iter_lines``) takes for line ends, tearing rows apart.
"""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.exceptions import MalformedResponseError

#: Many times the longest answer; a stream without line ends must not fill the memory.
MAX_LINE_BYTES: Final = 64 * 1024 * 1024


class LineSplitter:
    """Takes chunks however they arrive and gives whole lines, without their ``\\n``; blank lines are left out."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._length = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """Give the lines that this chunk completes.

        :raises MalformedResponseError: a line has no end.
        """
        first, *others = chunk.split(b"\n")
        self._pieces.append(first)
        self._length += len(first)
        if self._length > MAX_LINE_BYTES:
            raise MalformedResponseError(f"a line of the results has more than {MAX_LINE_BYTES:,} bytes")
        if not others:
            return []
        lines = self.end()
        self._pieces.append(others.pop())
        self._length = len(self._pieces[0])
        lines += [line for line in others if line and not line.isspace()]
        return lines

    def end(self) -> list[bytes]:
        """Give the line that is being collected, if it holds anything: a last line needs no ``\\n``."""
        line = b"".join(self._pieces)
        self._pieces.clear()
        self._length = 0
        return [line] if line.strip() else []
