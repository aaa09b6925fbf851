"""Erase answers, write the whole store anew, and say what it holds. Each may be interrupted, and repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from airflow_claude_batch.batch.reuse import erasures as erasure_files
from airflow_claude_batch.batch.reuse.combine import FAN_IN, Run, combine, runs_of
from airflow_claude_batch.batch.reuse.contents import Contents
from airflow_claude_batch.batch.reuse.erasures import Erasure, Erasures
from airflow_claude_batch.batch.reuse.merging import remove
from airflow_claude_batch.batch.reuse.segment import (
    SEGMENT_PREFIXES,
    SUFFIX,
    DamagedSegmentError,
    SegmentGoneError,
    warn_of,
)
from airflow_claude_batch.batch.reuse.stored_answer import time_of
from airflow_claude_batch.batch.storage import Folder

#: So often a step begins again when other processes merge or erase meanwhile.
_TRIES: Final = 10
_T = TypeVar("_T")


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds.

    :ivar answers: of all segments. A question that was asked anew may have several until they are merged.
    :ivar segments: that look-ups read.
    :ivar bytes: of all segments.
    :ivar submissions: number of submissions that paid for the answers.
    :ivar models: models that answered.
    :ivar oldest: when the oldest answer was given, and the newest. None if there is none.
    :ivar erasures: number of erasures that are still remembered.
    :ivar damaged: segments that cannot be read.
    """

    answers: int
    segments: int
    bytes: int
    submissions: int
    models: list[str]
    oldest: datetime | None
    newest: datetime | None
    erasures: int
    damaged: list[str]


def stats(folder: Folder) -> StoreStats:
    """Return what a folder holds.

    :raises OSError: it cannot be read.
    """
    contents = _again(lambda: Contents.of(folder))
    found = [segment.content for segment in contents.segments if segment.count]
    return StoreStats(
        answers=sum(segment.count for segment in contents.segments),
        segments=len(contents.segments),
        bytes=contents.size,
        submissions=len({submission for content in found for submission in content.submissions}),
        models=sorted({model for content in found for model in content.models}),
        oldest=time_of(min(content.oldest for content in found)) if found else None,
        newest=time_of(max(content.newest for content in found)) if found else None,
        erasures=len(contents.erasures.names),
        damaged=sorted(folder.uri(name + SUFFIX) for name in (*contents.damaged, *contents.unread)),
    )


def count_erased(folder: Folder, erasure: Erasure) -> int:
    """Return how many answers an erasure would remove.

    :raises OSError: the storage cannot be read.
    """
    erasures = Erasures({"": erasure})

    def count() -> int:
        return sum(
            segment.count - sum(1 for _ in erasures.keep(segment.entries()))
            for segment in Contents.of(folder).segments
            if erasures.concern(segment)
        )

    return _again(count)


def erase(folder: Folder, erasure: Erasure, now: datetime) -> None:
    """Erase answers: they are not found any more as soon as the first file is written. Then remove them from all files.

    Segments that are damaged are removed: nobody knows what is in them.

    :raises OSError: the storage cannot be read or written. If the erasure is written, it counts.
    """
    erasure_files.write(folder, erasure)
    if not erasure.before:
        _remove_temporary(folder)
    checked: set[str] = set()
    while not _again(lambda: _erase_once(folder, checked)):
        pass
    _remove_outdated(folder, now)


def compact(folder: Folder, now: datetime) -> None:
    """Write all answers anew: as few segments as possible, each question once, nothing that is erased.

    :raises OSError: the storage cannot be read or written.
    """
    _remove_temporary(folder)
    while not _again(lambda: _compact_once(folder)):
        pass
    _remove_outdated(folder, now)


def _erase_once(folder: Folder, checked: set[str]) -> bool:
    """Remove what is erased from the segments that are not checked. Return True if there was none."""
    contents = _clean(folder)
    rest = [segment for segment in contents.segments if segment.name not in checked]
    for segment in rest:
        with _removed_if_damaged(folder):
            if contents.erasures.concern(segment):
                checked.update(combine(folder, [[segment]], contents.erasures))
        checked.add(segment.name)
    return not rest


def _compact_once(folder: Folder) -> bool:
    """Combine the smallest runs. Return True if there was nothing to do."""
    contents = _clean(folder)
    runs = sorted(runs_of(contents.segments), key=_size)[:FAN_IN]
    with _removed_if_damaged(folder):
        if len(runs) <= 1 and not any(contents.erasures.concern(segment) for run in runs for segment in run):
            return True
        combine(folder, runs, contents.erasures)
    return False


def _clean(folder: Folder) -> Contents:
    """List a folder, and remove what counts as not there.

    :raises OSError: a segment cannot be read now: nobody knows what is in it.
    """
    contents = Contents.of(folder)
    if contents.unread:
        raise OSError(f"{folder.uri(contents.unread[0] + SUFFIX)} cannot be read")
    remove(folder, (*contents.replaced, *contents.damaged))
    return contents


@contextmanager
def _removed_if_damaged(folder: Folder) -> Iterator[None]:
    try:
        yield
    except DamagedSegmentError as error:
        warn_of(folder.uri(error.name + SUFFIX), error)
        remove(folder, [error.name])


def _remove_temporary(folder: Folder) -> None:
    """Remove what killed writers have left.

    A writer that runs at this moment fails, with a warning, and its answers are not stored.
    """
    for prefix in SEGMENT_PREFIXES:
        folder.remove_temporary_files(prefix)


def _remove_outdated(folder: Folder, now: datetime) -> None:
    for name in _again(lambda: Contents.of(folder)).erasures.outdated(now):
        folder.remove(name)


def _size(run: Run) -> int:
    return sum(segment.content.lines_bytes for segment in run)


def _again(step: Callable[[], _T]) -> _T:
    """Do a step again when what it reads was removed meanwhile: another process has merged or erased.

    :raises OSError: that happened too often.
    """
    for _ in range(_TRIES):
        try:
            return step()
        except SegmentGoneError as error:
            gone = error
    raise OSError(f"{gone} and other files were removed while they were read")
