"""Reads a submission's requests from ``requests.jsonl``, by index.

A line is ``{"hash": …, "key": …, "params": …}``. The params come last, so that an upload copies their bytes and never
decodes a prompt. A request that is not sent because it equals an earlier one (a duplicate) has ``null`` for params.
``request_writer`` writes the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from airflow_claude_batch.batch.input.custom_id import (
    HASH_CHARACTERS,
    TOKEN_CHARACTERS,
    content_hash,
    make_custom_id,
)
from airflow_claude_batch.exceptions import SubmissionRecordError

REQUESTS_FILE: Final = "requests.jsonl"
_BUFFER_BYTES: Final = 256 * 1024
#: Bytes that one read fetches while requests are read one after the other.
_READ_AHEAD_BYTES: Final = 64 * 1024
_HASH_START: Final = len('{"hash":"')
_KEY_START: Final = len('{"hash":"","key":') + HASH_CHARACTERS
_BEFORE_PARAMS: Final = len(',"params":')
_FRAME_BYTES: Final = _KEY_START + _BEFORE_PARAMS + len("}\n")
_NULL_BYTES: Final = len("null")
_ITEM_BYTES: Final = len('{"custom_id":"--","params":},') + TOKEN_CHARACTERS + HASH_CHARACTERS


class _Line(msgspec.Struct):
    hash: str
    key: msgspec.Raw
    params: msgspec.Raw


class _Model(msgspec.Struct):
    model: str


class _MaxTokens(msgspec.Struct):
    max_tokens: int


class RequestFile:
    """The requests of a submission, by index. It holds an open file: close it, or use it as a context manager.

    Only an index of the file is held in memory: about 34 bytes a request, whatever the size of the prompts.

    >>> with RequestFile(folder / "requests.jsonl") as requests:
    ...     len(requests), requests.key(0), requests.model(0)
    (2, b'"row-1"', 'claude-haiku-5-5')

    ``digest`` identifies the whole input: its keys, contents and order. ``duplicates`` maps each request that is not
    sent to the equal one whose answer serves both.

    :param verify: compare the params of each request with its hash. Do so before sending from a file that was written
        earlier: changed params would be sent, and paid for, under the custom_id of the original ones.
    :raises SubmissionRecordError: a line is damaged; names it.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self._offsets = array("Q")
        self._params_starts = array("I")
        self._hashes = bytearray()
        self._raised_max_tokens: dict[int, int] = {}
        self.duplicates: Mapping[int, int] = {}
        self._file = path.open("rb", buffering=_BUFFER_BYTES)
        self._window, self._window_start, self._last_read_end = b"", 0, 0
        try:
            self.digest = self._scan(verify=verify)
        except BaseException:
            self.close()
            raise

    def _scan(self, *, verify: bool) -> str:
        """Index every line and return the digest."""
        decode = msgspec.json.Decoder(_Line).decode
        digest, pending = hashlib.sha256(), bytearray()
        duplicates = array("I")
        offset = 0
        for line in self._file:
            try:
                read = decode(line)
                hash_ = _checked_hash(line, read)
                if verify:
                    _check_content(read)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise _damaged(len(self._offsets) + 1, error) from error
            params_bytes = len(read.params)
            is_duplicate = params_bytes == _NULL_BYTES
            if is_duplicate:
                duplicates.append(len(self._offsets))
            self._offsets.append(offset)
            self._params_starts.append(len(line) - 2 - params_bytes)
            self._hashes += hash_
            pending += b"twin" if is_duplicate else hash_  # ledgers hold digests that were made with this word
            pending += read.key
            if len(pending) > _BUFFER_BYTES:
                digest.update(pending)
                pending.clear()
            offset += len(line)
        self._offsets.append(offset)
        self.duplicates = self._find_originals(duplicates)
        digest.update(pending)
        return digest.hexdigest()

    def _find_originals(self, duplicates: Sequence[int]) -> dict[int, int]:
        """Map each duplicate to the first request with the same content, which must come before it."""
        hashes = {self.hash(duplicate) for duplicate in duplicates}
        first: dict[bytes, int] = {}
        for index in range(len(self)) if hashes else ():
            if (hash_ := self.hash(index)) in hashes:
                first.setdefault(hash_, index)
        originals = {duplicate: first[self.hash(duplicate)] for duplicate in duplicates}
        for duplicate in originals.keys() & originals.values():
            raise _damaged(duplicate + 1, ValueError("its params are null, and no request before it has its hash"))
        return originals

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __enter__(self) -> RequestFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def hash(self, index: int) -> bytes:
        """Return the content hash of a request."""
        start = index * HASH_CHARACTERS
        return bytes(self._hashes[start : start + HASH_CHARACTERS])

    def has_hash(self, index: int, hash_: bytes) -> bool:
        """Return whether the request has this content hash. Faster than :meth:`hash`: every result line asks."""
        return self._hashes.startswith(hash_, index * HASH_CHARACTERS)

    def key(self, index: int) -> bytes:
        """Return the user's key as JSON."""
        start = self._offsets[index] + _KEY_START
        return self._read(start, self._params_starts[index] - _KEY_START - _BEFORE_PARAMS)

    def keys(self) -> Iterator[bytes]:
        """Iterate over all keys as JSON, in order."""
        read, around_key = self._read, _KEY_START + _BEFORE_PARAMS
        for offset, params_start in zip(self._offsets, self._params_starts, strict=False):  # there is one offset more
            yield read(offset + _KEY_START, params_start - around_key)

    def params(self, index: int) -> bytes:
        """Return the params of a request as they are sent."""
        params = self._written_params(index)
        if index not in self._raised_max_tokens:
            return params
        raised = {**json.loads(params), "max_tokens": self._raised_max_tokens[index]}
        return json.dumps(raised, ensure_ascii=False, separators=(",", ":")).encode()

    def params_size(self, index: int) -> int:
        """Return the number of bytes of :meth:`params`."""
        if index in self._raised_max_tokens:
            return len(self.params(index))
        return self._offsets[index + 1] - 2 - self._offsets[index] - self._params_starts[index]

    def model(self, index: int) -> str:
        """Return the model that a request names. A duplicate names that of its original."""
        return msgspec.json.decode(self._written_params(self.duplicates.get(index, index)), type=_Model).model

    def max_tokens(self, index: int) -> int:
        """Return the ``max_tokens`` that the author gave."""
        return msgspec.json.decode(self._written_params(index), type=_MaxTokens).max_tokens

    def raise_max_tokens(self, index: int, max_tokens: int) -> None:
        """Send the request with a higher ``max_tokens`` from now on. Its hash and custom_id do not change."""
        self._raised_max_tokens[index] = max_tokens

    def custom_id(self, index: int, token: str) -> str:
        """Return the custom_id under which the part with this token sends the request."""
        return make_custom_id(token, index, self.hash(index))

    def wire_size(self, index: int) -> int:
        """Return the number of bytes of the request in the body of a create call, the comma included."""
        return self.params_size(index) + _ITEM_BYTES + len(str(index))

    def _written_params(self, index: int) -> bytes:
        start = self._offsets[index] + self._params_starts[index]
        return self._read(start, self._offsets[index + 1] - 2 - start)

    def _read(self, offset: int, length: int) -> bytes:
        # Not mapped into memory: the pages of a large file would count as ours until the system is short of them.
        start = offset - self._window_start
        if 0 <= start <= len(self._window) - length:
            self._last_read_end = offset + length
            return self._window[start : start + length]
        ahead, self._last_read_end = offset - self._last_read_end, offset + length
        if not 0 <= ahead <= _READ_AHEAD_BYTES // 4 or length > _READ_AHEAD_BYTES // 4:
            return os.pread(self._file.fileno(), length, offset)
        self._window, self._window_start = os.pread(self._file.fileno(), _READ_AHEAD_BYTES, offset), offset
        return self._window[:length]


def _checked_hash(line: bytes, read: _Line) -> bytes:
    """Return the hash. Offsets are computed from lengths, so the line must have exactly the bytes that were written."""
    length, hash_ = _FRAME_BYTES + len(read.key) + len(read.params), read.hash.encode()
    if len(line) != length or not line.startswith(hash_, _HASH_START) or not line.endswith(b"}\n"):
        raise ValueError("it has other bytes than those that were written")
    return hash_


def _check_content(read: _Line) -> None:
    if len(read.params) != _NULL_BYTES and content_hash(bytes(read.params)) != read.hash.encode():
        raise ValueError("its params are not those that were written")


def _damaged(line: int, error: Exception) -> SubmissionRecordError:
    return SubmissionRecordError(
        f"Line {line} of the submission's {REQUESTS_FILE} is damaged: {error}.",
        "Restore the file, or clear the task that sent the requests: it writes the file again and pays for nothing "
        "twice.",
    )
