"""Merge small segments, as a log-structured merge tree does, so that a look-up reads few of them.

Segments are of four classes, by their answers and bytes: below an eighth of an eighth of a full one, below an eighth,
below a full one, and full. Eight of a class are merged into one, which is of the next class unless many answers were
in several of them. So there are at most seven of each class but the full ones, and an answer is written anew about
three times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from airflow_claude_batch.batch.reuse import erasures as erasure_files
from airflow_claude_batch.batch.reuse.combine import FAN_IN, combine
from airflow_claude_batch.batch.reuse.contents import Contents
from airflow_claude_batch.batch.reuse.erasures import Erasures
from airflow_claude_batch.batch.reuse.segment import SUFFIX, DamagedSegmentError, Segment, warn_of
from airflow_claude_batch.batch.storage import Folder

#: A segment of as many answers, or as many bytes, is full: it is not merged any more. A quarter and more of what a
#: segment can hold.
FULL_ANSWERS: Final = 32_768
FULL_BYTES: Final = 64 * 1024 * 1024
_RATIO: Final = 8
_CLASSES: Final = 3


def merge(folder: Folder, *, most_bytes: int) -> None:
    """Merge as long as there are eight of a class.

    :param most_bytes: that are read in this call.
    :raises OSError: the storage cannot be read or written.
    :raises SegmentGoneError: another process merges, too. It does what this call would do.
    """
    written: dict[str, Sequence[str]] = {}
    left_out: set[str] = set()
    while True:
        contents = Contents.of(folder)
        remove(folder, contents.replaced)
        usable = [segment for segment in contents.segments if segment.name not in left_out]
        group = _with_erased(usable, written, contents.erasures)
        if not group:
            group = choose(usable, most_bytes)
            most_bytes -= sum(segment.content.lines_bytes for segment in group)
        if not group:
            return
        try:
            names = combine(folder, [[segment] for segment in group], contents.erasures)
        except DamagedSegmentError as error:
            warn_of(folder.uri(error.name + SUFFIX), error)
            left_out.add(error.name)
        else:
            written.update(dict.fromkeys(names, contents.erasures.names))


def remove_erased(folder: Folder, written: Iterable[str], known: Erasures) -> None:
    """Write segments anew that have answers which were erased while they were written.

    A process that erases lists the segments after it has written its erasure. A process that writes segments lists the
    erasures after it has written them. So at least one of the two sees what the other one wrote.

    :param known: the erasures that were known.
    :raises OSError: the storage cannot be read or written.
    :raises SegmentGoneError: another process merges meanwhile.
    """
    if not erasure_files.added_since(folder, known.names):
        return
    contents = Contents.of(folder)
    known_to = dict.fromkeys(written, known.names)
    for segment in contents.segments:
        if _with_erased([segment], known_to, contents.erasures):
            combine(folder, [[segment]], contents.erasures)


def _with_erased(
    segments: Iterable[Segment], written: Mapping[str, Sequence[str]], erasures: Erasures
) -> list[Segment]:
    """Return a segment that was written before an erasure, and has what that erases. Empty if there is none.

    :param written: names of segments with those of the erasures that were known then.
    """
    for segment in segments:
        known = written.get(segment.name)
        if known is not None and known != erasures.names and erasures.concern(segment):
            return [segment]
    return []


def choose(segments: Iterable[Segment], most_bytes: int) -> list[Segment]:
    """Choose the segments to merge: the first eight of the smallest class that has as many, or those of them that fit.

    :param most_bytes: of all together.
    """
    classes: list[list[Segment]] = [[] for _ in range(_CLASSES)]
    for segment in segments:
        if (class_ := size_class(segment.count, segment.content.lines_bytes)) < _CLASSES:
            classes[class_].append(segment)
    for members in classes:
        if len(members) >= FAN_IN:
            chosen = _fitting(sorted(members, key=lambda one: (one.content.lines_bytes, one.name)), most_bytes)
            if len(chosen) > 1:
                return chosen
    return []


def size_class(answers: int, bytes_: int) -> int:
    """Return 0 for the smallest segments, and so on up to 3 for full ones."""
    class_, full_answers, full_bytes = _CLASSES, FULL_ANSWERS, FULL_BYTES
    while class_ and answers < full_answers and bytes_ < full_bytes:
        class_, full_answers, full_bytes = class_ - 1, full_answers // _RATIO, full_bytes // _RATIO
    return class_


def remove(folder: Folder, names: Iterable[str]) -> None:
    """Remove segments.

    :raises OSError: the storage refuses.
    """
    for name in names:
        folder.remove(name + SUFFIX)


def _fitting(segments: Sequence[Segment], most_bytes: int) -> list[Segment]:
    chosen: list[Segment] = []
    for segment in segments[:FAN_IN]:
        most_bytes -= segment.content.lines_bytes
        if most_bytes < 0:
            break
        chosen.append(segment)
    return chosen
