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
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_WIDTH: Final = 1024  # requests of one bucket
_BUFFERS: Final = 8 * 1024 * 1024  # of all buckets together, as far as each has the least
_LEAST_BUFFER, _LARGEST_BUFFER = 4 * 1024, 64 * 1024
_LARGEST_READ: Final = 16 * 1024 * 1024  # a bucket with more is read row by row


class Spool:
    """Rows by the index of their request; an empty row is none. Memory is 12 bytes a request, and 8 MB. Close it."""

    def __init__(self, count: int) -> None:
        self._places = array("Q", bytes(8 * count))  # in the bucket
        self._lengths = array("I", bytes(4 * count))
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # closed by close()
        self._buckets = [_Bucket(self._file) for _ in range(0, count, _WIDTH)]
        size = min(max(_LEAST_BUFFER, _BUFFERS // max(1, len(self._buckets))), _LARGEST_BUFFER)
        self._writers = [io.BufferedWriter(bucket, size) for bucket in self._buckets]

    def close(self) -> None:
        """Let go of the file and of all rows."""
        for bucket in self._buckets:
            bucket.close()  # before its writer, which has then nothing to write
        self._file.close()

    def put(self, index: int, row: bytes) -> None:
        """Keep a request's row, in place of the one that it has."""
        number = index // _WIDTH
        bucket = self._buckets[number]
        self._places[index] = bucket.taken
        self._lengths[index] = length = len(row)
        bucket.taken += length
        self._writers[number].write(row)

    def get(self, index: int) -> bytes:
        """One request's row."""
        self._writers[index // _WIDTH].flush()
        return self._buckets[index // _WIDTH].piece(self._places[index], self._lengths[index])

    def __iter__(self) -> Iterator[bytes]:
        """All rows, in the order of their requests."""
        places, lengths = self._places, self._lengths
        for number, (writer, bucket) in enumerate(zip(self._writers, self._buckets, strict=True)):
            writer.flush()
            indices = range(number * _WIDTH, min((number + 1) * _WIDTH, len(places)))
            if bucket.taken > _LARGEST_READ:
                yield from map(self.get, indices)
                continue
            rows = bucket.piece(0, bucket.taken)
            for index in indices:
                place = places[index]
                yield rows[place : place + lengths[index]]


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

    def write(self, data: ReadableBuffer, /) -> int:
        place = self._file.seek(0, os.SEEK_END)
        written = self._file.write(data)
        self._starts.append(self._written)
        self._places.append(place)
        self._written += written
        return written

    def piece(self, place: int, length: int) -> bytes:
        """Read some of what was written.

        :raises OSError: it is not there any more.
        """
        pieces, number = list[bytes](), bisect_right(self._starts, place) - 1
        while length:
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self._written
            wanted, at = min(length, end - place), self._places[number] + place - self._starts[number]
            piece = os.pread(self._file.fileno(), wanted, at)
            if len(piece) < wanted:
                raise OSError("a temporary file has lost what was written to it")
            pieces.append(piece)
            place, length, number = end, length - wanted, number + 1
        return b"".join(pieces)
