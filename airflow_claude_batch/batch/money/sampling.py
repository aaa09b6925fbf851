"""A stratified sample of the requests, whose tokens are counted before anything is sent.

Requests of like length and kind form a stratum. The sample is drawn from the strata in proportion to their bytes.
Memory does not grow with the stream of requests: a stratum holds sums, and a reservoir of a few requests.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from airflow_claude_batch.batch.money.planned_request import PlannedRequest, StratumKey

MAX_CALLS: Final = 20  # count_tokens calls of one estimate
MEDIA_BYTES: Final = 6_000  # bytes of text that weigh as much as an image of usual size: about 1,500 tokens
LONGEST: Final = 3  # requests of a model, and of a kind, that are kept because they are the longest


@dataclass(slots=True)
class Stratum:
    """The requests of one stratum: sums over all of them, the longest, and a random few of them (the reservoir)."""

    key: StratumKey
    shortest: int
    least_max_tokens: int
    most_max_tokens: int = 0
    requests: int = 0
    bytes: int = 0
    cached_bytes: int = 0
    max_tokens: int = 0
    server_tools: int = 0
    longest: list[PlannedRequest] = field(default_factory=list)
    reservoir: list[PlannedRequest] = field(default_factory=list)

    def add(self, request: PlannedRequest, *, capacity: int, rng: random.Random) -> None:
        """Add a request. Reservoir sampling: every request has the same chance to stay in the reservoir."""
        self.requests += 1
        self.bytes += request.bytes_length
        self.cached_bytes += request.cached_bytes
        self.max_tokens += request.max_tokens
        self.server_tools += request.server_tools
        self._add_to_ranges(request)
        if len(self.reservoir) < capacity:
            self.reservoir.append(request)
        elif (replaced := rng.randrange(self.requests)) < capacity:
            self.reservoir[replaced] = request

    def _add_to_ranges(self, request: PlannedRequest) -> None:
        if request.bytes_length < self.shortest:
            self.shortest = request.bytes_length
        if len(self.longest) < LONGEST or request.bytes_length > self.longest[-1].bytes_length:
            self.longest = _longest([*self.longest, request])
        if not self.least_max_tokens <= request.max_tokens <= self.most_max_tokens:
            self.least_max_tokens = min(self.least_max_tokens, request.max_tokens)
            self.most_max_tokens = max(self.most_max_tokens, request.max_tokens)

    @property
    def weight(self) -> int:
        """The likely share of the tokens, in bytes of text."""
        return max(self.bytes, self.requests * MEDIA_BYTES) if self.key.media else self.bytes


class StratifiedSample:
    """All requests in strata, and the few whose tokens are to be counted. The same stream gives the same sample.

    ``server_tools`` is the number of requests with tools that the API runs. ``max_tokens`` has the least and the most
    that a request allows.

    :param max_calls: the most requests to select.
    """

    def __init__(self, requests: Iterable[PlannedRequest], *, max_calls: int = MAX_CALLS) -> None:
        self._max_calls = max_calls
        self._rng = random.Random(0)  # noqa: S311 - no secret, and the same in a retry
        strata: dict[StratumKey, Stratum] = {}
        for request in requests:
            key = request.stratum
            if (stratum := strata.get(key)) is None:
                stratum = strata[key] = Stratum(key, request.bytes_length, request.max_tokens)
            stratum.add(request, capacity=max_calls, rng=self._rng)
        self.strata = sorted(strata.values(), key=lambda stratum: stratum.key)
        self.requests = sum(stratum.requests for stratum in self.strata)
        self.server_tools = sum(stratum.server_tools for stratum in self.strata)
        self.max_tokens = (
            min((stratum.least_max_tokens for stratum in self.strata), default=0),
            max((stratum.most_max_tokens for stratum in self.strata), default=0),
        )

    @property
    def models(self) -> dict[str, int]:
        """The number of requests of each model."""
        counts: Counter[str] = Counter()
        for stratum in self.strata:
            counts[stratum.key.model] += stratum.requests
        return dict(counts)

    def longest(self, model: str) -> list[PlannedRequest]:
        """Return the longest texts of a model, and the longest of its requests with images or documents."""
        strata = [stratum for stratum in self.strata if stratum.key.model == model]
        texts = [request for stratum in strata if not stratum.key.media for request in stratum.longest]
        media = [request for stratum in strata if stratum.key.media for request in stratum.longest]
        return [*_longest(texts), *_longest(media)]

    def select(self) -> list[PlannedRequest]:
        """Select the requests to count: all if they are few, else by systematic sampling over the strata's weights."""
        if self.requests <= self._max_calls:
            return [request for stratum in self.strata for request in stratum.reservoir]
        step = sum(stratum.weight for stratum in self.strata) / max(self._max_calls, 1)
        selected: list[PlannedRequest] = []
        cumulated, point = 0, step / 2
        for stratum in self.strata:
            cumulated += stratum.weight
            hits = 0
            while point < cumulated and len(selected) + hits < self._max_calls:
                hits, point = hits + 1, point + step
            selected += self._rng.sample(stratum.reservoir, min(hits, len(stratum.reservoir)))
        return selected


def _longest(requests: list[PlannedRequest]) -> list[PlannedRequest]:
    return sorted(requests, key=lambda request: -request.bytes_length)[:LONGEST]
