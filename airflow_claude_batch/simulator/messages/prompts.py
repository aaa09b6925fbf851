"""Count the tokens of a prompt and simulate its prompt cache. Four characters count as one token."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec

from airflow_claude_batch.simulator.messages.models import Model

CHARACTERS_PER_TOKEN = 4
_IMAGE_CHARACTERS = 6_000  # about 1,500 tokens, for an image of any size
_PAGE_CHARACTERS = 10_000  # about 2,500 tokens, for a page of a PDF
_PAGE = re.compile(rb"/Type\s*/Page\b")
_LIFETIMES = {"5m": timedelta(minutes=5), "1h": timedelta(hours=1)}

Params = dict[str, Any]


def tokens(characters: int) -> int:
    """Convert characters to tokens, rounded up."""
    return -(-characters // CHARACTERS_PER_TOKEN)


def prompt_tokens(params: Params) -> int:
    """Count all input tokens of a request, as count_tokens returns them and as usage adds up to them."""
    return max(1, tokens(sum(length for _, length in _blocks(params))))


def last_user_text(params: Params) -> str:
    """Return the text of the last user message, empty if it has none."""
    for message in reversed(params["messages"]):
        if message["role"] != "user":
            continue
        if isinstance(message["content"], str):
            return message["content"]
        return " ".join(block["text"] for block in message["content"] if block.get("type") == "text")
    return ""


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
class _Breakpoint:
    """The end of a cacheable prefix."""

    tokens: int
    key: bytes
    ttl: str


class PromptCache:
    """Remembers prompt prefixes that end with ``cache_control``. The first request writes one, later ones read it.

    The real cache is best effort, because the requests of a batch run in parallel. This one never misses.
    """

    def __init__(self) -> None:
        self._expires_at: dict[bytes, datetime] = {}
        self._lock = threading.Lock()

    def use(self, params: Params, *, model: Model, workspace: str, now: datetime) -> CacheUse:
        """Return what this request reads and writes, and remember its prefixes."""
        with self._lock:
            return self._use(params, model, f"{workspace}\n{model.id}\n".encode(), now)

    def _use(self, params: Params, model: Model, scope: bytes, now: datetime) -> CacheUse:
        breakpoints = [point for point in _breakpoints(params, scope) if point.tokens >= model.cache_minimum]
        known = [point for point in breakpoints if self._expires_at.get(point.key, now) > now]
        read = known[-1].tokens if known else 0
        written = dict.fromkeys(_LIFETIMES, 0)
        reached = read
        for point in breakpoints:
            self._expires_at[point.key] = now + _LIFETIMES[point.ttl]
            if point.tokens > reached:
                written[point.ttl] += point.tokens - reached
                reached = point.tokens
        return CacheUse(read=read, written_5m=written["5m"], written_1h=written["1h"])


def _breakpoints(params: Params, scope: bytes) -> list[_Breakpoint]:
    breakpoints: list[_Breakpoint] = []
    digest = hashlib.blake2b(scope, digest_size=16)
    length = 0
    for piece, piece_length in _blocks(params):
        length += piece_length
        ttl = _ttl(piece)
        digest.update(json.dumps(_without_cache_control(piece), sort_keys=True).encode())
        if ttl is not None:
            breakpoints.append(_Breakpoint(tokens(length), digest.digest(), ttl))
    ttl = _ttl(params)
    if ttl is not None:
        breakpoints.append(_Breakpoint(tokens(length), digest.digest(), ttl))
    return breakpoints


def _ttl(piece: Any) -> str | None:
    control = piece.get("cache_control") if isinstance(piece, dict) else None
    return None if control is None else control.get("ttl", "5m")


def _without_cache_control(piece: Any) -> Any:
    if not isinstance(piece, dict):
        return piece
    return {key: value for key, value in piece.items() if key != "cache_control"}


def _blocks(params: Params) -> Iterator[tuple[Any, int]]:
    """Yield the blocks of the prompt in order (tools, system, messages), each with its length in characters."""
    for tool in params.get("tools") or ():
        yield tool, _json_length(tool)
    yield from _content_blocks(params.get("system"))
    for message in params["messages"]:
        yield from _content_blocks(message.get("content"))


def _content_blocks(content: Any) -> Iterator[tuple[Any, int]]:
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
        case "document":
            source = block.get("source")
            if isinstance(source, dict) and source.get("type") == "base64":
                return _pages(source.get("data")) * _PAGE_CHARACTERS
            return _json_length(block)
        case _:
            return _json_length(block)


def _pages(data: Any) -> int:
    """Count the pages of a PDF in base64 that stand in it in plain. Any other file is one page."""
    try:
        return max(1, len(_PAGE.findall(base64.b64decode(data))))
    except (TypeError, ValueError):
        return 1


def _json_length(value: Any) -> int:
    try:
        return len(msgspec.json.encode(value))
    except OverflowError:  # a whole number of more than 64 bits
        return len(json.dumps(value))
