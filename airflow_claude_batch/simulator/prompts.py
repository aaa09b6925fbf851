"""How long a prompt is, and which part of it is in the prompt cache. Four characters count as one token."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from airflow_claude_batch.simulator.catalogue import Model

CHARACTERS_PER_TOKEN = 4
_IMAGE_CHARACTERS = 6_000  # about 1,500 tokens, whatever the encoding's length
_LIFETIMES = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1)}

Params = dict[str, Any]


def tokens(characters: int) -> int:
    """The tokens of so many characters, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def prompt_tokens(params: Params) -> int:
    """All input tokens of a request; what count_tokens answers and what usage adds up to."""
    return max(1, tokens(sum(length for _, length in _pieces(params))))


@dataclass(frozen=True, slots=True)
class CacheUse:
    """The cached part of one prompt, in tokens."""

    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        return self.read + self.written_5m + self.written_1h


NO_CACHE_USE = CacheUse()


@dataclass(frozen=True, slots=True)
class _Mark:
    tokens: int
    key: bytes
    ttl: str


class PromptCache:
    """Remembers marked prefixes: the first request that carries one writes it, later ones read it.

    The real cache is best effort, since requests of a batch run side by side; this one never misses.
    """

    def __init__(self) -> None:
        self._expires_at: dict[bytes, datetime] = {}

    def use(self, params: Params, *, model: Model, workspace: str, now: datetime) -> CacheUse:
        """What this request reads and writes, and remember it."""
        scope = f"{workspace}\n{model.id}\n".encode()
        marks = [mark for mark in _marks(params, scope) if mark.tokens >= model.cache_minimum]
        known = [mark for mark in marks if self._expires_at.get(mark.key, now) > now]
        read = known[-1].tokens if known else 0
        written = dict.fromkeys(_LIFETIMES, 0)
        reached = read
        for mark in marks:
            self._expires_at[mark.key] = now + _LIFETIMES[mark.ttl]
            if mark.tokens > reached:
                written[mark.ttl] += mark.tokens - reached
                reached = mark.tokens
        return CacheUse(read=read, written_5m=written["5m"], written_1h=written["1h"])


def _marks(params: Params, scope: bytes) -> list[_Mark]:
    marks: list[_Mark] = []
    digest = hashlib.blake2b(scope, digest_size=16)
    length = 0
    for piece, piece_length in _pieces(params):
        length += piece_length
        ttl = _ttl(piece)
        digest.update(msgspec.json.encode(_unmarked(piece), order="sorted"))
        if ttl is not None:
            marks.append(_Mark(tokens(length), digest.digest(), ttl))
    ttl = _ttl(params)
    if ttl is not None:
        marks.append(_Mark(tokens(length), digest.digest(), ttl))
    return marks


def _ttl(piece: Any) -> str | None:
    mark = piece.get("cache_control") if isinstance(piece, dict) else None
    return None if mark is None else mark.get("ttl", "5m")


def _unmarked(piece: Any) -> Any:
    if not isinstance(piece, dict):
        return piece
    return {key: value for key, value in piece.items() if key != "cache_control"}


def _pieces(params: Params) -> Iterator[tuple[Any, int]]:
    """The prompt in its order (tools, system, messages), each block with its length in characters."""
    for tool in params.get("tools") or ():
        yield tool, len(msgspec.json.encode(tool))
    yield from _content_pieces(params.get("system"))
    for message in params["messages"]:
        yield from _content_pieces(message["content"])


def _content_pieces(content: Any) -> Iterator[tuple[Any, int]]:
    if isinstance(content, str):
        yield content, len(content)
        return
    for block in content or ():
        yield block, _block_length(block)


def _block_length(block: dict[str, Any]) -> int:
    match block.get("type"):
        case "text":
            return len(block["text"])
        case "image":
            return _IMAGE_CHARACTERS
        case _:
            return len(msgspec.json.encode(block))
