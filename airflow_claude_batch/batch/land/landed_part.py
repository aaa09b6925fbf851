"""A landed part: rows that were published before the end, and the index that tells what they are.

``landed-<number>-<token>.jsonl`` has lines as ``results.jsonl`` will have them, in input order. The index beside it is
written after it, so that a part without an index was never landed. Both stay as they are until all parts are merged.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import tempfile
import zlib
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import IO, Final, NamedTuple

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.index_file import Block, DamagedIndexError, IndexFile, IndexWriter
from airflow_claude_batch.batch.land.outcomes import Outcome
from airflow_claude_batch.batch.money.bill import BillSums
from airflow_claude_batch.exceptions import ResultsError

_KIND: Final = "landed rows"
_VERSION: Final = 1
_COLUMNS: Final = {"place": "I", "length": "I", "status": "B", "model": "H", "stop_reason": "H", "hash": "22s"}
#: The hash of a row whose request is not known.
NO_HASH: Final = b"-" * 22
ROWS_SUFFIX: Final = ".jsonl"
INDEX_SUFFIX: Final = ".index"


class PartRow(NamedTuple):
    """A row to publish.

    :ivar place: index of its request.
    :ivar line: with the line feed.
    :ivar hash: content hash of the request.
    """

    place: int
    line: bytes
    outcome: Outcome
    hash: bytes


class PartContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the index of a landed part says about the whole of it. A resumption reads no more than this.

    :ivar input: digest of the requests whose rows these are.
    :ivar beside: the ``results.jsonl`` that was there when the first part was landed, empty if there was none. All that
        it holds is in the parts. Beside another one they do not count: they were merged into that.
    :ivar after: names of the parts that counted when this one was written, in order. What this one holds was read in
        addition to them.
    :ivar rows_bytes: size of the rows, and their CRC-32.
    :ivar first: request of the first status. A zero is a request without a row here. Compressed, in base64.
    :ivar outcomes: status, model and stop reason, and the number of rows that have them.
    :ivar bill: what the answers cost that were read for this part.
    :ivar batch_ids: batches whose results were read for this part.
    :ivar shortened_batch_ids: those of them some of whose answers are not kept as a whole.
    """

    input: str
    beside: str
    after: list[str]
    rows_bytes: int
    rows_crc32: int
    first: int
    statuses: str
    outcomes: list[tuple[Outcome, int]]
    bill: BillSums
    batch_ids: list[str]
    shortened_batch_ids: list[str] = []
    models: list[str | None]
    stop_reasons: list[str]


class DamagedPartError(ResultsError):
    """A landed part has other bytes than those that were written, or is gone.

    The attempt that owns the submission removes it, so that its answers are downloaded again. A reader must not.
    """

    def __init__(self, part: LandedPart, why: object) -> None:
        super().__init__(
            f"{part.uri} is not there any more as it was written ({why}).",
            "Answers of message batches stay at the API for 29 days; a retry downloads them at no cost. Requests that "
            "were asked directly (on_timeout='ask_directly') are asked, and paid for, again.",
            "Look for what changed the file, if this comes again.",
        )
        self.part = part


