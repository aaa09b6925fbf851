"""A submission's requests: written once to ``requests.jsonl``, indexed, and streamed from there.

A line is ``{"hash": …, "key": …, "params": …}`` with params last, so that an upload copies bytes and
never decodes a prompt again. Memory is about 34 bytes a request, whatever the prompts' size. A request that is
not sent because it equals an earlier one has ``null`` for params: it is the twin of that one.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS, TOKEN_CHARACTERS, content_hash
from airflow_claude_batch.batch.input.elements import Request, encode_params
from airflow_claude_batch.exceptions import InputError, InvalidMessageError, SubmissionRecordError

REQUESTS_FILE = "requests.jsonl"
_HEAD = b'{"requests":['
_TAIL = b"]}"
_CHUNK = 256 * 1024
#: What is read ahead while requests are read one after the other.
_WINDOW = 64 * 1024
_HASH_AT = len('{"hash":"')
_KEY_AT = len('{"hash":"","key":') + HASH_CHARACTERS
_KEY_END = _KEY_AT + len(b',"params":')  # before the params
_FRAME_LENGTH = _KEY_AT + len(b',"params":') + len(b"}\n")
_NULL_LENGTH = len(b"null")


class _Length(msgspec.Struct):
    max_tokens: int


class _Model(msgspec.Struct):
    model: str


class _Line(msgspec.Struct):
    hash: str
    key: msgspec.Raw
    params: msgspec.Raw


class RequestFile:
    """The requests of a submission, by index. Close it, or use it as a context manager.

    ``digest`` identifies the whole input: its keys, contents and order.

    :param verify: compare each request's params with the hash that its custom_id carries. Whoever sends from a file
        that was out of sight must: other params than those that were written would be paid for.
    :raises SubmissionRecordError: a line is not as it was written; names it.
    """

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        self._offsets = array("Q")
        self._params_at = array("I")
        self._hashes = bytearray()
        self._raised: dict[int, int] = {}
        #: Requests that are not sent, each with the equal one whose answer is theirs too.
        self.duplicates: Mapping[int, int] = {}
        self._file = path.open("rb", buffering=_CHUNK)
        self._window, self._window_at, self._read_to = b"", 0, 0
        try:
            self.digest = self._scan(verify=verify)
        except BaseException:
            self.close()
            raise

    def _scan(self, *, verify: bool) -> str:
        """Learn where everything is; the digest."""
        decode = msgspec.json.Decoder(_Line).decode
        digest, pending = hashlib.sha256(), bytearray()
        duplicates = array("I")
        offset = 0
        for line in self._file:
            try:
                read = decode(line)
                hash_ = _checked(line, read)
                if verify:
                    _check_params(read)
            except (msgspec.MsgspecError, ValueError, RecursionError) as error:
                raise _damaged(len(self._offsets) + 1, error) from error
            params_length = len(read.params)
            is_twin = params_length == _NULL_LENGTH
            if is_twin:
                duplicates.append(len(self._offsets))
            self._offsets.append(offset)
            self._params_at.append(len(line) - 2 - params_length)
            self._hashes += hash_
            pending += b"twin" if is_twin else hash_
            pending += read.key
            if len(pending) > _CHUNK:
                digest.update(pending)
                pending.clear()
            offset += len(line)
        self._offsets.append(offset)
        self.duplicates = self._firsts(duplicates)
        digest.update(pending)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __enter__(self) -> RequestFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def hash(self, index: int) -> bytes:
        start = index * HASH_CHARACTERS
        return bytes(self._hashes[start : start + HASH_CHARACTERS])

    def has_hash(self, index: int, hash_: bytes) -> bool:
        """Whether the request there is one with this content; a hundred thousand answers ask."""
        return self._hashes.startswith(hash_, index * HASH_CHARACTERS)

    def _firsts(self, duplicates: Sequence[int]) -> dict[int, int]:
        """The first request with the content of each twin, which comes before it."""
        wanted = {self.hash(twin) for twin in duplicates}
        first: dict[bytes, int] = {}
        for index in range(len(self)) if wanted else ():
            if (hash_ := self.hash(index)) in wanted:
                first.setdefault(hash_, index)
        firsts = {twin: first[self.hash(twin)] for twin in duplicates}
        for twin in firsts.keys() & firsts.values():
            raise _damaged(twin + 1, ValueError("a request without params equals none before it"))
        return firsts

    def key(self, index: int) -> bytes:
        """The user's key as JSON."""
        return self._read(self._offsets[index] + _KEY_AT, self._params_at[index] - _KEY_END)

    def keys(self) -> Iterator[bytes]:
        """All keys, in order."""
        read = self._read
        for offset, params_at in zip(self._offsets, self._params_at, strict=False):  # there is one offset more
            yield read(offset + _KEY_AT, params_at - _KEY_END)

    def params(self, index: int) -> bytes:
        """What is sent for the request."""
        params = self._written_params(index)
        return _with_max_tokens(params, self._raised[index]) if index in self._raised else params

    def _written_params(self, index: int) -> bytes:
        start = self._offsets[index] + self._params_at[index]
        return self._read(start, self._offsets[index + 1] - 2 - start)

    def model(self, index: int) -> str:
        """Which model is asked; of a twin, the first that it equals."""
        return msgspec.json.decode(self._written_params(self.duplicates.get(index, index)), type=_Model).model

    def max_tokens(self, index: int) -> int:
        """How long the author lets the answer be."""
        return msgspec.json.decode(self._written_params(index), type=_Length).max_tokens

    def raise_max_tokens(self, index: int, max_tokens: int) -> None:
        """Send the request with room for a longer answer. It stays the same: its hash and custom_id do not change."""
        self._raised[index] = max_tokens

    def _read(self, offset: int, length: int) -> bytes:
        # Not mapped into memory: the pages of a large file would count as ours until the system is short of them.
        start = offset - self._window_at
        if 0 <= start <= len(self._window) - length:
            self._read_to = offset + length
            return self._window[start : start + length]
        ahead, self._read_to = offset - self._read_to, offset + length
        if not 0 <= ahead <= _WINDOW // 4 or length > _WINDOW // 4:
            return os.pread(self._file.fileno(), length, offset)
        self._window, self._window_at = os.pread(self._file.fileno(), _WINDOW, offset), offset
        return self._window[:length]

    def params_size(self, index: int) -> int:
        if index in self._raised:
            return len(self.params(index))
        return self._offsets[index + 1] - 2 - self._offsets[index] - self._params_at[index]

    def custom_id(self, index: int, token: str) -> str:
        """``<token>-<index>-<content hash>``: a result line alone tells what it answers."""
        return f"{token}-{index}-{self.hash(index).decode()}"

    def wire_size(self, index: int) -> int:
        """Bytes of the item in a create body, the comma included."""
        return self.params_size(index) + _ITEM_BYTES + len(str(index))


