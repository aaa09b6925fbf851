"""List what a folder holds: the segments that count, those that were replaced, and what was erased."""

from __future__ import annotations

from airflow_claude_batch.batch.reuse.erasures import Erasures, is_erasure
from airflow_claude_batch.batch.reuse.segment import SUFFIX, DamagedSegmentError, Segment, names_of, warn_of
from airflow_claude_batch.batch.storage import Folder


def is_stored_file(name: str) -> bool:
    """Return whether a file of this name is one of an answer store."""
    return name.endswith(SUFFIX) or is_erasure(name)


class Contents:
    """The files of a folder at one moment.

    :ivar segments: those that count, in the order of their names.
    :ivar replaced: names of those whose answers are in other segments. A crash has left them.
    :ivar damaged: names of those whose end is damaged. They count as not there.
    :ivar unread: names of those that cannot be read now. They count as not there.
    :ivar size: bytes of all segments.
    """

    def __init__(
        self,
        segments: list[Segment],
        replaced: list[str],
        *,
        damaged: list[str],
        unread: list[str],
        erasures: Erasures,
        size: int,
    ) -> None:
        self.segments, self.replaced = segments, replaced
        self.damaged, self.unread = damaged, unread
        self.erasures, self.size = erasures, size

    @classmethod
    def of(cls, folder: Folder) -> Contents:
        """List the folder, and read the erasures and the end of each segment.

        :raises OSError: the folder cannot be listed, or an erasure cannot be read.
        :raises SegmentGoneError: a file was removed meanwhile. Try again.
        """
        sizes = folder.sizes()
        erasures = Erasures.read(folder, sizes)
        found: dict[str, Segment] = {}
        damaged, unread = list[str](), list[str]()
        for name in names_of(sizes):
            try:
                found[name] = Segment.open(folder, name, sizes)
            except (DamagedSegmentError, OSError) as error:
                warn_of(folder.uri(name + SUFFIX), error)
                (damaged if isinstance(error, DamagedSegmentError) else unread).append(name)
        replaced = {name for segment in found.values() for name in segment.content.replaces}
        return cls(
            [segment for name, segment in found.items() if name not in replaced],
            [name for name in found if name in replaced],
            damaged=damaged,
            unread=unread,
            erasures=erasures,
            size=sum(sizes[name + SUFFIX] for name in (*found, *damaged, *unread)),
        )
