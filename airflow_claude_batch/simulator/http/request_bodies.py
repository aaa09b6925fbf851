"""Request bodies: small ones in memory, large ones in temporary files. Decompresses gzip."""

from __future__ import annotations

import tempfile
import zlib
from mmap import ACCESS_READ, mmap

from airflow_claude_batch.simulator.http.errors import APIError
from airflow_claude_batch.simulator.http.exchange import Body

SPILL_BYTES = 4_000_000
_STEP_BYTES = 1 << 20


class BodyTooLarge(Exception):  # noqa: N818  (leads to a 413, not a failure)
    """The body is larger than the limit allows."""


class BodyBuffer:
    """Collects a body in pieces.

    Above `SPILL_BYTES` the body moves to an unnamed file and is read through a memory map. So a million stored
    requests use the page cache instead of memory.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._size = 0
        # Closed by finish(), or by the garbage collector when an upload is abandoned.
        self._file = tempfile.SpooledTemporaryFile(max_size=SPILL_BYTES)  # noqa: SIM115

    def add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            self.discard()
            raise BodyTooLarge
        self._file.write(piece)

    def finish(self) -> Body:
        """Return the whole body. Nothing can be added afterwards."""
        with self._file as file:
            if self._size <= SPILL_BYTES:
                file.seek(0)
                return file.read()
            file.flush()
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def discard(self) -> None:
        self._file.close()


def decode_body(body: Body, encoding: str | None, *, limit: int) -> Body:
    """Undo the Content-Encoding of a body.

    :raises APIError: 400 for any encoding but gzip and for broken gzip, 413 when the decoded body is too large.
    """
    match (encoding or "identity").strip().lower():
        case "identity":
            return body
        case "gzip":
            return _gunzip(body, limit=limit)
        case other:
            message = f"Content-Encoding '{other}' is not supported. Use gzip or send the body unencoded."
            raise APIError(400, message, code="request_body_encoding_unsupported")


def _gunzip(body: Body, *, limit: int) -> Body:
    buffer = BodyBuffer(limit=limit)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for start in range(0, len(body), _STEP_BYTES):
            _unpack(unpacker, body[start : start + _STEP_BYTES], buffer)
    except zlib.error:
        buffer.discard()
        raise _invalid_gzip() from None
    except BodyTooLarge:
        message = "The request body exceeds the maximum size after decoding."
        raise APIError(413, message, code="request_body_too_large_after_decoding") from None
    if not unpacker.eof:
        buffer.discard()
        raise _invalid_gzip()
    return buffer.finish()


def _unpack(unpacker: zlib._Decompress, packed: bytes, buffer: BodyBuffer) -> None:
    while packed and not unpacker.eof:
        buffer.add(unpacker.decompress(packed, _STEP_BYTES))
        packed = unpacker.unconsumed_tail


def _invalid_gzip() -> APIError:
    message = "The request body could not be decoded as gzip."
    return APIError(400, message, code="request_body_encoding_invalid")
