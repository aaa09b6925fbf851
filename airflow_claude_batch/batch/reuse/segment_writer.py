"""Write segments: of answers in any order, or of entries that are sorted already."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import IO

from airflow_claude_batch.batch.index_file import IndexWriter
from airflow_claude_batch.batch.reuse.segment import (
    BLOCK_ROWS,
    COLUMNS,
    KIND,
    LINE_HEAD,
    MOST_ANSWERS,
    MOST_BYTES,
    MOST_LISTED,
    REST,
    SUFFIX,
    VERSION,
    Entry,
    SegmentContent,
)
from airflow_claude_batch.batch.reuse.stored_answer import StoredAnswer, microseconds
from airflow_claude_batch.batch.storage import BUFFER_BYTES, Folder


def write_segments(
    folder: Folder, names: Iterator[str], entries: Iterable[Entry], replaces: Sequence[str] = ()
) -> list[str]:
    """Write sorted entries as segments. Return their names.

    :param names: of the segments, as many as are needed.
    :param replaces: named by the segment that is written last: until it is there, what it replaces counts.
    :raises OSError: the storage cannot be written.
    """
    written: list[str] = []
    rest = iter(entries)
    entry = next(rest, None)
    while entry is not None:
        name = next(names)
        with folder.replace_file(name + SUFFIX) as file:
            writer = _SegmentWriter(file)
            while entry is not None and writer.has_room():
                writer.add(entry)
                entry = next(rest, None)
            writer.finish([] if entry is not None else [*replaces])
        written.append(name)
    return written


class _SegmentWriter:
    """Writes the lines of one segment, then their index. In memory it holds 40 bytes for each answer."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._prefixes, self._rests = array("Q"), bytearray()
        self._oldest, self._newest = 1 << 64, 0
        self._bytes = 0
        self._submissions: dict[str, int] = {}
        self._models: dict[str, int] = {}

    def has_room(self) -> bool:
        """Return whether another answer fits in."""
        return (
            len(self._prefixes) < MOST_ANSWERS
            and self._bytes < MOST_BYTES
            and len(self._submissions) < MOST_LISTED
            and len(self._models) < MOST_LISTED
        )

    def add(self, entry: Entry) -> None:
        self._file.write(entry.line)
        self._prefixes.append(int.from_bytes(entry.question[:8], "big"))
        self._rests += REST.pack(
            entry.question[8:],
            entry.answered_at,
            self._bytes,
            len(entry.line),
            entry.key_length,
            entry.crc,
            self._submissions.setdefault(entry.submission, len(self._submissions)),
            self._models.setdefault(entry.model, len(self._models)),
        )
        self._oldest, self._newest = min(self._oldest, entry.answered_at), max(self._newest, entry.answered_at)
        self._bytes += len(entry.line)

    def finish(self, replaces: list[str]) -> None:
        index = IndexWriter(
            self._file, KIND, VERSION, COLUMNS, copied=["prefix"], block_rows=BLOCK_ROWS, offset=self._bytes
        )
        for row, prefix in enumerate(self._prefixes):
            index.add(prefix, bytes(self._rests[REST.size * row : REST.size * row + REST.size]))
        index.finish(
            SegmentContent(
                lines_bytes=self._bytes,
                submissions=[*self._submissions],
                models=[*self._models],
                oldest=self._oldest,
                newest=self._newest,
                replaces=replaces,
            )
        )


class AnswerSpool:
    """Answers in any order, in a temporary file, until they are sorted. It holds what fits in one segment. Close it.

    In memory it holds about 150 bytes for each answer. Example::

        with closing(AnswerSpool()) as spool:
            spool.add(question, answer)
            write_segments(folder, iter(["added-a-0-" + spool.digest()]), spool.entries())

    :raises OSError: from every method: the temporary folder cannot be written or read.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=BUFFER_BYTES)  # noqa: SIM115  # closed by close()
        self._questions: list[bytes] = []
        self._starts, self._times = array("Q", [0]), array("Q")
        self._key_lengths, self._crcs = array("I"), array("I")
        self._origins: dict[tuple[str, str], int] = {}
        self._origin_numbers = array("I")
        self._order: list[int] | None = None

    def __len__(self) -> int:
        return len(self._questions)

    def close(self) -> None:
        """Remove the file."""
        self._file.close()

    def has_room(self) -> bool:
        """Return whether another answer fits in."""
        few_origins = len(self._origins) < MOST_LISTED
        return few_origins and len(self._questions) < MOST_ANSWERS and self._starts[-1] < MOST_BYTES

    def add(self, question: bytes, answer: StoredAnswer) -> None:
        """Add an answer. Of those to the same question the newest counts."""
        line = b"".join((LINE_HEAD, answer.key, b",", answer.body, b"\n"))
        self._file.write(line)
        self._questions.append(question)
        self._starts.append(self._starts[-1] + len(line))
        self._times.append(microseconds(answer.answered_at))
        self._key_lengths.append(len(answer.key))
        self._crcs.append(zlib.crc32(line))
        origin = answer.submission_id, answer.model
        self._origin_numbers.append(self._origins.setdefault(origin, len(self._origins)))

    def digest(self) -> str:
        """Return 16 hexadecimal digits that identify the content."""
        hashed, origins = hashlib.blake2b(digest_size=8), [repr(origin).encode() for origin in self._origins]
        for row in self._sorted():
            facts = b"%d %d %d " % (self._crcs[row], self._times[row], self._starts[row + 1] - self._starts[row])
            hashed.update(self._questions[row] + facts + origins[self._origin_numbers[row]])
        return hashed.hexdigest()

    def entries(self) -> Iterator[Entry]:
        """Iterate over the answers in the order of their questions."""
        self._file.flush()
        descriptor, origins = self._file.fileno(), [*self._origins]
        for row in self._sorted():
            start, end = self._starts[row], self._starts[row + 1]
            line = os.pread(descriptor, end - start, start)
            if zlib.crc32(line) != self._crcs[row]:
                raise OSError("the temporary file of answers was changed after it was written")
            submission, model = origins[self._origin_numbers[row]]
            yield Entry(
                self._questions[row],
                self._times[row],
                submission,
                model,
                self._key_lengths[row],
                self._crcs[row],
                line,
            )

    def _sorted(self) -> list[int]:
        """Return the rows in the order of their questions, each question once."""
        if self._order is None:
            rows = sorted(range(len(self._questions)), key=self._questions.__getitem__)
            same = groupby(rows, key=self._questions.__getitem__)
            self._order = [max(group, key=lambda row: (self._times[row], row)) for _, group in same]
        return self._order
