"""The lines of a submission's rows, from any position: of ``results.jsonl``, or of the parts that are landed so far.

A position counts bytes over all files in the order in which they were landed. It stays the same while more is landed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from airflow_claude_batch.batch.land.landed_part import ROWS_SUFFIX, LandedPart
from airflow_claude_batch.batch.land.landed_parts import find_parts
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.web.bounded_folder import CHUNK_BYTES, BoundedFolder

#: Of a longer line only the beginning is read: it has key, status and the beginning of the answer.
MAX_LINE_BYTES: Final = 1 << 20
_FIRST_CHUNK_BYTES: Final = 64 << 10
#: Turns the statuses of a part into a mask of the requests that it has no row of.
_NOTHING_NEW: Final = b"\xff" + bytes(255)


class Line(NamedTuple):
    """A line of a file.

    :ivar position: of its first byte.
    :ivar data: without the line feed. Of a long line, the beginning.
    :ivar is_cut: there is more of it.
    """

    position: int
    data: bytes
    is_cut: bool


@dataclass(frozen=True, slots=True)
class LineFile:
    """A file with lines.

    :param start: position of its first byte.
    """

    name: str
    size: int
    start: int = 0

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class LandedRows:
    """The files that have the rows which are landed so far.

    :param parts: empty once all rows are in ``results.jsonl``.
    """

    files: Sequence[LineFile]
    parts: Sequence[LandedPart]

    @property
    def size(self) -> int:
        return self.files[-1].end if self.files else 0

    @property
    def statuses(self) -> bytes:
        """The status of each request as a byte, of those that a landed part has a row of. Later parts count."""
        known = bytes(max((part.last + 1 for part in self.parts), default=0))
        for part in self.parts:
            new = bytes(part.first) + part.statuses
            kept = new.translate(_NOTHING_NEW) + b"\xff" * (len(known) - len(new))
            both = int.from_bytes(known, "little") & int.from_bytes(kept, "little") | int.from_bytes(new, "little")
            known = both.to_bytes(len(known), "little")
        return known

    def is_superseded(self, file: LineFile, index: int) -> bool:
        """Return True if a part that was landed later has a row of the same request."""
        number = self.files.index(file)
        return any(part.has(index) for part in self.parts[number + 1 :])


def find_rows(folder: BoundedFolder, sizes: Mapping[str, int]) -> LandedRows:
    """Find the files with the rows.

    :param sizes: of the files in the folder.
    :raises OSError: the storage cannot be read.
    """
    parts = find_parts(folder)
    if not parts:
        size = sizes.get(RESULTS_FILE)
        return LandedRows([] if size is None else [LineFile(RESULTS_FILE, size)], ())
    files, start = list[LineFile](), 0
    for part in parts:
        files.append(LineFile(part.name + ROWS_SUFFIX, part.content.rows_bytes, start))
        start = files[-1].end
    return LandedRows(files, parts)


class LineReader:
    """Reads lines from a position on, until the budget of the folder is spent.

    Example::

        reader = LineReader(folder, landed.files)
        for file, line in reader: ...
        reader.position  # where to go on

    :param position: one within a line stands for the next line.
    :ivar position: of the first line that was not read, or within a long one of which the beginning was read.
    """

    def __init__(self, folder: BoundedFolder, files: Sequence[LineFile], position: int = 0) -> None:
        self._folder = folder
        self._files = files
        self.position = position

    def __iter__(self) -> Iterator[tuple[LineFile, Line]]:
        """Yield each line once its end was found, or once it is too long to be read as a whole.

        :raises OSError: the storage cannot be read.
        """
        for file in self._files:
            if self.position < file.end:
                self.position = max(self.position, file.start)
                for line in self._lines_of(file):
                    yield file, line
            if self.position < file.end:  # the budget is spent
                return

    def _lines_of(self, file: LineFile) -> Iterator[Line]:
        is_within = _is_within_line(self._folder, file, self.position)
        line = None if is_within else _LineBuffer(self.position)
        for at, data in read_chunks(self._folder, file, self.position):
            begin = 0
            while begin < len(data):
                end = data.find(b"\n", begin)
                stop = len(data) if end < 0 else end
                if line is not None:
                    line.add(data[begin : min(stop, begin + MAX_LINE_BYTES + 1)])
                    is_last = at + len(data) == file.end  # it may have no line feed
                    if end >= 0 or line.is_cut or is_last:
                        self.position = min(at + stop + 1, file.end)
                        yield line.finish()
                        line = None
                begin = stop + 1
                if end >= 0:
                    line = _LineBuffer(at + begin)
            if line is None:
                self.position = at + len(data)
            elif line.position > self.position:
                self.position = line.position


def read_line(folder: BoundedFolder, files: Sequence[LineFile], position: int) -> tuple[LineFile, Line] | None:
    """Read the line that begins at a position, whatever is left of the budget. None if no line begins there.

    :raises OSError: the storage cannot be read.
    """
    for file in files:
        if file.start <= position < file.end:
            return None if _is_within_line(folder, file, position) else (file, _read_line(folder, file, position))
    return None


def _read_line(folder: BoundedFolder, file: LineFile, position: int) -> Line:
    data, most = b"", min(MAX_LINE_BYTES + 1, file.end - position)
    for length in (min(_FIRST_CHUNK_BYTES, most), most):
        data = folder.read_range(file.name, position - file.start, position - file.start + length) or b""
        if (end := data.find(b"\n")) >= 0:
            return Line(position, data[:end], is_cut=False)
    return Line(position, data[:MAX_LINE_BYTES], is_cut=len(data) > MAX_LINE_BYTES)


def read_chunks(folder: BoundedFolder, file: LineFile, position: int) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes of a file from a position on, until the budget is spent. Chunks grow to 4 MiB.

    :raises OSError: the storage cannot be read.
    """
    length = _FIRST_CHUNK_BYTES
    while position < file.end and not folder.budget.is_spent:
        end = min(position + length, file.end)
        data = folder.read_range(file.name, position - file.start, end - file.start)
        if data is None:
            return
        yield position, data
        position, length = end, min(2 * length, CHUNK_BYTES)


def _is_within_line(folder: BoundedFolder, file: LineFile, position: int) -> bool:
    before = position - file.start
    return before > 0 and folder.read_range(file.name, before - 1, before) != b"\n"


class _LineBuffer:
    """Keeps the beginning of a line that comes in pieces."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.data = b""
        self.is_cut = False

    def add(self, piece: bytes) -> None:
        room = MAX_LINE_BYTES - len(self.data)
        self.is_cut = self.is_cut or len(piece) > room
        self.data += piece[:room]

    def finish(self) -> Line:
        return Line(self.position, self.data, self.is_cut)
