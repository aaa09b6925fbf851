"""One request, reduced to what an estimate of its cost depends on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from airflow_claude_batch.batch.money.media_tokens import comparable_length

MAX_LENGTH_DISTANCE: Final = 8  # length classes between comparable requests: one is up to four times as long

#: A request with a cache breakpoint has these bytes. No text has: in a JSON string a quotation mark is escaped.
CACHE_MARK: Final = b'"cache_control":'
_ONE_HOUR: Final = b'"ttl":"1h"'
_MEDIA: Final = (b'"type":"image"', b'"type":"document"')
_CLIENT_TOOLS: Final = ("custom", "bash_", "text_editor_", "computer_", "memory_")
_NOTHING: Final = msgspec.Raw(b"null")

CacheTtl = Literal["5m", "1h"]


class _Turn(msgspec.Struct):
    content: msgspec.Raw = _NOTHING


class _Params(msgspec.Struct):
    """The parameters that an estimate depends on. Of the prompt only lengths count, so its texts are not decoded."""

    model: str
    max_tokens: int
    messages: list[_Turn]
    tools: msgspec.Raw = _NOTHING
    system: msgspec.Raw = _NOTHING
    cache_control: dict[str, Any] | None = None
    mcp_servers: Any = None
    inference_geo: str | None = None


_decode_params: Final = msgspec.json.Decoder(_Params).decode
_decode_blocks: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode


class PlannedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, reduced to what an estimate needs.

    ``bytes_length`` is the length of its prompt (tools, system, messages) as JSON. Images and PDF files in it count as
    text of about as many tokens, because theirs do not follow from their bytes. ``cached_bytes`` is the length up to
    the last cache breakpoint. ``media`` tells that images or documents are in it. ``load`` returns the params, and
    ``name`` names the request for people. They are called for sampled requests only, so they may read a file.
    """

    model: str
    bytes_length: int
    max_tokens: int
    load: Callable[[], Mapping[str, Any]]
    name: Callable[[], str] = lambda: "a request"
    cached_bytes: int = 0
    cache_ttl: CacheTtl = "5m"
    inference_geo: str | None = None
    media: bool = False
    server_tools: bool = False

    @classmethod
    def of(
        cls, params: bytes, *, load: Callable[[], Mapping[str, Any]], name: Callable[[], str] = lambda: "a request"
    ) -> PlannedRequest:
        """Reduce checked params.

        :param params: the JSON that is sent, without blanks between its values.
        :param load: must return the same params.
        """
        read = _decode_params(params)
        prompt = _measure(read)
        automatic = read.cache_control
        return cls(
            model=read.model,
            bytes_length=prompt.length or 1,
            max_tokens=read.max_tokens,
            load=load,
            name=name,
            cached_bytes=prompt.length if automatic else prompt.cached,
            cache_ttl="1h" if automatic and automatic.get("ttl") == "1h" else prompt.ttl,
            inference_geo=read.inference_geo,
            media=prompt.media,
            server_tools=bool(read.mcp_servers) or _has_server_tools(read.tools),
        )

    @property
    def stratum(self) -> StratumKey:
        """The stratum that the request belongs to."""
        length_class = _length_class(self.bytes_length)
        return StratumKey(self.model, self.media, length_class, self.cache_ttl, self.inference_geo or "")


class StratumKey(NamedTuple):
    """The properties that the requests of one stratum share.

    ``length_class`` grows with the length of the prompt: four classes each time the length doubles.
    """

    model: str
    media: bool
    length_class: int
    cache_ttl: CacheTtl
    inference_geo: str

    def is_comparable(self, other: StratumKey) -> bool:
        """Return whether token counts of one stratum may be used for the other."""
        same_kind = (self.model, self.media) == (other.model, other.media)
        return same_kind and self.length_distance(other) <= MAX_LENGTH_DISTANCE

    def length_distance(self, other: StratumKey) -> int:
        """Return how many length classes apart the strata are."""
        return abs(self.length_class - other.length_class)


def _length_class(length: int) -> int:
    octave = max(length.bit_length() - 3, 0)
    return 4 * octave + (length >> octave)


class _Prompt(NamedTuple):
    """What the contents of a prompt amount to: see :class:`PlannedRequest`."""

    length: int
    cached: int
    ttl: CacheTtl
    media: bool


def _measure(params: _Params) -> _Prompt:
    """Measure the parts of a prompt in the order in which they are cached."""
    length, cached, media = 0, 0, False
    ttl: CacheTtl = "5m"
    contents = (params.tools, params.system, *[turn.content for turn in params.messages])
    for content in [bytes(content) for content in contents if content is not _NOTHING]:
        if not content.startswith(b"["):  # a text, which has no marks
            length += len(content) if content not in (b"null", b'""') else 0
            continue
        for block in map(bytes, _decode_blocks(content)):
            is_media = any(mark in block for mark in _MEDIA)
            length += comparable_length(block) if is_media else len(block)
            cached = length if CACHE_MARK in block else cached
            ttl = "1h" if _ONE_HOUR in block else ttl
            media = media or is_media
    return _Prompt(length, cached, ttl, media)


def _has_server_tools(tools: msgspec.Raw) -> bool:
    return tools is not _NOTHING and any(map(_runs_on_server, msgspec.json.decode(tools) or ()))


def _runs_on_server(tool: Mapping[str, Any]) -> bool:
    return not str(tool.get("type") or "custom").startswith(_CLIENT_TOOLS)
