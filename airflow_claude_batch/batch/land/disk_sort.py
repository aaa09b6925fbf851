"""Sort rows on the local disk: put in any order, read in the order of their requests.

It is an external merge sort. A few megabytes of rows at a time are sorted in memory and written as a run; reading takes
the next rows from each run. So rows are written and read many at once, whatever order they come in.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, compress, pairwise
from typing import IO, Final

from airflow_claude_batch.exceptions import ResultsError

#: A run has this share of the bytes of all runs before it, within bounds. So there are never many runs to read from.
_RUN_SHARE: Final = 32
_SHORTEST_RUN: Final = 1024 * 1024
_LONGEST_RUN: Final = 8 * 1024 * 1024
_BUFFER_BYTES: Final = 256 * 1024
#: Read from all runs together at once. A single row may have more bytes.
_WINDOW_ROWS: Final = 2048
_WINDOW_BYTES: Final = 1024 * 1024


class DiskSorter:
    """Rows by the index of their request, in a temporary file. Close it.

    Memory is 8 bytes a row, and one run of rows. Example::

        sorter = DiskSorter()
        sorter.put(2, b"two")
        sorter.put(0, b"zero")
        list(sorter)  # [(0, b"zero"), (2, b"two")]

    Once a write has failed, every method raises: an older row could be read in place of the lost one.

    :raises ResultsError: from every method, when the disk refuses.
    """

    def __init__(self) -> None:
        self._rows: dict[int, bytes] = {}  # of the run that is not written yet
        self._room = _SHORTEST_RUN
        self._runs: list[_Run] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
        self._failure: OSError | None = None

    def close(self) -> None:
        """Remove the file and all rows."""
        self._rows.clear()
        self._file.close()

    def put(self, index: int, row: bytes) -> None:
        """Keep a request's row. It replaces an earlier one."""
        self._rows[index] = row
        self._room -= len(row)
        if self._room < 0:
            self._write_run()

    def get(self, index: int) -> bytes:
        """Return one request's row, empty if it has none."""
        self._check()
        if (row := self._rows.get(index)) is not None:
            return row
        for run in reversed(self._runs):
            first = run.find(index)
            if rows := self._read(run, first, run.find(index + 1, first)):
                return rows[0]
        return b""

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield the rows with the indices of their requests, in order."""
        self._write_run()
        runs, firsts = self._runs, [0] * len(self._runs)
        start, width = min((run.indices[0] for run in runs), default=0), _WINDOW_ROWS
        stop = max((run.indices[-1] + 1 for run in runs), default=0)
        while start < stop:
            ends = [run.find(start + width, first) for run, first in zip(runs, firsts, strict=True)]
            if width > 1 and sum(map(_Run.size, runs, firsts, ends)) > _WINDOW_BYTES:
                width //= 2
                continue
            rows = [b""] * width
            for run, first, end in zip(runs, firsts, ends, strict=True):
                for index, row in zip(run.indices[first:end], self._read(run, first, end), strict=True):
                    rows[index - start] = row
            yield from compress(enumerate(rows, start), rows)
            start, firsts, width = start + width, ends, min(2 * width, _WINDOW_ROWS)

    def _read(self, run: _Run, first: int, end: int) -> list[bytes]:
        """Read the rows of a run between two positions."""
        self._check()
        if first == end:
            return []
        starts = run.starts[first : end + 1]
        base = starts[0]
        data = self._read_bytes(run.offset + base, starts[-1] - base)
        return [data[start - base : end - base] for start, end in pairwise(starts)]

    def _read_bytes(self, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), length, offset)
        except OSError as error:
            raise self._fail(error) from error
        if len(data) < length:
            raise self._fail(OSError("the file was truncated after it was written"))
        return data

    def _write_run(self) -> None:
        """Write the rows in memory as a run."""
        self._check()
        if not self._rows:
            return
        offset = self._file.seek(0, os.SEEK_END)
        indices = sorted(self._rows)
        rows = [*map(self._rows.__getitem__, indices)]
        run = _Run(offset, indices, rows)
        try:
            with open(self._file.fileno(), "wb", buffering=_BUFFER_BYTES, closefd=False) as file:
                file.writelines(rows)
        except OSError as error:
            raise self._fail(error) from error
        self._runs.append(run)
        self._rows.clear()
        self._room = min(max(_SHORTEST_RUN, offset // _RUN_SHARE), _LONGEST_RUN)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._fail(self._failure)

    def _fail(self, error: OSError) -> ResultsError:
        """Remember the failure and return the error to raise."""
        self._failure = error
        self._rows.clear()
        self._room = 0  # the next put raises too
        return ResultsError(
            f"Results could not be sorted in this worker's temporary folder {tempfile.gettempdir()} ({error}).",
            "What was landed before is untouched. Answers are kept, by the API or in the folder; a retry pays nothing.",
            "Free space there, or set TMPDIR to another folder: the results need about their own size.",
        )


class _Run:
    """Rows that were written together, sorted by index: their place in the file."""

    def __init__(self, offset: int, indices: Sequence[int], rows: Sequence[bytes]) -> None:
        self.offset = offset
        self.indices = array("I", indices)
        self.starts = array("I", accumulate(map(len, rows), initial=0))

    def find(self, index: int, first: int = 0) -> int:
        """Return the position of a request's row, or of the next one, from the position ``first`` on."""
        return bisect_left(self.indices, index, first)

    def size(self, first: int, end: int) -> int:
        """Return the bytes of the rows between two positions."""
        return self.starts[end] - self.starts[first]
