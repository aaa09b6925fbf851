"""Split a long ledger into a head and chunks, so that a save does not write again what has not changed.

A landed part does not change during a round, nor does the list of archived batches. Once there are many of them, they
move into chunks: the head, which each save writes, only names those. A chunk never changes, because its name is the
hash of its content. What changes in memory makes another chunk, or goes back into the head.

Only storage knows of this: in memory a ledger is one object. A ledger without chunks is stored as it always was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec

from airflow_claude_batch.api.wire import BatchId
from airflow_claude_batch.batch.ledger.count import Count
from airflow_claude_batch.batch.ledger.ledger import VERSION, Ledger
from airflow_claude_batch.batch.ledger.part import Part

#: Version of a head with chunks. An earlier release must not read it: it would see no parts, and pay for them again.
CHUNKED_VERSION: Final = 2
#: Items of a chunk: about 7 KB each. The last items stay in the head, so that a small submission has no chunks.
PARTS_PER_CHUNK: Final = 16
ARCHIVED_PER_CHUNK: Final = 100

_NAME_DIGITS: Final = 16
_Item = TypeVar("_Item")
ChunkName = Annotated[str, msgspec.Meta(pattern=f"^[0-9a-f]{{{_NAME_DIGITS}}}$")]


class ChunkRef(msgspec.Struct, frozen=True):
    """Where a chunk belongs: its items begin at index ``at`` of the parts, or of the archived batches."""

    name: ChunkName
    at: Count


class Chunk(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Landed parts, or archived batches with their numbers of requests."""

    parts: tuple[Part, ...] = ()
    archived_batch_ids: tuple[BatchId, ...] = msgspec.field(default=(), name="settled")
    archived_counts: dict[BatchId, Count] = {}


class Head(Ledger, frozen=True, kw_only=True):
    """A ledger as it is stored: without the items that are in chunks."""

    #: In the order of their items. Not stored while there are none.
    chunks: tuple[ChunkRef, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def chunk_names(self) -> tuple[str, ...]:
        return tuple(ref.name for ref in self.chunks or ())


def split(ledger: Ledger) -> tuple[bytes, dict[str, bytes]]:
    """Return the head to store, and the content of every chunk that it names, by name."""
    parts = {
        at: Chunk(parts=block)
        for at, block in _blocks(ledger.parts, PARTS_PER_CHUNK)
        if all(part.landed for part in block)
    }
    counts = ledger.archived_counts or {}
    archived = {
        at: Chunk(archived_batch_ids=block, archived_counts={id_: counts[id_] for id_ in block if id_ in counts})
        for at, block in _blocks(ledger.archived_batch_ids, ARCHIVED_PER_CHUNK)
    }
    if not parts and not archived:
        return msgspec.json.encode(ledger), {}
    contents = [(at, msgspec.json.encode(chunk)) for blocks in (parts, archived) for at, chunk in blocks.items()]
    in_chunks = {id_ for chunk in archived.values() for id_ in chunk.archived_counts}
    head = Head(
        **_fields(ledger)
        | {
            "parts": _without_blocks(ledger.parts, parts, PARTS_PER_CHUNK),
            "archived_batch_ids": _without_blocks(ledger.archived_batch_ids, archived, ARCHIVED_PER_CHUNK),
            "archived_counts": {id_: n for id_, n in counts.items() if id_ not in in_chunks} or msgspec.UNSET,
            "chunks": tuple(ChunkRef(chunk_name(data), at) for at, data in contents),
            "version": CHUNKED_VERSION,
        }
    )
    return msgspec.json.encode(head), {chunk_name(data): data for _, data in contents}


def join(head: Head, chunks: Mapping[str, Chunk]) -> Ledger:
    """Return the ledger whose head and chunks these are."""
    parts, archived_batch_ids = list(head.parts), list(head.archived_batch_ids)
    counts: dict[str, int] = {}
    for ref in head.chunks or ():
        chunk = chunks[ref.name]
        parts[ref.at : ref.at] = chunk.parts
        archived_batch_ids[ref.at : ref.at] = chunk.archived_batch_ids
        counts |= chunk.archived_counts
    fields = _fields(head) | {"parts": tuple(parts), "archived_batch_ids": tuple(archived_batch_ids)}
    if counts:
        fields["archived_counts"] = counts | (head.archived_counts or {})
    del fields["chunks"]
    return Ledger(**fields | {"version": VERSION})


def chunk_name(data: bytes) -> str:
    """Return the name of a chunk with this content."""
    return hashlib.sha256(data).hexdigest()[:_NAME_DIGITS]


def _blocks(items: tuple[_Item, ...], size: int) -> Iterator[tuple[int, tuple[_Item, ...]]]:
    """Yield the index and the items of every whole block that is not the last one."""
    for at in range(0, len(items) - size, size):
        yield at, items[at : at + size]


def _without_blocks(items: tuple[_Item, ...], blocks: Mapping[int, Any], size: int) -> tuple[_Item, ...]:
    return tuple(item for index, item in enumerate(items) if index - index % size not in blocks)


def _fields(ledger: Ledger) -> dict[str, Any]:
    return {name: getattr(ledger, name) for name in ledger.__struct_fields__}
