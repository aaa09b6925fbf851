"""Segment: an immutable file of answers, sorted by question key, with the index of them at its end.

``<name>.answers`` begins with a line for each answer, ``{"key":…,"status":…}``: the key of its row, and the row from
``"status":`` on. After the lines comes an :mod:`~airflow_claude_batch.batch.index_file` of the kind ``answers``,
version 1. One file is there as a whole or not at all, so that no crash leaves lines without their index. Its blocks
have 4,096 rows. Each answer has a row, in the order of the lines:

========== ======= =========================================================================
``prefix`` ``Q``   first 8 bytes of its question key, as a big-endian number
``rest``   ``36s`` the rest of what is known of it, :data:`REST`, all big-endian: the last 8
                   bytes of the question key; microseconds from 1970 to the answer (8 bytes);
                   where its line begins, the length of the line with the line feed, the
                   length of the row's key, CRC-32 of the line (4 bytes each); numbers of its
                   submission in ``submissions`` and of its model in ``models``, from 0 (2
                   bytes each)
========== ======= =========================================================================

No two rows of a segment have the same question key. The index has a copy of the column ``prefix``: a look-up reads it
first, and then the blocks that have a prefix of a question. Segments of earlier writers have no copy. If there is none,
or a damaged one, a look-up reads all blocks. The content of the description is :class:`SegmentContent`.

A name says where a segment comes from: ``added-<name>-<number>-<digest of its content>`` was added, and
``merged-<digest of what it was made of>-<number>`` was merged or rewritten. So a name stands for one content.
"""

from __future__ import annotations

import logging
import struct
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec

from airflow_claude_batch.batch.index_file import Block, DamagedIndexError, IndexFile
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.storage import Folder

_log: Final = logging.getLogger(__name__)
SUFFIX: Final = ".answers"
#: What the names of segments begin with.
SEGMENT_PREFIXES: Final = ("added-", "merged-")
KIND: Final = "answers"
VERSION: Final = 1
REST: Final = struct.Struct(">8sQIIIIHH")
COLUMNS: Final = {"prefix": "Q", "rest": f"{REST.size}s"}
BLOCK_ROWS: Final = 4096
#: A segment has at most so many answers, and a new one is begun after so many bytes of them.
MOST_ANSWERS: Final = 100_000
MOST_BYTES: Final = 256 * 1024 * 1024
#: As many submissions or models as a column of ``H`` can number.
MOST_LISTED: Final = 1 << 16
#: Bytes of lines that are read in one call when all are read.
WINDOW_BYTES: Final = 256 * 1024
#: The prefixes have fewer bytes than this share of the file, for answers of 700 bytes and more, and the whole index.
PREFIXES_SHARE: Final = 1 / 80
INDEX_SHARE: Final = 1 / 14
_LEAST_TAIL_BYTES: Final = 64 * 1024
LINE_HEAD: Final = b'{"key":'


class SegmentContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says about the whole segment.

    :ivar lines_bytes: bytes of the lines.
    :ivar submissions: ids of the submissions that paid for the answers.
    :ivar models: models that answered.
    :ivar oldest: microseconds from 1970 to the oldest answer, and to the newest.
    :ivar replaces: names of segments whose answers are in this one, or in those written before it. They do not count.
    """

    lines_bytes: int
    submissions: list[str]
    models: list[str]
    oldest: int
    newest: int
    replaces: list[str] = []


class DamagedSegmentError(ValueError):
    """A segment has other bytes than those that were written, or cannot be read by this version."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(why)
        self.name = name


class SegmentGoneError(Exception):
    """A segment is not there any more: it was merged, rewritten or erased."""


class Entry(NamedTuple):
    """An answer of a segment: its row of the index, and its line."""

    question: bytes
    answered_at: int
    submission: str
    model: str
    key_length: int
    crc: int
    line: bytes

    @property
    def key(self) -> bytes:
        """The key of the row as JSON."""
        return self.line[len(LINE_HEAD) : len(LINE_HEAD) + self.key_length]


