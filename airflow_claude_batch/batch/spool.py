"""Rows that wait on the local disk: put in any order, read in the order of their requests.

Rows of neighbours lie together, in a bucket for each thousand of them: so all rows are read in order by a few large
reads, and not by a small one somewhere else for each.
"""

from __future__ import annotations

import io
import os
import tempfile
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import IO, Any, Final

from airflow_claude_batch.exceptions import ResultsError

_WIDTH: Final = 1024  # requests of one bucket
_BUFFER_BYTES: Final = 64 * 1024
_MOST_BUFFERS: Final = 128  # a message batch, whose requests are neighbours, fills 98
_LARGEST_READ: Final = 8 * 1024 * 1024  # a bucket with more is read row by row


class Spool:
    """Rows by the index of their request; an empty row is none. Close it.

    Memory is 12 bytes a request, and 8 MB of buffers. Once a write has failed nothing can be read: rows after it would
    be taken for others.

    :raises ResultsError: of all methods: the disk refuses.
    """

    def __init__(self, count: int) -> None:
        self._places = array("Q", bytes(8 * count))  # in the bucket
        self._lengths = array("I", bytes(4 * count))
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
        self._buckets = [_Bucket(self._file) for _ in range(0, count, _WIDTH)]
        self._writers: dict[int, io.BufferedWriter] = {}
        self._failure: OSError | None = None

    def close(self) -> None:
        """Let go of the file and of all rows."""
        self._forget()
        self._file.close()

    def _forget(self) -> None:
        for bucket in self._buckets:
            bucket.close()  # before its writer, which has then nothing to write
        self._writers.clear()

    def put(self, index: int, row: bytes) -> None:
        """Keep a request's row, in place of the one that it has."""
        number = index // _WIDTH
        bucket = self._buckets[number]
        self._places[index] = bucket.taken
        self._lengths[index] = length = len(row)
        bucket.taken += length
        try:
            if (writer := self._writers.get(number)) is None:
                writer = self._writer(number)
            writer.write(row)
        except OSError as error:
            raise self._failed(error) from error

    def _writer(self, number: int) -> io.BufferedWriter:
        self._check()
        if len(self._writers) == _MOST_BUFFERS:
            self._settle()
        return self._writers.setdefault(number, io.BufferedWriter(self._buckets[number], _BUFFER_BYTES))

    def _settle(self) -> None:
        """Write what the buffers hold, and let go of them."""
        try:
            for writer in self._writers.values():
                writer.detach()
        except OSError as error:
            raise self._failed(error) from error
        self._writers.clear()

    def get(self, index: int) -> bytes:
        """One request's row."""
        return self._piece(index // _WIDTH, self._places[index], self._lengths[index])

    def __iter__(self) -> Iterator[bytes]:
        """All rows, in the order of their requests."""
        self._settle()
        places, lengths = self._places, self._lengths
        for number, bucket in enumerate(self._buckets):
            indices = range(number * _WIDTH, min((number + 1) * _WIDTH, len(places)))
            if bucket.taken > _LARGEST_READ:
                yield from map(self.get, indices)
                continue
            rows = self._piece(number, 0, bucket.taken)
            for index in indices:
                place = places[index]
                yield rows[place : place + lengths[index]]

    def _piece(self, number: int, place: int, length: int) -> bytes:
        self._check()
        try:
            if (writer := self._writers.get(number)) is not None:
                writer.flush()
            return self._buckets[number].piece(place, length)
        except OSError as error:
            raise self._failed(error) from error

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failed(self._failure)

    def _failed(self, error: OSError) -> ResultsError:
        self._failure = error
        self._forget()
        return ResultsError(
            f"The answers are at the API, but their rows could not be kept in this worker's temporary folder "
            f"{tempfile.gettempdir()} ({error}). Make room there, or name another folder in TMPDIR: it takes about as "
            "much as the results. What was landed before is untouched. A retry fetches them again and pays nothing."
        )


class _Bucket(io.RawIOBase):
    """A file that lies in pieces at the end of another, wherever that was when they were written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.taken = 0  # with what its writer holds back
        self._file = file
        self._written = 0
        self._starts = array("Q")  # of the pieces, in this file
        self._places = array("Q")  # of the pieces, in the other

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        place = self._file.seek(0, os.SEEK_END)
        written = self._file.write(data)
        self._starts.append(self._written)
        self._places.append(place)
        self._written += written
        return written

    def piece(self, place: int, length: int) -> bytes:
        """Read some of what was written.

        :raises OSError: it cannot be read, or is not there any more.
        """
        pieces, number = list[bytes](), bisect_right(self._starts, place) - 1
        while length:
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self._written
            wanted, at = min(length, end - place), self._places[number] + place - self._starts[number]
            piece = os.pread(self._file.fileno(), wanted, at)
            if len(piece) < wanted:
                raise OSError("the file has lost what was written to it")
            pieces.append(piece)
            place, length, number = end, length - wanted, number + 1
        return b"".join(pieces)
