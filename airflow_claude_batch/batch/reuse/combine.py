"""Write segments anew as fewer, or without what was erased. Nothing is lost or comes back, wherever a crash cuts it.

New segments are written first. The last of them names those that it replaces, and those are removed after it. Until it
is there the old ones count, and the newest answer of all counts: an answer that is in both is the same answer.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from operator import attrgetter
from typing import Final

from airflow_claude_batch.batch.reuse.erasures import Erasures
from airflow_claude_batch.batch.reuse.segment import SUFFIX, Entry, Segment
from airflow_claude_batch.batch.reuse.segment_writer import write_segments
from airflow_claude_batch.batch.storage import Folder

#: Segments, or runs of them, that are read at once. Each takes about a megabyte.
FAN_IN: Final = 8
_QUESTION: Final = attrgetter("question")

#: Segments that follow each other in the order of their question keys.
Run = Sequence[Segment]


def combine(folder: Folder, runs: Sequence[Run], erasures: Erasures) -> list[str]:
    """Write the answers of all runs anew, without those that are erased. Return the names of the new segments.

    :param erasures: those that are known. If others come meanwhile, the caller's next look at the folder finds them.
    :raises OSError: the storage cannot be read or written.
    :raises DamagedSegmentError: the index of a segment is damaged. Nothing was changed.
    :raises SegmentGoneError: a segment is not there any more. Nothing was changed.
    """
    runs = sorted(runs, key=lambda run: run[0].name)
    old = [segment.name for run in runs for segment in run]
    entries = erasures.keep(_newest(heapq.merge(*map(_entries_of, runs), key=_QUESTION)))
    written = write_segments(folder, _names(old, erasures), entries, old)
    for name in old:
        folder.remove(name + SUFFIX)
    return written


def runs_of(segments: Iterable[Segment]) -> list[Run]:
    """Group the segments that were written in one go: they follow each other, so that they are read as one."""
    runs: dict[str, list[tuple[int, Segment]]] = {}
    for segment in segments:
        run, _, number = segment.name.rpartition("-")
        if segment.name.startswith("merged-") and number.isdecimal():
            runs.setdefault(run, []).append((int(number), segment))
        else:
            runs[segment.name] = [(0, segment)]
    return [[segment for _, segment in sorted(run, key=lambda pair: pair[0])] for run in runs.values()]


def _names(old: Sequence[str], erasures: Erasures) -> Iterator[str]:
    """Yield the names of new segments. Two processes that combine the same segments use the same names."""
    made_of = "\n".join((*sorted(old), *erasures.names))
    digest = hashlib.blake2b(made_of.encode(), digest_size=12).hexdigest()
    return (f"merged-{digest}-{number}" for number in count())


def _entries_of(run: Run) -> Iterator[Entry]:
    return chain.from_iterable(segment.entries() for segment in run)


def _newest(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the newest answer of each question. Answers to the same question follow each other."""
    best: Entry | None = None
    for entry in entries:
        if best is not None and best.question == entry.question:
            best = entry if entry.answered_at >= best.answered_at else best
            continue
        if best is not None:
            yield best
        best = entry
    if best is not None:
        yield best