class Segment:
    """A segment that was found in the folder.

    :raises OSError: from every method: the storage cannot be read.
    :raises DamagedSegmentError: from every method.
    :raises SegmentGoneError: from every method.

    Example::

        segment = Segment.open(folder, "added-0123456789abcdef-0-89abcdef01234567", folder.sizes())
        for entry in segment.entries(): ...
    """

    def __init__(self, folder: Folder, name: str, index: IndexFile, content: SegmentContent) -> None:
        self.name, self.content, self.count = name, content, index.count
        self.block_count, self.block_rows = index.block_count, index.block_rows
        self._folder, self._index = folder, index

    @classmethod
    def open(cls, folder: Folder, name: str, sizes: Mapping[str, int], *, share: float = 0) -> Segment:
        """Read the end of a segment.

        :param sizes: what the folder holds.
        :param share: of the file to read in the same call, such as :data:`PREFIXES_SHARE`. It is kept until
            :meth:`blocks` has iterated over its blocks.
        """
        size = sizes[name + SUFFIX]
        tail = _LEAST_TAIL_BYTES + int(size * share) if share else 0
        index = IndexFile.open(folder, name + SUFFIX, KIND, VERSION, size=size, tail_bytes=tail)
        if index is None:
            raise _damaged_or_gone(folder, name, "its end is damaged, or of a later version")
        try:
            return cls(folder, name, index, index.content(SegmentContent))
        except (msgspec.MsgspecError, ValueError):
            raise _damaged_or_gone(folder, name, "its description is damaged") from None

    @property
    def uri(self) -> str:
        """The location of the file."""
        return self._folder.uri(self.name + SUFFIX)

    def prefixes(self, at_once: int) -> array[int]:
        """Read the column ``prefix`` of all rows.

        :param at_once: bytes to read in one call if all blocks must be read.
        """
        with self._segment_errors():
            return self._index.column("prefix", at_once)

    def blocks(self, at_once: int, numbers: Sequence[int] | None = None) -> Iterator[Block]:
        """Iterate over the blocks of the index.

        :param at_once: bytes to read in one call.
        :param numbers: of the blocks, ascending. All of them if None.
        """
        with self._segment_errors():
            yield from self._index.blocks(at_once, numbers)

    def read_lines(self, start: int, end: int) -> bytes:
        """Read the lines between two offsets."""
        data = self._folder.read_range(self.name + SUFFIX, start, end)
        if data is None:
            raise SegmentGoneError(self.uri)
        return data

    def entries(self, at_once: int = WINDOW_BYTES) -> Iterator[Entry]:
        """Iterate over all answers in the order of their question keys. Damaged lines are left out with a warning.

        :param at_once: bytes to read in one call. A single line may have more.
        """
        window, damaged = _Window(self, at_once), 0
        submissions, models = self.content.submissions, self.content.models
        for block in self.blocks(1):
            for prefix, rest in zip(block.numbers("prefix"), REST.iter_unpack(block.joined("rest")), strict=True):
                suffix, answered_at, start, length, key_length, crc, submission, model = rest
                line = window.read(start, length)
                if zlib.crc32(line) != crc:
                    damaged += 1
                    continue
                question = prefix.to_bytes(8, "big") + suffix
                yield Entry(question, answered_at, submissions[submission], models[model], key_length, crc, line)
        if damaged:
            warn_of(self.uri, f"{quantity(damaged, 'line')} of it differ from what was written")

    @contextmanager
    def _segment_errors(self) -> Iterator[None]:
        try:
            yield
        except DamagedIndexError as error:
            raise _damaged_or_gone(self._folder, self.name, str(error)) from error


class _Window:
    """Reads lines one after the other, and fetches many in one call."""

    def __init__(self, segment: Segment, at_once: int) -> None:
        self._segment, self._at_once = segment, at_once
        self._data, self._start = b"", 0

    def read(self, start: int, length: int) -> bytes:
        """Return the bytes at this offset. Offsets must not decrease from one call to the next."""
        if start + length > self._start + len(self._data):
            end = min(start + max(length, self._at_once), self._segment.content.lines_bytes)
            self._data, self._start = self._segment.read_lines(start, end), start
        return self._data[start - self._start : start - self._start + length]


def names_of(sizes: Mapping[str, int]) -> list[str]:
    """Return the names of the segments that a folder holds, sorted."""
    return sorted(name.removesuffix(SUFFIX) for name in sizes if name.endswith(SUFFIX) and not name.startswith("."))


def warn_of(uri: str, error: object) -> None:
    """Warn that answers of a segment are left out."""
    _log.warning("Stored answers of %s are left out, and asked anew where they are needed: %s.", uri, error)


def _damaged_or_gone(folder: Folder, name: str, why: str) -> Exception:
    if folder.size(name + SUFFIX) is None:
        return SegmentGoneError(folder.uri(name + SUFFIX))
    return DamagedSegmentError(name, why)
