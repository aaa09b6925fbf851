"""Rows that wait on the local disk: put in any order, read in the order of their requests.

It is an external merge sort: a few megabytes of rows at a time are sorted in memory and written as a run, and reading
takes from each run what comes next. So rows are written and read many at once, in whatever order they come.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from typing import IO, Final

from airflow_claude_batch.exceptions import ResultsError

#: A run is as long as this share of all runs before it, within bounds: so there are never very many to read from.
_RUN_SHARE: Final = 32
_SHORTEST_RUN: Final = 1024 * 1024
_LONGEST_RUN: Final = 8 * 1024 * 1024
_BUFFER_BYTES: Final = 256 * 1024
#: What is read of all runs together at once; a single row may have more bytes.
_WINDOW_ROWS: Final = 2048
_WINDOW_BYTES: Final = 1024 * 1024


class DiskSorter:
    """Rows by the index of their request; an empty row is none. Close it.

    Memory is 8 bytes a row, and a run of rows. Once a write has failed nothing can be read: an older row might be taken
    for the one that is lost.

    :raises ResultsError: of all methods: the disk refuses.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._rows: dict[int, bytes] = {}  # of the run that is not written yet
        self._room = _SHORTEST_RUN
        self._runs: list[_Run] = []
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
        self._failure: OSError | None = None

    def close(self) -> None:
        """Let go of the file and of all rows."""
        self._rows.clear()
        self._file.close()

    def put(self, index: int, row: bytes) -> None:
        """Keep a request's row, in place of the one that it has."""
        self._rows[index] = row
        self._room -= len(row)
        if self._room < 0:
            self._settle()

    def get(self, index: int) -> bytes:
        """One request's row."""
        self._check()
        if (row := self._rows.get(index)) is not None:
            return row
        for run in reversed(self._runs):
            first = run.find(index)
            if rows := self._read(run, first, run.find(index + 1, first)):
                return rows[0]
        return b""

    def __iter__(self) -> Iterator[bytes]:
        """All rows, in the order of their requests."""
        self._settle()
        runs, firsts = self._runs, [0] * len(self._runs)
        start, width = 0, _WINDOW_ROWS
        while start < self._count:
            ends = [run.find(start + width, first) for run, first in zip(runs, firsts, strict=True)]
            if width > 1 and sum(map(_Run.size, runs, firsts, ends)) > _WINDOW_BYTES:
                width //= 2
                continue
            rows = [b""] * min(width, self._count - start)
            for run, first, end in zip(runs, firsts, ends, strict=True):
                for index, row in zip(run.indices[first:end], self._read(run, first, end), strict=True):
                    rows[index - start] = row
            yield from rows
            start, firsts, width = start + width, ends, min(2 * width, _WINDOW_ROWS)

    def _read(self, run: _Run, first: int, end: int) -> list[bytes]:
        """Some rows of a run."""
        self._check()
        if first == end:
            return []
        starts = run.starts[first : end + 1]
        base = starts[0]
        data = self._bytes(run.at + base, starts[-1] - base)
        return [data[start - base : end - base] for start, end in pairwise(starts)]

    def _bytes(self, at: int, length: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), length, at)
        except OSError as error:
            raise self._failed(error) from error
        if len(data) < length:
            raise self._failed(OSError("the file has lost what was written to it"))
        return data

    def _settle(self) -> None:
        """Write what is in memory."""
        self._check()
        if not self._rows:
            return
        at = self._file.seek(0, os.SEEK_END)
        run = _Run(at, self._rows)
        try:
            with open(self._file.fileno(), "wb", buffering=_BUFFER_BYTES, closefd=False) as file:
                file.writelines(map(self._rows.__getitem__, run.indices))
        except OSError as error:
            raise self._failed(error) from error
        self._runs.append(run)
        self._rows.clear()
        self._room = min(max(_SHORTEST_RUN, at // _RUN_SHARE), _LONGEST_RUN)

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed(self._failure)

    def _failed(self, error: OSError) -> ResultsError:
        self._failure = error
        self._rows.clear()
        self._room = 0  # no row is taken any more
        return ResultsError(
            f"The answers are at the API, but their rows could not be kept in this worker's temporary folder "
            f"{tempfile.gettempdir()} ({error}). Make room there, or name another folder in TMPDIR: it takes about as "
            "much as the results. What was landed before is untouched. A retry fetches them again and pays nothing."
        )


class _Run:
    """Where rows lie that were written together, sorted."""

    def __init__(self, at: int, rows: Mapping[int, bytes]) -> None:
        self.at = at  # in the file
        self.indices = array("I", sorted(rows))
        self.starts = array("I", accumulate((len(rows[index]) for index in self.indices), initial=0))

    def find(self, index: int, first: int = 0) -> int:
        """The place among the rows of a request's, or of the next one that has any; ``first`` is not behind it."""
        return bisect_left(self.indices, index, first)

    def size(self, first: int, end: int) -> int:
        """The bytes of some of the rows."""
        return self.starts[end] - self.starts[first]
