"""Index of ``requests.jsonl``: what a process must know of the requests without reading them.

``requests.index`` is an :mod:`~airflow_claude_batch.batch.index_file` of the kind ``requests``, version 1. It lies
beside a file of more than 1 MiB while the submission runs. ``requests.jsonl`` tells everything, too: without a usable
index it is read as a whole. Each request has a row:

========== ======== =====================================================================
``length`` ``I``    bytes of its params
``hash``   ``22s``  its content hash
``model``  ``B``    number of its model in ``models``, from 1. 0: look into the params
``config`` ``B``    number of its ``output_config`` in ``output_configs``, in the same way
``key``    bytes    its key as JSON
========== ======== =====================================================================

The lengths of keys and params tell where each line begins: the rest of a line is the same in all of them. The content
of the description is :class:`IndexContent`.
"""

from __future__ import annotations

import hashlib
import operator
import shutil
import zlib
from array import array
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice
from typing import IO, Final, Generic, TypeVar

import msgspec

from airflow_claude_batch.batch.index_file import BLOCK_ROWS, Block, DamagedIndexError, IndexFile, IndexWriter
from airflow_claude_batch.batch.input.custom_id import HASH_CHARACTERS
from airflow_claude_batch.batch.input.kept_columns import KeptColumnsWriter
from airflow_claude_batch.batch.input.request_lines import (
    AFTER_PARAMS,
    FRAME_BYTES,
    NO_PARAMS,
    damaged_file,
    unreadable_requests,
)
from airflow_claude_batch.batch.money.planned_request import CACHE_MARK
from airflow_claude_batch.batch.storage import Folder

INDEX_FILE: Final = "requests.index"
#: A smaller file of requests gets no index: reading it costs as much.
LEAST_INDEXED_BYTES: Final = 1 << 20
_KIND: Final = "requests"
_VERSION: Final = 1
_COLUMNS: Final = {
    "length": "I",
    "hash": f"{HASH_CHARACTERS}s",
    "model": "B",
    "config": "B",
    "key": "bytes",
}
#: Ledgers hold digests that were made with this word for the hash of a duplicate.
_DUPLICATE: Final = b"twin"
#: How many requests are searched for the mark of the cache. One that only later requests have is not meant for a
#: shared prefix.
_SEARCHED_REQUESTS: Final = 20
_BUFFER_BYTES: Final = 256 * 1024
#: Most bytes of the models, and of the output_configs, that a description holds.
_MAX_LISTED_BYTES: Final = 64 * 1024
_MAX_LISTED: Final = 255
_Value = TypeVar("_Value", str, bytes)


class IndexContent(msgspec.Struct, frozen=True, kw_only=True):
    """What the index says about all requests.

    :ivar digest: identifies the whole input: its keys, contents and order.
    :ivar size: bytes of ``requests.jsonl``.
    :ivar offsets: where the first line of each block begins.
    :ivar models: models of the requests.
    :ivar output_configs: ``output_config`` of the requests. ``null`` for those that have none.
    :ivar duplicates: requests that are not sent, as compressed JSON: two lists. The first one has the place of each
        duplicate, less the place of the one before. The second one has how far before it the request stands that it
        equals.
    :ivar asks_for_cache: one of the first 20 requests asks for the prompt cache.
    """

    digest: str
    size: int
    offsets: list[int]
    models: list[str]
    output_configs: list[msgspec.Raw]
    duplicates: bytes
    asks_for_cache: bool


class _Facts(msgspec.Struct, gc=False):
    model: str
    output_config: msgspec.Raw = msgspec.Raw(b"null")


_decode_facts: Final = msgspec.json.Decoder(_Facts).decode


class RequestIndexWriter:
    """Writes the index while the requests are written. It holds one block in memory.

    :param kept: what writes the kept columns, which lie beside the requests as well.

    Example::

        index = RequestIndexWriter(file)
        index.add(hash_, b'"row-1"', b'{"model":"claude-haiku-5-5","max_tokens":64,"messages":[…]}')
        index.finish()
    """

    def __init__(self, file: IO[bytes], kept: KeptColumnsWriter | None = None) -> None:
        self.kept = kept
        self._rows = IndexWriter(file, _KIND, _VERSION, _COLUMNS)
        self._count = self._size = 0
        self._digest, self._pending = hashlib.sha256(), bytearray()
        self._offsets: list[int] = []
        self._models, self._configs = _Numbered[str](), _Numbered[bytes]()
        self._asks_for_cache = False

    def add(self, hash_: bytes, key: bytes, params: bytes) -> None:
        """Add the next request.

        :param params: ``null`` for a duplicate.
        """
        if not self._count % BLOCK_ROWS:
            self._offsets.append(self._size)
        if self._count < _SEARCHED_REQUESTS:
            self._asks_for_cache |= CACHE_MARK in params
        if params == NO_PARAMS:
            model = config = 0
            self._pending += _DUPLICATE
        else:
            model, config = self._number(params)
            self._pending += hash_
        self._pending += key
        if len(self._pending) > _BUFFER_BYTES:
            self._digest.update(self._pending)
            self._pending.clear()
        self._rows.add(len(params), hash_, model, config, key)
        self._count += 1
        self._size += FRAME_BYTES + len(key) + len(params)

    def finish(self, duplicates: Mapping[int, int]) -> None:
        """Write the rest.

        :param duplicates: each request that is not sent, in order, with the equal one before it.
        """
        self._digest.update(self._pending)
        self._rows.finish(
            IndexContent(
                digest=self._digest.hexdigest(),
                size=self._size,
                offsets=self._offsets,
                models=self._models.values,
                output_configs=[msgspec.Raw(config) for config in self._configs.values],
                duplicates=_pack(duplicates),
                asks_for_cache=self._asks_for_cache,
            )
        )

    def _number(self, params: bytes) -> tuple[int, int]:
        """Return the numbers of model and ``output_config``."""
        try:
            facts = _decode_facts(params)
        except msgspec.MsgspecError:  # not what the API takes
            return 0, 0
        return self._models.number(facts.model), self._configs.number(bytes(facts.output_config))


