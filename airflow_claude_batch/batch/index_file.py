"""An index: a small table beside a large file, for what a process must know about its lines without reading them.

An index file has blocks of rows, and ends with a description of them. Other bytes may come before the first block::

    block 0, block 1, …          each column of the block's rows, one after the other
    copies of columns            each for all rows in one piece; most indexes have none
    description                  JSON: Description
    its length and its CRC-32    each 8 hexadecimal digits
    "CLAUDEINDEX1\\n"

A reader fetches the end of the file, and the blocks that it needs. A copy of a column tells which those are.

A column of numbers has the type code of :mod:`array` (``B``, ``H``, ``I``, ``Q``, little-endian); one of ``22s`` has 22
bytes for each row; one of ``bytes`` has the length of each value as ``I``, then the values. Columns that a reader does
not know are skipped.
"""

from __future__ import annotations

import logging
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import IO, Any, Final, TypeVar

import msgspec

from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)

#: Rows of a block. Of a few dozen bytes each, so that a block is one small read from an object store.
BLOCK_ROWS: Final = 2048
_MAGIC: Final = b"CLAUDEINDEX1\n"
_END_BYTES: Final = 16 + len(_MAGIC)
#: What the first read fetches from the end of the file. Most descriptions are smaller.
_TAIL_BYTES: Final = 4 * 1024
_NUMBERS: Final = frozenset("BHIQ")
_T = TypeVar("_T")


