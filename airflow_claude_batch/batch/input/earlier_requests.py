"""Keep a request as it was written before, if only the order of its keys has changed since.

A request is known by the hash of its bytes, which is in the custom_id that it was sent with. Some inputs come with
their keys in another order on each try: a database or an XCom store may reorder them. Such a request takes over the
line of the earlier file. So its custom_id stays valid, and its answer is not paid for again. The files and custom_ids
of every earlier release keep their meaning.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from airflow_claude_batch.batch.input.canonical_json import hash_content
from airflow_claude_batch.batch.input.request_file import RequestFile

_NONE: Final = -1


def keep_earlier_requests(requests: RequestFile, earlier: RequestFile, path: Path) -> bool:
    """Write the requests to ``path``, each of them as in the earlier file if its content is in there.

    Return False, and write nothing, if no request has to be written in another way.
    """
    indices = _earlier_indices(requests, earlier)
    if all(index == _NONE for index in indices):
        return False
    with path.open("wb") as file:
        for line in _lines(requests, earlier, indices):
            file.write(line)
    return True


def _earlier_indices(requests: RequestFile, earlier: RequestFile) -> array[int]:
    """Return for each request the index of the same content with other bytes in the earlier file, else -1.

    Most inputs keep their order. So the same position is compared first, and only the others are searched for.
    """
    found = array("q", [_NONE]) * len(requests)
    same = bytearray(max(len(requests), len(earlier)))
    for index in range(min(len(requests), len(earlier))):
        if requests.hash(index) == earlier.hash(index):
            same[index] = True
        elif _content(requests, index) == _content(earlier, index):
            found[index], same[index] = index, True
    left = [index for index in range(len(requests)) if not same[index]]
    if not left:
        return found
    known = {earlier.hash(index) for index in range(len(earlier))}
    left = [index for index in left if requests.hash(index) not in known]
    others = {_content(earlier, index): index for index in range(len(earlier)) if not same[index]} if left else {}
    for index in left:
        found[index] = others.get(_content(requests, index), _NONE)
    return found


def _lines(requests: RequestFile, earlier: RequestFile, indices: array[int]) -> Iterator[bytes]:
    for index, key in enumerate(requests.keys()):
        hash_, params = _line(requests, earlier, indices, index)
        yield b'{"hash":"%b","key":%b,"params":%b}\n' % (hash_, key, params)


def _line(requests: RequestFile, earlier: RequestFile, indices: array[int], index: int) -> tuple[bytes, bytes]:
    """Return hash and params of one request."""
    first = requests.duplicates.get(index, index)
    found = indices[first]
    hash_ = requests.hash(first) if found == _NONE else earlier.hash(found)
    if first != index:
        return _duplicate(requests, earlier, index, hash_, is_known=indices[index] == index)
    return hash_, requests.params(index) if found == _NONE else _params(earlier, found)


def _duplicate(
    requests: RequestFile, earlier: RequestFile, index: int, hash_: bytes, *, is_known: bool
) -> tuple[bytes, bytes]:
    """Return hash and params of a duplicate.

    Earlier releases took requests with another order of keys for different ones. One that was sent as a request of its
    own stays one, because its answer names its own hash.

    :param hash_: hash of the request whose answer the duplicate shares.
    :param is_known: the earlier file has the same content at the same position.
    """
    is_known = is_known or (index < len(earlier) and requests.hash(index) == earlier.hash(index))
    if is_known and index not in earlier.duplicates and earlier.hash(index) != hash_:
        return earlier.hash(index), earlier.params(index)
    return hash_, b"null"


def _content(requests: RequestFile, index: int) -> bytes:
    return hash_content(_params(requests, index))


def _params(requests: RequestFile, index: int) -> bytes:
    return requests.params(requests.duplicates.get(index, index))
