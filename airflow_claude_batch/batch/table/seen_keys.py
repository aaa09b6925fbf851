"""Find out whether a key came before, in a few bytes a key."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST_SLOTS: Final = 1 << 12
_BITS: Final = (1 << 63) - 1


class SeenKeys:
    """Set of the hashes of keys: 8 bytes a slot, at most two thirds of the slots in use.

    Two keys out of a million share a hash once in 30 million times. The hash is another one in each process.
    """

    def __init__(self) -> None:
        self._slots = array("q", bytes(8 * _FIRST_SLOTS))
        self._count = 0

    def add(self, key: str) -> bool:
        """Add a key. Return False if it was added before."""
        if 3 * self._count >= 2 * len(self._slots):
            self._grow()
        if not _put(self._slots, (hash(key) & _BITS) or 1):  # zero marks a free slot
            return False
        self._count += 1
        return True

    def _grow(self) -> None:
        slots = array("q", bytes(16 * len(self._slots)))
        for value in self._slots:
            if value:
                _put(slots, value)
        self._slots = slots


def _put(slots: array[int], value: int) -> bool:
    mask = len(slots) - 1
    place = value & mask
    while found := slots[place]:
        if found == value:
            return False
        place = (place + 1) & mask
    slots[place] = value
    return True
