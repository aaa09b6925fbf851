"""Choose how many rows are fetched from a database at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

#: What a group of rows takes in memory, about.
_GROUP_BYTES: Final = 1024 * 1024
#: A group is held twice: by the driver, and as Python's values. Larger groups are hardly faster.
_MOST_ROWS: Final = 200
#: Growth from one group to the next. The size of the next rows is not known before they are there.
_GROWTH: Final = 2


class FetchSize:
    """The number of rows to fetch next. It starts small, grows slowly, and shrinks at once where rows are large.

    >>> size = FetchSize()
    >>> size.after([("x",)]), size.after([("x",), ("y",)]), size.after([("x" * 40_000_000,)] * 4)
    (2, 4, 1)
    """

    def __init__(self) -> None:
        self._largest = 0

    def after(self, group: Sequence[Any]) -> int:
        """Return the number of rows to fetch after a group that is not empty."""
        self._largest = max(self._largest // 2, *map(_size_of, group), 1)
        return max(1, min(len(group) * _GROWTH, _GROUP_BYTES // self._largest, _MOST_ROWS))


def _size_of(value: Any) -> int:
    """Return the approximate size of a row or a value in bytes. Only what can be large counts."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value)
    if isinstance(value, memoryview):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size_of, value))
    return 8
