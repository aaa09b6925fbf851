"""Writes a submission's requests to ``requests.jsonl``, one by one. ``request_file`` has the format."""

from __future__ import annotations

import hashlib
import itertools
import json
from array import array
from collections.abc import Iterable
from typing import IO, Final

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.custom_id import content_hash
from airflow_claude_batch.batch.input.element_errors import element_error
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.json_encoder import encode_json
from airflow_claude_batch.batch.input.json_errors import exact_integer, explain
from airflow_claude_batch.exceptions import EmptyInputError, InvalidMessageError

# Made once: json.dumps makes one for every call.
_KEY_ENCODER: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), default=exact_integer
)


def write_requests(
    requests: Iterable[Request],
    file: IO[bytes],
    *,
    deduplicate: bool = False,
    max_bytes: int | None = None,
    may_be_empty: bool = False,
) -> int:
    """Write the requests of a submission and return how many there are. Holds about 8 bytes a request.

    :param deduplicate: write a request that equals an earlier one without its params: it is not sent. It has the hash
        of that one, whatever the order of its keys. Holds about 250 bytes a request.
    :param max_bytes: largest body of one create call, if that is less than the API's limit.
    :param may_be_empty: take an input without a request, too.
    :raises InvalidMessageError: a value is not JSON, a request is too large, or two elements have the same key.
    :raises EmptyInputError: there is no request.
    """
    keys, hashes_by_content = _KeyHashes(), dict[bytes, bytes]()
    for request in requests:
        params = encode_params(request, max_bytes)
        key = _encode_key(request)
        keys.add(key)
        hash_ = content_hash(params)
        if deduplicate and (content := hash_content(params)) in hashes_by_content:
            hash_, params = hashes_by_content[content], b"null"
        elif deduplicate:
            hashes_by_content[content] = hash_
        file.write(b'{"hash":"%b","key":%b,"params":%b}\n' % (hash_, key, params))
    if not keys.count and not may_be_empty:
        raise EmptyInputError(
            "messages is empty.",
            "Nothing was sent.",
            "If that may happen, set on_empty='skip', or on_empty='succeed' for a manifest without rows.",
        )
    keys.check()
    return keys.count


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


def _encode_key(request: Request) -> bytes:
    try:
        return _KEY_ENCODER.encode(request.key).encode()
    except (TypeError, ValueError, RecursionError) as error:
        if "'<' not supported" in str(error):  # from sort_keys
            problem = "a mapping in the key has names of different types."
            raise element_error(request.index, None, problem, "Use strings as names.") from None
        raise element_error(request.index, None, *explain(request.key, "the key", error)) from None


class _KeyHashes:
    """Finds duplicate keys by hashes of eight bytes a key."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    @property
    def count(self) -> int:
        return len(self._hashes)

    def add(self, key: bytes) -> None:
        self._hashes.append(_short_hash(key))

    def check(self) -> None:
        """Raise if two keys are the same; name both elements."""
        for before, after in itertools.pairwise(sorted(self._hashes)):
            if before == after:
                raise self._duplicate(before)

    def _duplicate(self, hash_: int) -> InvalidMessageError:
        first, second = [index for index, known in enumerate(self._hashes) if known == hash_][:2]
        is_position = hash_ in (_short_hash(b"%d" % first), _short_hash(b"%d" % second))
        hint = " An element without a key has its position as its key." if is_position else ""
        return InvalidMessageError(
            f"messages[{first}] and messages[{second}] have the same key.",
            "Nothing was sent.",
            f"Give each element a key of its own: answers are matched by key.{hint}",
        )


def _short_hash(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest())
