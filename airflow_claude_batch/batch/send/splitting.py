"""How requests are dealt out to create calls: pure arithmetic over sizes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_claude_batch.api.limits import MAX_BATCH_BYTES, MAX_REQUESTS

#: ``{"requests":[`` and ``]}``
ENVELOPE_BYTES = 15


@dataclass(frozen=True, slots=True)
class Slice:
    """The requests of one create call: ascending indices, and the size of its body in bytes."""

    indices: array[int]
    size: int

    @property
    def first(self) -> int:
        return self.indices[0]

    @property
    def last(self) -> int:
        return self.indices[-1]


def split(
    sizes: Iterable[tuple[int, int]],
    *,
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[Slice]:
    """Deal (index, bytes on the wire) out to slices in order, each as full as the limits allow.

    No request is larger than ``max_bytes`` alone: that was refused when it was read.
    """
    indices: array[int] = array("I")
    total = ENVELOPE_BYTES
    for index, size in sizes:
        if indices and (len(indices) == max_requests or total + size > max_bytes):
            yield Slice(indices, total)
            indices, total = array("I"), ENVELOPE_BYTES
        indices.append(index)
        total += size
    if indices:
        yield Slice(indices, total)
