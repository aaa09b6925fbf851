"""What a benchmark hands back: lines of the table, each with what the peers took in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OFFICIAL, COMMON_AI, SDK = "anthropic provider", "common-ai", "anthropic SDK"


@dataclass(frozen=True)
class Scope:
    """How much is measured.

    :param ours_only: leave the peers out, and with them all ratios.
    :param scale: share of the full size; below 1 only tells whether the benchmarks work.
    """

    ours_only: bool = False
    scale: float = 1.0

    @property
    def full(self) -> bool:
        return not self.ours_only and self.scale == 1

    def of(self, count: int) -> int:
        return max(int(count * self.scale), 1)


@dataclass(frozen=True)
class Figure:
    """One line.

    :param unit: of ``ours`` and of ``peers``.
    :param peers: by the peer's name.
    :param bound: what ``ours`` had to be, in words.
    :param met: whether it is; None where nothing was promised.
    """

    what: str
    unit: str
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)
    bound: str = ""
    met: bool | None = None

    def at_most(self, most: float) -> Figure:
        """Promise a size."""
        return self._promise(f"≤ {most:g} {self.unit}".rstrip(), self.ours <= most)

    def within(self, share: float, peer: str, words: str) -> Figure:
        """Promise a share of what a peer takes; nothing where it was left out."""
        if peer not in self.peers:
            return self
        return self._promise(f"≤ {words} {peer}".replace("  ", " "), self.ours <= share * self.peers[peer])

    def _promise(self, bound: str, met: bool) -> Figure:
        both = "; ".join(filter(None, (self.bound, bound)))
        return Figure(self.what, self.unit, self.ours, self.peers, both, met and self.met is not False)


@dataclass(frozen=True)
class BenchmarkResult:
    """What one benchmark found.

    :param checked: under what conditions, and what was checked of the work that was measured.
    """

    checked: str
    figures: tuple[Figure, ...]
