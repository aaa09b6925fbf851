"""Look questions up in segments.

A look-up reads the 8-byte prefixes of every segment. It reads those blocks of the index that have a prefix of a
question, and compares all 16 bytes there. So questions without an answer cost next to nothing. Then it reads the
answers in the order in which the segments have them, many in one call.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Final

from airflow_claude_batch.batch.index_file import Block
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.reuse.segment import (
    INDEX_SHARE,
    LINE_HEAD,
    PREFIXES_SHARE,
    REST,
    SUFFIX,
    DamagedSegmentError,
    Segment,
    names_of,
    warn_of,
)
from airflow_claude_batch.batch.reuse.stored_answer import StoredAnswer, time_of
from airflow_claude_batch.batch.storage import Folder

#: Bytes of indexes, and of answers, that are read in one call.
_INDEX_BYTES: Final = 2 * 1024 * 1024
_ANSWERS_BYTES: Final = 1024 * 1024
#: Answers so far apart are read in one call: another call costs more than these bytes.
_GAP_BYTES: Final = 64 * 1024
#: Keys that are taken apart in one go. Large pieces leave holes in the memory when they are freed.
_KEYS_AT_ONCE: Final = 4096
#: What the times of answers have in memory. A batch's answers have few.
_MOST_TIMES: Final = 1024
#: An answer as its row of the index says: where its line is, and what is in it.
_Row = tuple[bytes, int, int, int, int, int, int, int]


def look_up(
    folder: Folder, sizes: Mapping[str, int], keys: Sequence[tuple[bytes, int]], least: int
) -> Iterator[tuple[int, StoredAnswer]]:
    """Yield the newest answer to each question, with the position of its key. Equal keys have an answer each.

    What is damaged or cannot be read is left out with a warning. A segment that was replaced by another one is read as
    well: what both have is the same answer.

    :param sizes: what the folder holds.
    :param keys: question keys with the indices of their requests, which are not looked at.
    :param least: microseconds from 1970. Older answers do not count.
    :raises SegmentGoneError: a segment is not there any more.
    """
    search, segments = _Search(keys, least), list[Segment]()
    share = PREFIXES_SHARE
    for name in names_of(sizes):
        try:
            segments.append(segment := Segment.open(folder, name, sizes, share=share))
            read = search.read(len(segments) - 1, segment)
            # Segments beside each other are often alike: one call for all is cheaper than two.
            share = INDEX_SHARE if 2 * read > segment.block_count else PREFIXES_SHARE
        except (DamagedSegmentError, OSError) as error:
            warn_of(folder.uri(name + SUFFIX), error)
    search.finish()
    for number, segment in enumerate(segments):
        try:
            for place, answer in _read_answers(segment, search.found_in(number)):
                yield place, answer
                for other in search.same.get(place, ()):
                    yield other, answer
        except (DamagedSegmentError, OSError) as error:
            warn_of(segment.uri, error)


class _Search:
    """Finds question keys in the indexes of segments.

    In memory it holds about 150 bytes for each question.

    :ivar same: the other places of keys that are there again, by the one that is looked up.
    """

    def __init__(self, keys: Sequence[tuple[bytes, int]], least: int) -> None:
        self.same: dict[int, list[int]] = {}
        self._places: dict[int, int] = {}
        suffixes = list[bytes]()
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            halves = array("Q", b"".join(key for key, _ in keys[start : start + _KEYS_AT_ONCE]))
            self._places.update(zip(_big_endian(halves[::2]), count(start)))
            suffixes.append(halves[1::2].tobytes())
        #: Of all keys in one piece: they are compared in random order, which takes longer where they are scattered.
        self._suffixes = b"".join(suffixes)
        #: Other keys with the prefix of one that is in ``_places``. There are hardly any.
        self._others: dict[bytes, int] = {}
        if len(self._places) < len(keys):
            self._add_others(keys)
        #: The newest answer to each question: its row of the index, and the number of its segment. Before one is
        #: found, the row has only the time of the oldest answer that counts.
        self._rows = [bytes(8) + least.to_bytes(8, "big")] * len(keys)
        self._segments = array("I", [0]) * len(keys)
        #: Places of the answers that each segment has, in the order of its lines.
        self._found: list[array[int]] = []

    def read(self, number: int, segment: Segment) -> int:
        """Search the next segment. Of equally new answers the last one counts. Return how many blocks were read."""
        self._found.append(array("I"))
        prefixes, rows, known = segment.prefixes(_INDEX_BYTES), segment.block_rows, self._places.keys()
        blocks = [
            block
            for block in range(segment.block_count)
            if not known.isdisjoint(prefixes[rows * block : rows * block + rows])
        ]
        for found in segment.blocks(_INDEX_BYTES, blocks):
            self._read_block(found, number)
        return len(blocks)

    def finish(self) -> None:
        """Free what was needed to search."""
        self._places.clear()
        self._others.clear()
        self._suffixes = b""

    def found_in(self, number: int) -> Iterator[tuple[int, _Row]]:
        """Yield the places of the questions whose newest answers a segment has, with their rows of the index."""
        rows, segments = self._rows, self._segments
        return ((place, REST.unpack(rows[place])) for place in self._found[number] if segments[place] == number)

    def _add_others(self, keys: Sequence[tuple[bytes, int]]) -> None:
        """Add the keys whose prefix has another place."""
        for place, (key, _) in enumerate(keys):
            other = self._places[int.from_bytes(key[:8], "big")]
            if keys[other][0] != key:
                other = self._others.setdefault(key, place)
            if other != place:
                self.same.setdefault(other, []).append(place)

    def _read_block(self, block: Block, number: int) -> None:
        prefixes, rests = block.numbers("prefix"), block.joined("rest")
        places, found, rows, segments = self._places, self._found[number], self._rows, self._segments
        size, suffixes = REST.size, self._suffixes
        for row, place in enumerate(map(places.get, prefixes)):
            if place is None:
                continue
            rest = rests[size * row : size * row + size]
            if suffixes[8 * place : 8 * place + 8] != rest[:8]:
                place = self._others.get(prefixes[row].to_bytes(8, "big") + rest[:8])
                if place is None:
                    continue
            # Big-endian numbers are in the order of their bytes.
            if rest[8:16] >= rows[place][8:16]:
                rows[place], segments[place] = rest, number
                found.append(place)


def _big_endian(numbers: array[int]) -> array[int]:
    """Swap the bytes of the numbers where the machine reads them in the other order."""
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _read_answers(segment: Segment, found: Iterator[tuple[int, _Row]]) -> Iterator[tuple[int, StoredAnswer]]:
    """Read answers of a segment, in the order of its lines."""
    submissions, models = segment.content.submissions, segment.content.models
    times: dict[int, datetime] = {}
    head, damaged = len(LINE_HEAD), 0
    for start, window in _windows(found):
        _, (_, _, last, length, *_) = window[-1]
        data = segment.read_lines(start, last + length)
        for place, (_, time, first, length, key_length, crc, submission, model) in window:
            line = data[first - start : first - start + length]
            if zlib.crc32(line) != crc:
                damaged += 1
                continue
            if (answered_at := times.get(time)) is None:
                if len(times) == _MOST_TIMES:
                    times.clear()
                answered_at = times[time] = time_of(time)
            end = head + key_length
            answer = StoredAnswer(
                line[head:end], line[end + 1 : -1], submissions[submission], answered_at, models[model]
            )
            yield place, answer
    if damaged:
        warn_of(segment.uri, f"{quantity(damaged, 'line')} of it differ from what was written")


def _windows(found: Iterator[tuple[int, _Row]]) -> Iterator[tuple[int, list[tuple[int, _Row]]]]:
    """Yield what is read in one call: from where, and the answers in it."""
    window: list[tuple[int, _Row]] = []
    start = end = 0
    for pair in found:
        first = pair[1][2]
        if window and (first - end > _GAP_BYTES or first - start > _ANSWERS_BYTES):
            yield start, window
            window = []
        if not window:
            start = first
        window.append(pair)
        end = first + pair[1][3]
    if window:
        yield start, window