def _checked(line: bytes, read: _Line) -> bytes:
    """The hash. Places are reckoned from lengths, so that a line must be, to the byte, as it was written."""
    length, hash_ = _FRAME_LENGTH + len(read.key) + len(read.params), read.hash.encode()
    if len(line) != length or not line.startswith(hash_, _HASH_AT) or not line.endswith(b"}\n"):
        raise ValueError("it is not as long as what it holds")
    return hash_


def _check_params(read: _Line) -> None:
    if len(read.params) != _NULL_LENGTH and content_hash(bytes(read.params)) != read.hash.encode():
        raise ValueError("its params are not those that were written")


def _damaged(line: int, error: Exception) -> SubmissionRecordError:
    return SubmissionRecordError(
        f"Line {line} of the submission's {REQUESTS_FILE} is damaged: {error}. Restore the file, or clear the "
        "task that sent them, which writes it again."
    )


_ITEM_BYTES = len(b'{"custom_id":"--","params":},') + TOKEN_CHARACTERS + HASH_CHARACTERS


@dataclass(frozen=True, slots=True)
class CreateBody:
    """The body of one create call, streamed; ``content_length`` is exact."""

    requests: RequestFile
    indices: Iterable[int]  # re-iterable: a refused create may be sent again
    token: str

    @property
    def content_length(self) -> int:
        items = sum(self.requests.wire_size(index) for index in self.indices)
        return len(_HEAD) + items - 1 + len(_TAIL)

    def chunks(self) -> Iterator[bytes]:
        buffer = bytearray(_HEAD)
        comma = b""
        for index in self.indices:
            custom_id = self.requests.custom_id(index, self.token).encode()
            buffer += b'%b{"custom_id":"%b","params":%b}' % (comma, custom_id, self.requests.params(index))
            comma = b","
            if len(buffer) >= _CHUNK:
                yield bytes(buffer)
                buffer.clear()
        yield bytes(buffer + _TAIL)


def write_requests(requests: Iterable[Request], file: IO[bytes], *, deduplicate: bool = False) -> int:
    """Write the submission's requests and answer how many there are.

    :param deduplicate: write requests that equal an earlier one as its twins.
    :raises InvalidMessageError: a value is not JSON, or two elements have the same key.
    :raises InputError: there is none.
    """
    keys, sent = _Keys(), set[bytes]()
    for request in requests:
        params = encode_params(request)
        key = _encode_key(request)
        keys.add(key)
        digest = content_hash(params)
        if deduplicate:
            params = b"null" if digest in sent else params
            sent.add(digest)
        file.write(b'{"hash":"%b","key":%b,"params":%b}\n' % (digest, key, params))
    if not keys.count:
        raise InputError("messages is empty: there is nothing to send. Skip the task upstream instead.")
    keys.check()
    return keys.count


_KEY_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))


def _encode_key(request: Request) -> bytes:
    try:
        return _KEY_ENCODER.encode(request.key).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidMessageError(
            f"messages[{request.index}]: the key cannot be written as JSON ({error}). Use a string, a number, or "
            "lists and mappings of them."
        ) from error


def _with_max_tokens(params: bytes, max_tokens: int) -> bytes:
    raised = {**json.loads(params), "max_tokens": max_tokens}
    return json.dumps(raised, ensure_ascii=False, separators=(",", ":")).encode()


class _Keys:
    """Finds duplicate keys with eight bytes a key; names both elements."""

    def __init__(self) -> None:
        self._prints = array("Q")

    @property
    def count(self) -> int:
        return len(self._prints)

    def add(self, key: bytes) -> None:
        self._prints.append(self._print(key))

    def check(self) -> None:
        prints = self._prints
        order = sorted(prints)
        for before, after in itertools.pairwise(order):
            if before == after:
                first, second = [index for index, print_ in enumerate(prints) if print_ == before][:2]
                positions = [self._print(b"%d" % index) for index in (first, second)]
                hint = " An element without a key has its position as its key." if before in positions else ""
                raise InvalidMessageError(
                    f"messages[{first}] and messages[{second}] have the same key. Keys must be unique: answers are "
                    f"matched by them.{hint}"
                )

    def _print(self, key: bytes) -> int:
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
