"""The body of a create call, streamed from the file of requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from airflow_claude_batch.batch.input.request_file import RequestFile

_HEAD: Final = b'{"requests":['
_TAIL: Final = b"]}"
_CHUNK_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class CreateBody:
    """The body of one create call.

    :param indices: the requests to send. Must be iterable more than once: a refused create may be sent again.
    :param token: of the part, for the custom_ids.
    """

    requests: RequestFile
    indices: Iterable[int]
    token: str

    @cached_property
    def content_length(self) -> int:
        """Return the exact number of bytes that :meth:`chunks` yields."""
        items = sum(self.requests.wire_size(index) for index in self.indices)
        return len(_HEAD) + items - 1 + len(_TAIL)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in chunks of about 256 KB."""
        buffer = bytearray(_HEAD)
        comma = b""
        for index in self.indices:
            custom_id = self.requests.custom_id(index, self.token).encode()
            buffer += b'%b{"custom_id":"%b","params":%b}' % (comma, custom_id, self.requests.params(index))
            comma = b","
            if len(buffer) >= _CHUNK_BYTES:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer + _TAIL)
