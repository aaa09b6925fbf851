"""Bodies of requests, read piece by piece and never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

# One TLS record. The write timeout applies to what is written to a socket at once.
SLICE_BYTES: Final = 16 * 1024


class RequestBody(Protocol):
    """A body that can be read again for another attempt.

    ``chunks()`` yields exactly ``content_length`` bytes in total, in chunks of any size.
    """

    @property
    def content_length(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class BytesBody:
    """A body in memory."""

    data: bytes = field(repr=False)

    @property
    def content_length(self) -> int:
        return len(self.data)

    def chunks(self) -> Iterator[bytes]:
        yield self.data


class UploadStopped(Exception):  # noqa: N818  (the transport catches it and raises an APIError)
    """We stopped sending a body. The message says why."""


@dataclass(frozen=True, slots=True)
class DeadlineBody:
    """A body in slices. No slice is sent after ``deadline`` on ``clock``, and its length is checked."""

    body: RequestBody
    deadline: float
    clock: Callable[[], float]

    @property
    def content_length(self) -> int:
        return self.body.content_length

    def chunks(self) -> Iterator[bytes]:
        """Yield the slices.

        :raises UploadStopped: the deadline has passed, or the length is not ``content_length``.
        """
        left = self.content_length
        for piece in self._slices():
            left -= len(piece)
            if left < 0:
                break
            if self.clock() >= self.deadline:
                raise UploadStopped("the deadline for sending it has passed")
            yield piece
        if left:
            raise UploadStopped("its body does not have the announced length")

    def _slices(self) -> Iterator[bytes]:
        for chunk in self.body.chunks():
            view = memoryview(chunk)
            for start in range(0, len(view), SLICE_BYTES):
                yield bytes(view[start : start + SLICE_BYTES])
