"""Split requests into create calls within the API's limits. Arithmetic over sizes only."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from airflow_claude_batch.api.limits import MAX_BATCH_BYTES, MAX_REQUESTS

#: Size of ``{"requests":[`` and ``]}``.
ENVELOPE_BYTES = 15


@dataclass(frozen=True, slots=True)
class Slice:
    """Requests of one create call.

    :param indices: ascending.
    :param size: size of the call's body in bytes.
    :param is_sample: other requests between the first and the last are not sent yet.
    """

    indices: array[int]
    size: int
    is_sample: bool = False

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
    """Split requests into slices, in order, each as full as the limits allow.

    No single request exceeds ``max_bytes``: the input checks refuse that.

    :param sizes: index and size in bytes of each request, as it is sent.
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
