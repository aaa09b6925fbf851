"""A few requests to measure, out of a stream of many: grouped by length, and chosen by the share of their group.

Memory does not grow with the stream: a group holds sums, and at most as many requests as may be measured.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.exceptions import APIError

MAX_CALLS: Final = 20  # count_tokens calls of one estimate
MEDIA_BYTES: Final = 6_000  # of text, that weigh as much as an image of usual size: about 1,500 tokens
LIKE_LENGTH: Final = 8  # steps of a length class: up to four times as long

# Within a string of JSON a quotation mark is escaped, so that no text looks like one of these.
_MARK: Final = b'"cache_control":'
_ONE_HOUR: Final = b'"ttl":"1h"'
_MEDIA: Final = (b'"type":"image"', b'"type":"document"')
_CLIENT_TOOLS: Final = ("custom", "bash_", "text_editor_", "computer_", "memory_")


class TokenCounter(Protocol):
    """What counts tokens; the API's client does."""

    def count_tokens(self, params: Mapping[str, Any], /) -> int:
        """The input tokens of these params.

        :raises APIError: they could not be counted.
        """
        ...


class PlannedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as an estimate sees it.

    ``bytes_length`` is the length of its prompt (tools, system, messages) as JSON, ``cached_bytes`` that of the part
    up to its last cache_control mark. ``media`` is whether images or documents are in it, whose tokens do not follow
    from their bytes. ``load`` gives the params: only what is measured is loaded, so it may hold an offset.
    """

    model: str
    bytes_length: int
    max_tokens: int
    load: Callable[[], Mapping[str, Any]]
    cached_bytes: int = 0
    cache_ttl: Literal["5m", "1h"] = "5m"
    inference_geo: str | None = None
    media: bool = False
    server_tools: bool = False

    @classmethod
    def of(cls, params: Mapping[str, Any], *, load: Callable[[], Mapping[str, Any]]) -> PlannedRequest:
        """Take the view of checked params. ``load`` must give the same ones again."""
        length, cached, media = 0, 0, False
        ttl: Literal["5m", "1h"] = "5m"
        for block in map(msgspec.json.encode, _blocks(params)):
            length += len(block)
            cached = length if _MARK in block else cached
            ttl = "1h" if _ONE_HOUR in block else ttl
            media = media or any(mark in block for mark in _MEDIA)
        automatic = params.get("cache_control")
        return cls(
            model=params["model"],
            bytes_length=max(length, 1),
            max_tokens=params["max_tokens"],
            load=load,
            cached_bytes=length if automatic else cached,
            cache_ttl="1h" if automatic and automatic.get("ttl") == "1h" else ttl,
            inference_geo=params.get("inference_geo"),
            media=media,
            server_tools=bool(params.get("mcp_servers")) or any(map(_runs_on_server, params.get("tools") or ())),
        )

    @property
    def kind(self) -> Kind:
        """The group that it belongs to."""
        length_class = _length_class(self.bytes_length)
        return Kind(self.model, self.media, length_class, self.cache_ttl, self.inference_geo or "")


class Kind(NamedTuple):
    """What the requests of one group have in common. ``length_class`` grows with the length, four steps a doubling."""

    model: str
    media: bool
    length_class: int
    cache_ttl: Literal["5m", "1h"]
    inference_geo: str

    def is_like(self, other: Kind) -> bool:
        """Whether requests of the one speak for those of the other."""
        alike = (self.model, self.media) == (other.model, other.media)
        return alike and self.distance(other) <= LIKE_LENGTH

    def distance(self, other: Kind) -> int:
        """How different their lengths are."""
        return abs(self.length_class - other.length_class)


@dataclass(slots=True)
class Group:
    """The requests of one kind: sums over all of them, and some that may be measured."""

    kind: Kind
    requests: int = 0
    bytes: int = 0
    cached_bytes: int = 0
    max_tokens: int = 0
    shortest: int = 0
    longest: int = 0
    kept: list[PlannedRequest] = field(default_factory=list)

    def add(self, request: PlannedRequest, *, room: int, dice: random.Random) -> None:
        """Count one more; every request has the same chance to be kept."""
        self.shortest = min(self.shortest or request.bytes_length, request.bytes_length)
        self.longest = max(self.longest, request.bytes_length)
        self.requests += 1
        self.bytes += request.bytes_length
        self.cached_bytes += request.cached_bytes
        self.max_tokens += request.max_tokens
        if len(self.kept) < room:
            self.kept.append(request)
        elif (place := dice.randrange(self.requests)) < room:
            self.kept[place] = request

    @property
    def weight(self) -> int:
        """How much of the tokens is likely to be theirs, in bytes of text."""
        return max(self.bytes, self.requests * MEDIA_BYTES) if self.kind.media else self.bytes


class Sample:
    """All requests in groups, and the few that are to be measured. The same stream gives the same sample.

    ``server_tools`` is the number of requests with tools that the API runs, and ``max_tokens`` the least and the most
    that any request allows.
    """

    def __init__(self, requests: Iterable[PlannedRequest], *, max_calls: int = MAX_CALLS) -> None:
        self.requests = self.server_tools = 0
        self.max_tokens = (0, 0)
        self._max_calls = max_calls
        self._dice = random.Random(0)  # noqa: S311 - no secret, and the same in a retry
        groups: dict[Kind, Group] = {}
        for request in requests:
            kind = request.kind
            if (group := groups.get(kind)) is None:
                group = groups[kind] = Group(kind)
            group.add(request, room=max_calls, dice=self._dice)
            self._count(request)
        self.groups = sorted(groups.values(), key=lambda group: group.kind)

    @property
    def models(self) -> dict[str, int]:
        """The number of requests of each model."""
        counts: Counter[str] = Counter()
        for group in self.groups:
            counts[group.kind.model] += group.requests
        return dict(counts)

    def _count(self, request: PlannedRequest) -> None:
        least, most = self.max_tokens if self.requests else (request.max_tokens, request.max_tokens)
        self.max_tokens = (min(least, request.max_tokens), max(most, request.max_tokens))
        self.requests += 1
        self.server_tools += request.server_tools

    def chosen(self) -> list[PlannedRequest]:
        """What to measure: everything if that is allowed, else systematically along the weights of the groups."""
        if self.requests <= self._max_calls:
            return [request for group in self.groups for request in group.kept]
        step = sum(group.weight for group in self.groups) / max(self._max_calls, 1)
        chosen: list[PlannedRequest] = []
        reached, point = 0, step / 2
        for group in self.groups:
            reached += group.weight
            hits = 0
            while point < reached and len(chosen) + hits < self._max_calls:
                hits, point = hits + 1, point + step
            chosen += self._dice.sample(group.kept, min(hits, len(group.kept)))
        return chosen


class Measured(NamedTuple):
    """One request that was measured."""

    kind: Kind
    bytes: int
    tokens: int


class Measurement(NamedTuple):
    """What count_tokens said, and why it said no more (None: it was asked for all that was chosen)."""

    counts: list[Measured]
    failure: str | None = None


def measure(sample: Sample, client: TokenCounter) -> Measurement:
    """Ask count_tokens for what the sample chose. The first refusal ends the asking: an estimate is not worth more."""
    counts: list[Measured] = []
    for request in sample.chosen():
        try:
            tokens = client.count_tokens(request.load())
        except APIError as error:
            return Measurement(counts, f"{type(error).__name__}: {error}")
        counts.append(Measured(request.kind, request.bytes_length, tokens))
    return Measurement(counts)


def _length_class(length: int) -> int:
    octave = max(length.bit_length() - 3, 0)
    return 4 * octave + (length >> octave)


def _blocks(params: Mapping[str, Any]) -> Iterator[Any]:
    """The prompt in the order in which it is cached."""
    for content in (params.get("tools"), params.get("system"), *(turn["content"] for turn in params["messages"])):
        if isinstance(content, list):
            yield from content
        elif content:
            yield content


def _runs_on_server(tool: Mapping[str, Any]) -> bool:
    return not str(tool.get("type") or "custom").startswith(_CLIENT_TOOLS)