class _Numbered(Generic[_Value]):
    """Numbers different values from 1. A value that comes when the list is full has the number 0."""

    def __init__(self) -> None:
        self._numbers: dict[_Value, int] = {}
        self._bytes = 0

    @property
    def values(self) -> list[_Value]:
        return list(self._numbers)

    def number(self, value: _Value) -> int:
        if (number := self._numbers.get(value)) is not None:
            return number
        if len(self._numbers) == _MAX_LISTED or self._bytes + len(value) > _MAX_LISTED_BYTES:
            return 0
        self._bytes += len(value)
        return self._numbers.setdefault(value, len(self._numbers) + 1)


class IndexedBlock:
    """Some rows of the index, without the keys.

    :ivar hashes: their content hashes, joined.
    :ivar lengths: bytes of the params.
    :ivar models: numbers of the models.
    :ivar configs: numbers of the ``output_config``.
    """

    __slots__ = ("_ends", "_first_end", "configs", "hashes", "lengths", "models")

    def __init__(self, block: Block, offset: int) -> None:
        self.hashes = block.joined("hash")
        self.lengths, self.models, self.configs = map(block.numbers, ("length", "model", "config"))
        # What keys and params add to the offset up to each request. The rest of a line is the same in all of them.
        sizes = [*map(operator.add, islice(block.ends("key"), 1, None), accumulate(self.lengths))]
        self._ends: array[int] = array("Q" if sizes[-1] >> 32 else "I", sizes)
        self._first_end = offset + FRAME_BYTES - AFTER_PARAMS

    def params_end(self, row: int) -> int:
        """Return the offset in ``requests.jsonl`` after the params of a request. Rows count within the block."""
        return self._first_end + FRAME_BYTES * row + self._ends[row]


class RequestIndex:
    """An index of the requests. It reads blocks when they are asked for, and keeps them: 32 bytes a request.

    Example::

        index = RequestIndex.open(folder)
        block, row = index.place(70_000)
        block.lengths[row], index.content.models[block.models[row] - 1]

    :raises ResultsError: from every method: the storage cannot be read now.
    :raises SubmissionRecordError: from every method: a block is damaged.
    """

    def __init__(self, index: IndexFile, folder: Folder) -> None:
        self._index = index
        self._folder = folder
        self._block_rows = index.block_rows
        self._blocks: list[IndexedBlock | None] = [None] * index.block_count
        #: The last block that was read, with its keys, and its number.
        self._last_read: tuple[int, Block] | None = None
        self.content = index.content(IndexContent)
        self.duplicates: Mapping[int, int] = _unpack(self.content.duplicates)

    @classmethod
    def open(cls, folder: Folder) -> RequestIndex | None:
        """Open the index in a folder. None if there is none, or none that can be used.

        :raises OSError: the storage cannot be read.
        """
        index = IndexFile.open(folder, INDEX_FILE, _KIND, _VERSION)
        try:
            return None if index is None else cls(index, folder)
        except (msgspec.MsgspecError, ValueError, zlib.error):
            return None

    def __len__(self) -> int:
        return self._index.count

    def place(self, index: int) -> tuple[IndexedBlock, int]:
        """Return the block of a request, and its row there."""
        number, row = divmod(index, self._block_rows)
        return self._blocks[number] or self._load(number), row

    def keys(self) -> Iterator[bytes]:
        """Iterate over all keys, in order."""
        for number in range(len(self._blocks)):
            yield from self._read(number).values("key")

    def key(self, index: int) -> bytes:
        """Return one key. Fast if keys are asked for in order."""
        number, row = divmod(index, self._block_rows)
        last = self._last_read
        block = last[1] if last is not None and last[0] == number else self._read(number)
        return block.value("key", row)

    def copy_to(self, folder: Folder) -> None:
        """Copy the file to another folder."""
        source = self._folder.open(INDEX_FILE)
        assert source is not None, "it was opened before"  # noqa: S101
        with source, folder.replace_file(INDEX_FILE) as file:
            shutil.copyfileobj(source, file, 1 << 20)

    def _load(self, number: int) -> IndexedBlock:
        loaded = self._blocks[number] = IndexedBlock(self._read(number), self.content.offsets[number])
        return loaded

    def _read(self, number: int) -> Block:
        if self._last_read is not None and self._last_read[0] == number:
            return self._last_read[1]
        try:
            block = self._index.block(number)
        except DamagedIndexError as error:
            raise damaged_file(str(error)) from error
        except OSError as error:
            raise unreadable_requests(self._folder.uri(INDEX_FILE), error) from error
        self._last_read = number, block
        return block


def _pack(duplicates: Mapping[int, int]) -> bytes:
    gaps = [*map(operator.sub, duplicates, (0, *duplicates))]
    return zlib.compress(msgspec.json.encode((gaps, [*map(operator.sub, duplicates, duplicates.values())])))


def _unpack(packed: bytes) -> dict[int, int]:
    gaps, distances = msgspec.json.decode(zlib.decompress(packed), type=tuple[list[int], list[int]])
    return {index: index - distance for index, distance in zip(accumulate(gaps), distances, strict=True)}
