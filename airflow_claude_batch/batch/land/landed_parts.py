"""The landed parts of a submission that still runs, as one: which rows are there, and in which part."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from airflow_claude_batch.batch.land.landed_part import (
    INDEX_SUFFIX,
    ROWS_SUFFIX,
    LandedPart,
)
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)

_PREFIX: Final = "landed-"
_NAME: Final = re.compile(_PREFIX + r"(\d+)-\w+\.(?:jsonl|index)")
#: How much of the end of ``results.jsonl`` tells it from another one of the same size.
_COMPARED_BYTES: Final = 4096


def has_landed(folder: Folder) -> bool:
    """Tell whether anything was landed in a folder.

    :raises OSError: the storage cannot be read.
    """
    names = folder.names()
    return RESULTS_FILE in names or bool(_of_parts(names))


def find_parts(folder: Folder) -> list[LandedPart]:
    """Return the parts whose rows count, in the order in which they were landed. Close them.

    The newest part names those before it. Others do not count: two processes that did not see each other's parts may
    have landed the same answers. Neither do those that were merged into ``results.jsonl``, nor those that come after
    one that is not whole. The caller sees that answers are missing, and downloads them again.

    :raises OSError: the storage cannot be read.
    """
    sizes = folder.sizes()
    names = {name.removesuffix(INDEX_SUFFIX) for name in _of_parts(sizes) if name.endswith(INDEX_SUFFIX)}
    if not names:
        return []
    beside = results_identity(folder, sizes)
    for name in sorted(names, key=_number, reverse=True):
        newest = LandedPart.open(folder, name, sizes)
        if newest is None:
            _log_lost(folder, name)
        elif newest.content.beside == beside:
            return _with_earlier(folder, newest, sizes)
    return []


def _with_earlier(folder: Folder, newest: LandedPart, sizes: Mapping[str, int]) -> list[LandedPart]:
    """Return the parts that came before the newest one, and that one, up to the first that is not whole.

    Those after it may replace its rows, and what they say of the costs is in addition to it.
    """
    found = list[LandedPart]()
    for name in newest.content.after:
        part = LandedPart.open(folder, name, sizes)
        if part is None:
            _log_lost(folder, name)
            return found
        found.append(part)
    return [*found, newest]


def _log_lost(folder: Folder, name: str) -> None:
    log.warning(
        "%s or its index is not whole, so its rows count as lost, and those of later parts. The answers are downloaded "
        "again, at no cost.",
        folder.uri(name + ROWS_SUFFIX),
    )


def new_part_name(names: Iterable[str]) -> str:
    """Return a name for another part, which comes after those that are there.

    :param names: of the files in the folder.
    """
    number = max(map(_number, _of_parts(names)), default=0) + 1
    return f"{_PREFIX}{number}-{new_token()}"


def results_identity(folder: Folder, sizes: Mapping[str, int]) -> str:
    """Return what tells one ``results.jsonl`` from another: size and checksum of its end. Empty if there is none.

    :param sizes: of the files in the folder.
    """
    size = sizes.get(RESULTS_FILE)
    if size is None:
        return ""
    end = folder.read_range(RESULTS_FILE, max(0, size - _COMPARED_BYTES), size)
    return "" if end is None else f"{size}-{zlib.crc32(end):08x}"


def remove_parts(folder: Folder, *others: str, must: bool = False) -> None:
    """Remove all landed parts, once their rows are in ``results.jsonl``. The storage may refuse: then they stay.

    What stays does not count, because it was landed beside another ``results.jsonl``.

    :param others: names of other files that are not needed any more.
    :param must: ``results.jsonl`` may be the same as before, so that what stays would count.
    :raises OSError: the storage refuses, although it ``must`` not.
    """
    try:
        names = folder.names()
        # The first index goes first: without it, no part counts.
        parts = sorted(_of_parts(names), key=lambda name: (name.endswith(ROWS_SUFFIX), _number(name)))
        for name in (*parts, *(name for name in others if name in names)):
            folder.remove(name)
        folder.remove_temporary_files(_PREFIX)  # of writers that were killed
    except OSError as error:
        if must:
            raise
        log.warning("Files that are not needed any more could not be removed. %s", error)


def merge_lines(parts: Sequence[LandedPart], skipped: bytes | bytearray = b"") -> Iterator[tuple[int, bytes]]:
    """Yield the rows of all parts with the indices of their requests, in order. Of several rows the last landed counts.

    :param skipped: for each request, whether its rows are left out.
    :raises ResultsError: a part cannot be read, or has other bytes than those that were written.
    """
    by_place = sorted(enumerate(parts), key=lambda part: part[1].first)
    is_in_sequence = all(one.last < other.first for (_, one), (_, other) in itertools.pairwise(by_place))
    rows = (
        itertools.chain.from_iterable(part.lines() for _, part in by_place) if is_in_sequence else _last_rows(by_place)
    )
    if not any(skipped):
        return rows
    return ((index, line) for index, line in rows if not skipped[index])


def _last_rows(parts: Sequence[tuple[int, LandedPart]]) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of parts that overlap. A part is opened when its first row is next."""
    rows: list[tuple[int, int, bytes, Iterator[tuple[int, int, bytes]]]] = []
    waiting = list(reversed(parts))
    while rows or waiting:
        while waiting and (not rows or waiting[-1][1].first <= rows[0][0]):
            number, part = waiting.pop()
            _push(rows, _numbered(part, -number))
        index, _, line, source = heapq.heappop(rows)
        _push(rows, source)
        while rows and rows[0][0] == index:  # an earlier row of the same request
            _push(rows, heapq.heappop(rows)[3])
        yield index, line


def _numbered(part: LandedPart, number: int) -> Iterator[tuple[int, int, bytes]]:
    return ((index, number, line) for index, line in part.lines())


def _push(
    rows: list[tuple[int, int, bytes, Iterator[tuple[int, int, bytes]]]], source: Iterator[tuple[int, int, bytes]]
) -> None:
    if (row := next(source, None)) is not None:
        heapq.heappush(rows, (*row, source))


@contextlib.contextmanager
def landed_lines(folder: Folder) -> Iterator[Iterator[bytes] | None]:
    """Open what is landed so far: the parts, or ``results.jsonl`` if there are none. None if nothing is landed.

    Example::

        with landed_lines(folder) as lines:
            count = count_results(lines or ())

    :raises OSError: the storage cannot be read.
    :raises ResultsError: while reading: a part cannot be read.
    """
    parts = find_parts(folder)
    if parts:
        with contextlib.ExitStack() as stack:
            for part in parts:
                stack.callback(part.close)
            yield _lines(parts)
        return
    file = folder.open(RESULTS_FILE)
    if file is None:
        yield None
        return
    with file:
        yield iter(file)


def merge_parts(parts: Sequence[LandedPart], folder: Folder) -> None:
    """Write ``results.jsonl`` with the rows of these parts, and remove all parts.

    :raises OSError: the storage cannot be written.
    :raises ResultsError: a part cannot be read.
    """
    with folder.replace_file(RESULTS_FILE) as file:
        file.writelines(_lines(parts))
    remove_parts(folder)


def _lines(parts: Sequence[LandedPart]) -> Iterator[bytes]:
    return (line for _, line in merge_lines(parts))


def _of_parts(names: Iterable[str]) -> list[str]:
    return [name for name in names if _NAME.fullmatch(name)]


def _number(name: str) -> int:
    return int(name.split("-")[1])
