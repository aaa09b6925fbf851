"""Request bodies: kept small in memory, spilled to unlinked temporary files when large, unpacked when gzipped."""

from __future__ import annotations

import tempfile
import zlib
from mmap import ACCESS_READ, mmap

from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.exchange import Body

SPILL_BYTES = 4_000_000
_STEP_BYTES = 1 << 20


class BodyTooLarge(Exception):  # noqa: N818  (signals a 413, not a failure)
    """More arrived than the limit allows."""


class DiskSorter:
    """Collects a body piece by piece.

    Above `SPILL_BYTES` it lives in a file without a name and is read through a memory map, so that
    a million stored requests cost page cache rather than memory.
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
        """The whole body; nothing can be added afterwards."""
        with self._file as file:
            if self._size <= SPILL_BYTES:
                file.seek(0)
                return file.read()
            file.flush()
            return mmap(file.fileno(), 0, access=ACCESS_READ)

    def discard(self) -> None:
        self._file.close()


def decoded(body: Body, encoding: str | None, *, limit: int) -> Body:
    """Undo a Content-Encoding: gzip is understood, everything else refused before anything is created."""
    match (encoding or "identity").strip().lower():
        case "identity":
            return body
        case "gzip":
            return _gunzip(body, limit=limit)
        case other:
            message = f"Content-Encoding '{other}' is not supported. Use gzip or send the body unencoded."
            raise Refusal(400, message, code="request_body_encoding_unsupported")


def _gunzip(body: Body, *, limit: int) -> Body:
    spool = DiskSorter(limit=limit)
    unpacker = zlib.decompressobj(wbits=31)
    try:
        for start in range(0, len(body), _STEP_BYTES):
            _unpack(unpacker, body[start : start + _STEP_BYTES], spool)
    except zlib.error:
        spool.discard()
        raise _invalid_gzip() from None
    except BodyTooLarge:
        message = "The request body exceeds the maximum size after decoding."
        raise Refusal(413, message, code="request_body_too_large_after_decoding") from None
    if not unpacker.eof:
        spool.discard()
        raise _invalid_gzip()
    return spool.finish()


def _unpack(unpacker: zlib._Decompress, packed: bytes, spool: DiskSorter) -> None:
    while packed and not unpacker.eof:
        spool.add(unpacker.decompress(packed, _STEP_BYTES))
        packed = unpacker.unconsumed_tail


def _invalid_gzip() -> Refusal:
    message = "The request body could not be decoded as gzip."
    return Refusal(400, message, code="request_body_encoding_invalid")