class LandedPart:
    """A landed part that was found in the folder. Close it.

    Example::

        with closing(LandedPart.open(folder, "landed-1-0123456789ab", folder.sizes())) as part:
            for index, line in part.lines(): ...

    :raises ResultsError: from every method that reads rows: the storage cannot be read.
    :raises DamagedPartError: from the same, if the part has other bytes than those that were written.
    """

    def __init__(self, folder: storage.Folder, name: str, index: IndexFile, content: PartContent) -> None:
        self.name = name
        self.content = content
        self.first = content.first
        self.statuses = zlib.decompress(base64.b64decode(content.statuses))
        self.last = self.first + len(self.statuses) - 1
        self._folder, self._index = folder, index
        self._file: IO[bytes] | None = None
        self._places: array[int] = array("I")
        self._ends: array[int] = array("Q")

    @classmethod
    def open(cls, folder: storage.Folder, name: str, sizes: Mapping[str, int | None]) -> LandedPart | None:
        """Open a part. None if it is not whole: it has no index that can be used, or its rows have another size.

        :param sizes: of the files in the folder.
        :raises OSError: the storage cannot be read.
        """
        index = IndexFile.open(folder, name + INDEX_SUFFIX, _KIND, _VERSION, size=sizes.get(name + INDEX_SUFFIX))
        if index is None:
            return None
        try:
            part = cls(folder, name, index, index.content(PartContent))
        except (msgspec.MsgspecError, ValueError, zlib.error):
            return None
        is_whole = sizes.get(name + ROWS_SUFFIX) == part.content.rows_bytes
        return part if is_whole and part.count == index.count else None

    def close(self) -> None:
        """Close the rows' file, if it was opened."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def uri(self) -> str:
        """Where the rows are."""
        return self._folder.uri(self.name + ROWS_SUFFIX)

    def drop(self) -> None:
        """Remove the part. Its rows count as lost then, and are downloaded again.

        :raises OSError: the storage refuses.
        """
        self._folder.remove(self.name + INDEX_SUFFIX)
        self._folder.remove(self.name + ROWS_SUFFIX)

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.statuses) - self.statuses.count(0)

    def has(self, index: int) -> bool:
        """Tell whether the part has a row of a request."""
        return self.first <= index <= self.last and bool(self.statuses[index - self.first])

    def details(self) -> Iterator[tuple[int, Outcome]]:
        """Yield the index and the outcome of each row."""
        models, stop_reasons = self.content.models, self.content.stop_reasons
        for block in self._blocks():
            columns = map(block.numbers, ("place", "status", "model", "stop_reason"))
            for index, status, model, stop_reason in zip(*columns, strict=True):
                yield index, Outcome(status, models[model], stop_reasons[stop_reason])

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield all rows, with the indices of their requests."""
        checksum = 0
        with self._reading(), self._open_rows() as file:
            for block in self._blocks():
                for index, length in zip(block.numbers("place"), block.numbers("length"), strict=True):
                    line = file.read(length)
                    checksum = zlib.crc32(line, checksum)
                    yield index, line
        if checksum != self.content.rows_crc32:
            raise DamagedPartError(self, "its checksum differs")

    def line(self, index: int) -> bytes:
        """Return the row of one request. There must be one."""
        with self._reading():
            if self._file is None:
                self._read_places()
                self._file = self._local_rows()
            position = bisect_left(self._places, index)
            start, end = self._ends[position], self._ends[position + 1]
            return os.pread(self._file.fileno(), end - start, start)

    def _read_places(self) -> None:
        places, lengths = array("I"), array("I")
        for block in self._blocks():
            places += block.numbers("place")
            lengths += block.numbers("length")
        self._places, self._ends = places, array("Q", accumulate(lengths, initial=0))

    def _local_rows(self) -> IO[bytes]:
        """Return the rows as a file on a disk. Those of an object store are copied once."""
        file = self._open_rows()
        try:
            file.fileno()
        except OSError:
            with file:
                copy: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
                shutil.copyfileobj(file, copy, 1 << 20)
                copy.flush()
                return copy
        return file

    def _open_rows(self) -> IO[bytes]:
        file = self._folder.open(self.name + ROWS_SUFFIX)
        if file is None:
            raise DamagedPartError(self, "it is gone")
        return file

    def _blocks(self) -> Iterator[Block]:
        for number in range(self._index.block_count):
            with self._reading():
                block = self._index.block(number)
            yield block

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except DamagedIndexError as error:
            raise DamagedPartError(self, error) from error
        except OSError as error:
            raise ResultsError(
                f"{self.uri} could not be read ({error}).",
                "What was landed is untouched, and nothing is paid for again.",
                "Make sure that the storage can be read, then retry the task.",
            ) from error


def part_files(name: str) -> tuple[str, str]:
    """Return the names of a part's files: rows, and index."""
    return name + ROWS_SUFFIX, name + INDEX_SUFFIX


def write_part(
    folder: storage.Folder,
    name: str,
    rows: Iterable[PartRow],
    *,
    input_digest: str,
    beside: str,
    after: Iterable[str],
    bill: BillSums,
    batch_ids: Iterable[str],
    shortened_batch_ids: Iterable[str],
) -> None:
    """Write the rows of a part, and then its index.

    :param rows: in input order.
    :raises OSError: the storage refuses. Nothing is landed then.
    """
    with tempfile.TemporaryFile() as local:
        table = _PartTable(local)
        with folder.replace_file(name + ROWS_SUFFIX) as file:
            for row in rows:
                file.write(row.line)
                table.add(row)
        content = PartContent(
            input=input_digest,
            beside=beside,
            after=list(after),
            rows_bytes=table.size,
            rows_crc32=table.checksum,
            first=table.first,
            statuses=base64.b64encode(zlib.compress(table.statuses)).decode(),
            outcomes=list(table.outcomes.items()),
            bill=bill,
            batch_ids=sorted(batch_ids),
            shortened_batch_ids=sorted(shortened_batch_ids),
            models=list(table.models),
            stop_reasons=list(table.stop_reasons),
        )
        table.index.finish(content)
        local.seek(0)
        with folder.replace_file(name + INDEX_SUFFIX) as file:
            shutil.copyfileobj(local, file, 1 << 20)


class _PartTable:
    """Gathers the index of a part while its rows are written."""

    def __init__(self, file: IO[bytes]) -> None:
        self.index = IndexWriter(file, _KIND, _VERSION, _COLUMNS)
        self.statuses = bytearray()
        self.outcomes: Counter[Outcome] = Counter()
        self.models: dict[str | None, int] = {}
        self.stop_reasons: dict[str, int] = {}
        self.first = self.size = self.checksum = 0

    def add(self, row: PartRow) -> None:
        if not self.statuses:
            self.first = row.place
        self.statuses += bytes(row.place - self.first - len(self.statuses))  # requests without a row here
        status, model, stop_reason = row.outcome
        self.statuses.append(status)
        self.outcomes[row.outcome] += 1
        model_number = self.models.setdefault(model, len(self.models))
        stop_reason_number = self.stop_reasons.setdefault(stop_reason, len(self.stop_reasons))
        self.index.add(row.place, len(row.line), status, model_number, stop_reason_number, row.hash)
        self.size += len(row.line)
        self.checksum = zlib.crc32(row.line, self.checksum)
