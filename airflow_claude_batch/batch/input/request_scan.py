"""Make the index of a file of requests by reading it as a whole: one that an earlier version wrote, or a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS, content_hash
from airflow_claude_batch.batch.input.request_index import INDEX_FILE, RequestIndex, RequestIndexWriter
from airflow_claude_batch.batch.input.request_lines import FRAME_BYTES, HASH_START, NO_PARAMS, damaged_line
from airflow_claude_batch.batch.storage import BUFFER_BYTES, LocalFolder


class _Line(msgspec.Struct, gc=False):
    hash: str
    key: msgspec.Raw
    params: msgspec.Raw


_decode: Final = msgspec.json.Decoder(_Line).decode


def scan_requests(file: IO[bytes], directory: Path, *, verify: bool) -> RequestIndex:
    """Read all lines, and write the index.

    :param directory: where to write it.
    :param verify: compare the params of each request with its hash.
    :raises SubmissionRecordError: a line is damaged; names it.
    """
    with (directory / INDEX_FILE).open("wb", buffering=BUFFER_BYTES) as index_file:
        index = RequestIndexWriter(index_file)
        hashes, duplicates = bytearray(), list[int]()
        for number, line in enumerate(file):
            try:
                read = _decode(line)
                hash_, params = _checked_hash(line, read), bytes(read.params)
                if params == NO_PARAMS:
                    duplicates.append(number)
                elif verify:
                    check_content(params, hash_)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise damaged_line(number + 1, error) from error
            hashes += hash_
            index.add(hash_, bytes(read.key), params)
        index.finish(_originals(duplicates, hashes))
    found = RequestIndex.open(LocalFolder(directory))
    assert found is not None, "it was just written"  # noqa: S101
    return found


def check_content(params: bytes, hash_: bytes) -> None:
    """Compare the params of a request with its hash.

    :raises ValueError: they are others.
    """
    if content_hash(params) != hash_:
        raise ValueError("its params are not those that were written")


def _checked_hash(line: bytes, read: _Line) -> bytes:
    """Return the hash. Offsets are computed from lengths, so the line must have exactly the bytes that were written."""
    length, hash_ = FRAME_BYTES + len(read.key) + len(read.params), read.hash.encode()
    if len(line) != length or not line.startswith(hash_, HASH_START) or not line.endswith(b"}\n"):
        raise ValueError("it has other bytes than those that were written")
    return hash_


def _originals(duplicates: Sequence[int], hashes: bytearray) -> Mapping[int, int]:
    """Map each duplicate to the first request with the same content, which must come before it."""
    if not duplicates:
        return {}
    starts = range(0, len(hashes), HASH_CHARACTERS)
    wanted = {bytes(hashes[starts[duplicate] : starts[duplicate] + HASH_CHARACTERS]) for duplicate in duplicates}
    first: dict[bytes, int] = {}
    for index, start in enumerate(starts):
        if (hash_ := bytes(hashes[start : start + HASH_CHARACTERS])) in wanted:
            first.setdefault(hash_, index)
    originals = {
        duplicate: first[bytes(hashes[starts[duplicate] : starts[duplicate] + HASH_CHARACTERS])]
        for duplicate in duplicates
    }
    for duplicate in originals.keys() & originals.values():
        raise damaged_line(duplicate + 1, "its params are null, and no request before it has its hash")
    return originals
