"""Bodies of requests, read piece by piece and never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

# One TLS record: what is written to a socket at once, so that the write timeout covers it and no more.
SLICE_BYTES: Final = 16 * 1024


class RequestBody(Protocol):
    """A body that is never held whole: it can be iterated again for another attempt.

    ``chunks()`` gives exactly ``content_length`` bytes in all, in pieces of any size.
    """

    @property
    def content_length(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body that is in memory anyway."""

    data: bytes = field(repr=False)

    @property
    def content_length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


class UploadStopped(Exception):  # noqa: N818  (it is caught where it is made to be, and becomes an APIError there)
    """We stopped sending a body; says why."""


@dataclass(frozen=True, slots=True)
class TimedBody:
    """A body in slices, of which none begins to leave after ``deadline`` on ``clock``; and none too many or too few."""

    body: RequestBody
    deadline: float
    clock: Callable[[], float]

    @property
    def content_length(self) -> int:
        return self.body.content_length

    def chunks(self) -> Iterator[bytes]:
        """Give slices.

        :raises UploadStopped: before a slice that would leave too late, or if the length is not as announced.
        """
        left = self.content_length
        for piece in self._slices():
            left -= len(piece)
            if left < 0:
                break
            if self.clock() >= self.deadline:
                raise UploadStopped("the time for sending it is over")
            yield piece
        if left:
            raise UploadStopped("its body is not as long as it was said to be")

    def _slices(self) -> Iterator[bytes]:
        for chunk in self.body.chunks():
            view = memoryview(chunk)
            for start in range(0, len(view), SLICE_BYTES):
                yield bytes(view[start : start + SLICE_BYTES])