class Description(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The end of an index file.

    :ivar kind: what it is an index of.
    :ivar version: of that kind. A reader takes only the versions that it knows.
    :ivar count: number of rows.
    :ivar columns: names and types, in the order within a block.
    :ivar blocks: offset of each block, its length and its CRC-32.
    :ivar content: what the kind says about the whole file.
    :ivar copies: offset of each copy of a column, its length and its CRC-32, by name. Earlier writers wrote none.
    """

    kind: str
    version: int
    count: int
    block_rows: int
    columns: list[tuple[str, str]]
    blocks: list[tuple[int, int, int]]
    content: msgspec.Raw
    copies: dict[str, tuple[int, int, int]] = {}


class DamagedIndexError(ValueError):
    """An index file has other bytes than those that were written."""


class IndexWriter:
    """Writes an index row by row. It holds one block in memory, and the copies.

    :param copied: names of columns of numbers to write a copy of.
    :param offset: bytes that the file has already. They stay before the index.

    Example::

        writer = IndexWriter(file, "requests", 1, {"length": "I", "hash": "22s", "key": "bytes"})
        writer.add(312, b"yZ0…", b'"row-1"')
        writer.finish({"digest": "…"})
    """

    def __init__(
        self,
        file: IO[bytes],
        kind: str,
        version: int,
        columns: Mapping[str, str],
        *,
        copied: Iterable[str] = (),
        block_rows: int = BLOCK_ROWS,
        offset: int = 0,
    ) -> None:
        self._file = file
        self._kind, self._version = kind, version
        self._columns = dict(columns)
        self._copies = {name: bytearray() for name in copied}
        self._block_rows = block_rows
        self._rows: list[tuple[Any, ...]] = []
        self._count, self._offset = 0, offset
        self._blocks: list[tuple[int, int, int]] = []

    def add(self, *values: int | bytes) -> None:
        """Add a row: a value for each column, in order."""
        self._rows.append(values)
        if len(self._rows) == self._block_rows:
            self._write_block()

    def finish(self, content: Any) -> None:
        """Write the rest, and the description.

        :param content: what msgspec can write as JSON.
        """
        self._write_block()
        description = Description(
            kind=self._kind,
            version=self._version,
            count=self._count,
            block_rows=self._block_rows,
            columns=list(self._columns.items()),
            blocks=self._blocks,
            copies={name: self._write(copy) for name, copy in self._copies.items()},
            content=msgspec.Raw(msgspec.json.encode(content)),
        )
        text = msgspec.json.encode(description)
        self._file.write(b"%b%08x%08x%b" % (text, len(text), zlib.crc32(text), _MAGIC))

    def _write_block(self) -> None:
        if not self._rows:
            return
        columns = zip(self._columns.items(), zip(*self._rows, strict=True), strict=True)
        encoded = {name: _encode(type_, values) for (name, type_), values in columns}
        self._blocks.append(self._write(b"".join(encoded.values())))
        for name, copy in self._copies.items():
            copy += encoded[name]
        self._count += len(self._rows)
        self._rows.clear()

    def _write(self, data: bytes | bytearray) -> tuple[int, int, int]:
        """Write the next bytes of the file. Return their offset, their length and their CRC-32."""
        offset, self._offset = self._offset, self._offset + len(data)
        self._file.write(data)
        return offset, len(data), zlib.crc32(data)


class IndexFile:
    """An index that was written before. It reads blocks when they are asked for, and keeps none.

    Example::

        index = IndexFile.open(folder, "requests.index", "requests", 1)
        index.content(RequestsContent).digest
        index.block(0).numbers("length")[3]

    :raises OSError: from every method: the storage cannot be read.
    """

    def __init__(self, folder: Folder, name: str, description: Description, *, tail: tuple[int, bytes]) -> None:
        self._folder = folder
        self.name = name
        #: The end of the file, if it was asked for, and where it begins.
        self._tail_start, self._tail = tail
        self._description = description
        self.count = description.count
        self.block_rows = description.block_rows
        self.block_count = len(description.blocks)

    @classmethod
    def open(
        cls,
        folder: Folder,
        name: str,
        kind: str,
        version: int,
        *,
        size: int | None = None,
        tail_bytes: int = 0,
    ) -> IndexFile | None:
        """Read the end of an index. None if there is no such file, or if it is no whole index of this kind.

        The large file tells everything, too. So an index that cannot be used counts as none.

        :param size: of the file, if a listing has told it.
        :param tail_bytes: to read from the end in one call. What is in them is not read again until :meth:`blocks` has
            iterated over its blocks.
        :raises OSError: the storage cannot be read.
        """
        size = folder.size(name) if size is None else size
        if size is None or size < _END_BYTES:
            return None
        try:
            description, tail = _read_description(folder, name, size, max(tail_bytes, _TAIL_BYTES))
        except (msgspec.MsgspecError, ValueError):
            return None
        if description is None or (description.kind, description.version) != (kind, version):
            return None
        return cls(folder, name, description, tail=(size - len(tail), tail) if tail_bytes else (size, b""))

    def content(self, type_: type[_T]) -> _T:
        """Return what the index says about the whole file.

        :raises msgspec.MsgspecError: it is not of this type.
        """
        return msgspec.json.decode(self._description.content, type=type_)

    def block(self, number: int) -> Block:
        """Read one block.

        :raises DamagedIndexError: it has other bytes than those that were written, or is gone.
        """
        offset, length, _ = self._description.blocks[number]
        return self._block(number, self._read(offset, offset + length))

    def column(self, name: str, at_once: int) -> array[int]:
        """Return a column of numbers for all rows. If there is no copy of it, or a damaged one, all blocks are read.

        :param at_once: bytes of blocks to read in one call.
        :raises DamagedIndexError: a block has other bytes than those that were written, or is gone.
        """
        numbers = array(dict(self._description.columns)[name])
        copy = self._copy(name)
        if copy is not None:
            numbers.frombytes(copy)
            return _little_endian(numbers)
        for block in self._blocks(range(self.block_count), at_once):
            numbers.extend(block.numbers(name))
        return numbers

    def blocks(self, at_once: int, numbers: Sequence[int] | None = None) -> Iterator[Block]:
        """Iterate over blocks, in order. It reads several in one call.

        :param at_once: bytes to read in one call. A single block may have more.
        :param numbers: of the blocks, ascending. All of them if None.
        :raises DamagedIndexError: one has other bytes than those that were written, or is gone.
        """
        yield from self._blocks(range(self.block_count) if numbers is None else numbers, at_once)
        self._tail_start, self._tail = sys.maxsize, b""

    def _blocks(self, numbers: Sequence[int], at_once: int) -> Iterator[Block]:
        places, first = self._description.blocks, 0
        while first < len(numbers):
            start, length, _ = places[numbers[first]]
            end, following = start + length, first + 1
            while following < len(numbers) and places[numbers[following]][0] == end and end - start < at_once:
                end, following = end + places[numbers[following]][1], following + 1
            data = memoryview(self._read(start, end) or b"")
            for number in numbers[first:following]:
                offset, length, _ = places[number]
                yield self._block(number, bytes(data[offset - start : offset - start + length]))
            first = following

    def _copy(self, column: str) -> bytes | None:
        """Read the copy of a column. None if there is none, or if it is damaged or gone. A damaged one is a warning."""
        if column not in self._description.copies:
            return None
        offset, length, crc = self._description.copies[column]
        data = self._read(offset, offset + length)
        if data is None or zlib.crc32(data) == crc:
            return data
        log.warning(
            "The copy of a column of %s is damaged. Nothing is lost: the whole index is read instead, and that takes "
            "longer.",
            self._folder.uri(self.name),
        )
        return None

    def _read(self, start: int, end: int) -> bytes | None:
        if start >= self._tail_start:
            return self._tail[start - self._tail_start : end - self._tail_start]
        return self._folder.read_range(self.name, start, end)

    def _block(self, number: int, data: bytes | None) -> Block:
        if data is None or zlib.crc32(data) != self._description.blocks[number][2]:
            raise DamagedIndexError(f"block {number} of {self._folder.uri(self.name)} is damaged")
        rows = min(self.block_rows, self.count - number * self.block_rows)
        return Block(self._description.columns, data, rows)


class Block:
    """Some rows of an index, column by column.

    :param data: the bytes of the block.
    """

    def __init__(self, columns: Sequence[tuple[str, str]], data: bytes, rows: int) -> None:
        self._numbers: dict[str, array[int]] = {}
        self._bytes: dict[str, bytes] = {}
        self._ends: dict[str, list[int]] = {}
        self._rows, self._data, self._read = rows, data, 0
        for name, type_ in columns:
            if type_ in _NUMBERS:
                self._numbers[name] = self._next_numbers(type_)
            elif type_ == "bytes":
                self._ends[name] = list(accumulate(self._next_numbers("I"), initial=0))
                self._bytes[name] = self._next_bytes(self._ends[name][-1])
            else:
                self._bytes[name] = self._next_bytes(rows * int(type_.removesuffix("s")))

    def __len__(self) -> int:
        return self._rows

    def numbers(self, name: str) -> array[int]:
        """Return a column of numbers."""
        return self._numbers[name]

    def joined(self, name: str) -> bytes:
        """Return a column of fixed bytes as one piece, without separators."""
        return self._bytes[name]

    def value(self, name: str, row: int) -> bytes:
        """Return one value of a column of ``bytes``. Rows count from the beginning of the block."""
        ends = self._ends[name]
        return self._bytes[name][ends[row] : ends[row + 1]]

    def values(self, name: str) -> Iterator[bytes]:
        """Iterate over a column of ``bytes``."""
        values = self._bytes[name]
        return (values[start:end] for start, end in pairwise(self._ends[name]))

    def ends(self, name: str) -> Sequence[int]:
        """Return 0, and the sum of the lengths up to each value of a column of ``bytes``."""
        return self._ends[name]

    def _next_numbers(self, type_: str) -> array[int]:
        numbers = array(type_)
        numbers.frombytes(self._next_bytes(self._rows * numbers.itemsize))
        return _little_endian(numbers)

    def _next_bytes(self, length: int) -> bytes:
        start, self._read = self._read, self._read + length
        return self._data[start : self._read]


def _read_description(folder: Folder, name: str, size: int, tail_bytes: int) -> tuple[Description | None, bytes]:
    """Read the end of the file. Return the description, None if it is no index, and all that was read.

    :raises ValueError: it is damaged.
    """
    tail = folder.read_range(name, max(0, size - tail_bytes), size)
    if tail is None or not tail.endswith(_MAGIC):
        return None, b""
    length, checksum = (int(tail[start : start + 8], 16) for start in (-_END_BYTES, 8 - _END_BYTES))
    if length + _END_BYTES > len(tail):
        tail = folder.read_range(name, max(0, size - _END_BYTES - length), size) or b""
    text = tail[-_END_BYTES - length : -_END_BYTES]
    if zlib.crc32(text) != checksum:
        return None, b""
    return msgspec.json.decode(text, type=Description), tail


def _encode(type_: str, values: Sequence[Any]) -> bytes:
    if type_ in _NUMBERS:
        return _little_endian(array(type_, values)).tobytes()
    data = b"".join(values)
    return _encode("I", [*map(len, values)]) + data if type_ == "bytes" else data


def _little_endian(numbers: array[int]) -> array[int]:
    """Swap the bytes of the numbers where the machine writes them in the other order."""
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
