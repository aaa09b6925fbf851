"""Writes a submission's requests to ``requests.jsonl``, one by one, and the index beside it.

``request_lines`` and ``request_index`` have the formats.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS, content_hash
from airflow_claude_batch.batch.input.element_errors import MESSAGES, ROWS, element_error
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.json_encoder import encode_json
from airflow_claude_batch.batch.input.json_errors import exact_integer, explain
from airflow_claude_batch.batch.input.kept_columns import MOST_KEPT_BYTES, KeptColumns, KeptColumnsWriter
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_index import INDEX_FILE, RequestIndex, RequestIndexWriter
from airflow_claude_batch.batch.input.request_lines import NO_PARAMS, format_line
from airflow_claude_batch.batch.storage import BUFFER_BYTES, LocalFolder
from airflow_claude_batch.exceptions import EmptyInputError, InvalidMessageError

#: Writes the submission's requests and their index, and returns how many there are. See :func:`write_requests`.
WriteInput = Callable[[IO[bytes], RequestIndexWriter], int]

# Made once: json.dumps makes one for every call.
_KEY_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), default=exact_integer
)


def create_request_file(path: Path, write_input: WriteInput) -> RequestFile:
    """Write the requests of a submission to a file. Their index and their kept columns go beside it. Open them.

    :raises InputError: the input cannot be sent.
    """
    index_path = path.with_name(INDEX_FILE)
    with (
        path.open("wb", buffering=BUFFER_BYTES) as file,
        index_path.open("wb", buffering=BUFFER_BYTES) as index_file,
        contextlib.closing(KeptColumnsWriter(path.parent)) as kept,
    ):
        write_input(file, RequestIndexWriter(index_file, kept))
        kept.finish()
    index = RequestIndex.open(LocalFolder(path.parent))
    return RequestFile(path, verify=False, index=index, kept=KeptColumns.written(path.parent))


def write_requests(
    requests: Iterable[Request],
    file: IO[bytes],
    index: RequestIndexWriter | None = None,
    *,
    deduplicate: bool = False,
    max_bytes: int | None = None,
    may_be_empty: bool = False,
    argument: str = MESSAGES,
    locate: Callable[[InvalidMessageError], InvalidMessageError] | None = None,
) -> int:
    """Write the requests of a submission and return how many there are. Holds about 8 bytes a request.

    :param index: what writes the index of the requests.
    :param deduplicate: write a request that equals an earlier one without its params: it is not sent. It has the hash
        of that one, whatever the order of its keys. Holds about 250 bytes a request.
    :param max_bytes: largest body of one create call, if that is less than the API's limit.
    :param may_be_empty: take an input without a request, too.
    :param argument: what gave the elements, for errors: ``messages`` or ``rows``.
    :param locate: adds to an error where the last element stands.
    :raises InvalidMessageError: a value is not JSON, a request is too large, or two elements have the same key.
    :raises EmptyInputError: there is no request.
    """
    keys, duplicates = _KeyHashes(), _Duplicates()
    for request in _or_none(requests) if may_be_empty else requests:
        try:
            params, key = encode_params(request, max_bytes), _encode_key(request)
            _check_kept(request)
        except InvalidMessageError as error:
            raise error if locate is None else locate(error) from None
        keys.add(key)
        hash_ = content_hash(params)
        if deduplicate and (original := duplicates.add(params, hash_)) is not None:
            hash_, params = original, NO_PARAMS
        file.write(format_line(hash_, key, params))
        if index is not None:
            index.add(hash_, key, params)
            if index.kept is not None and request.kept is not None:
                index.kept.add(request.kept)
    if not keys.count and not may_be_empty:
        raise EmptyInputError(
            f"{argument} is empty." if argument == MESSAGES else f"{argument} has no row.",
            "Nothing was sent.",
            "If that may happen, set on_empty='skip', or on_empty='succeed' for a manifest without rows.",
        )
    keys.check(argument)
    if index is not None:
        index.finish(duplicates.originals)
    return keys.count


def _or_none(requests: Iterable[Request]) -> Iterator[Request]:
    """Yield the requests. A source that says that it has nothing, such as a folder without files, has none."""
    with contextlib.suppress(EmptyInputError):
        yield from requests


def encode_params(request: Request, max_bytes: int | None = None) -> bytes:
    """Encode the params as they go on the wire. The content hash is made from these bytes.

    :raises InvalidMessageError: a value is not JSON, or the request alone is larger than a batch may be.
    """
    try:
        data = encode_json(request.params)
    except (TypeError, ValueError, RecursionError) as error:
        # The chain would show the prompt: a UnicodeEncodeError carries it.
        raise element_error(request.index, request.key, *explain(request.params, "params", error)) from None
    most = min(limits.MAX_BATCH_BYTES, max_bytes or limits.MAX_BATCH_BYTES)
    if len(data) > most - 1024:  # room for the custom_id and the rest of the body
        or_raise = "" if most == limits.MAX_BATCH_BYTES else " Or raise max_batch_bytes, if the gateway accepts more."
        raise element_error(
            request.index,
            request.key,
            f"the request has {len(data):,} bytes, and a whole batch may have {most:,}.",
            f"Shorten it, or pass large documents by reference (Files API).{or_raise}",
        )
    return data


def _check_kept(request: Request) -> None:
    if request.kept is not None and len(request.kept) > MOST_KEPT_BYTES:
        raise element_error(
            request.index,
            request.key,
            f"the kept columns have {len(request.kept):,} bytes, and may have {MOST_KEPT_BYTES:,}.",
            "Leave the large column out of keep, and join the rows with the source by their key.",
        )


def _encode_key(request: Request) -> bytes:
    try:
        return _KEY_ENCODER.encode(request.key).encode()
    except (TypeError, ValueError, RecursionError) as error:
        if "'<' not supported" in str(error):  # from sort_keys
            problem = "a mapping in the key has names of different types."
            raise element_error(request.index, None, problem, "Use strings as names.") from None
        raise element_error(request.index, None, *explain(request.key, "the key", error)) from None


class _Duplicates:
    """Finds requests that equal an earlier one.

    :ivar originals: each duplicate, in order, with the request that it equals.
    """

    def __init__(self) -> None:
        self.originals: dict[int, int] = {}
        self._first: dict[bytes, int] = {}
        self._hashes = bytearray()

    def add(self, params: bytes, hash_: bytes) -> bytes | None:
        """Add the next request. Return the hash of the earlier one that it equals, None if there is none."""
        index = len(self._hashes) // HASH_CHARACTERS
        self._hashes += hash_
        first = self._first.setdefault(hash_content(params), index)
        if first == index:
            return None
        self.originals[index] = first
        return bytes(self._hashes[first * HASH_CHARACTERS : (first + 1) * HASH_CHARACTERS])


#: Hashes of keys that are sorted together. A sorted list takes 40 bytes for each of them.
_SORTED_AT_ONCE: Final = 250_000


class _KeyHashes:
    """Finds duplicate keys by hashes of eight bytes a key."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    @property
    def count(self) -> int:
        return len(self._hashes)

    def add(self, key: bytes) -> None:
        self._hashes.append(_short_hash(key))

    def check(self, argument: str) -> None:
        """Raise if two keys are the same; name both elements."""
        groups = 1 + len(self._hashes) // _SORTED_AT_ONCE
        for group in range(groups):
            hashes = sorted(hash_ for hash_ in self._hashes if hash_ % groups == group)
            for before, after in itertools.pairwise(hashes):
                if before == after:
                    raise self._duplicate(before, argument)

    def _duplicate(self, hash_: int, argument: str) -> InvalidMessageError:
        first, second = [index for index, known in enumerate(self._hashes) if known == hash_][:2]
        is_position = hash_ in (_short_hash(b"%d" % first), _short_hash(b"%d" % second))
        hint = " An element without a key has its position as its key." if is_position else ""
        remedy = f"Give each element a key of its own: answers are matched by key.{hint}"
        if argument == ROWS:
            remedy = "Name more columns in key, such as key=['id', 'language'], or select each row once."
        return InvalidMessageError(
            f"{argument}[{first}] and {argument}[{second}] have the same key.", "Nothing was sent.", remedy
        )


def _short_hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
