"""The result of a benchmark: lines of a table, with the figures of the peers in the same run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OFFICIAL, COMMON_AI, SDK = "anthropic provider", "common-ai", "anthropic SDK"


@dataclass(frozen=True)
class Scope:
    """The extent of a run.

    :param ours_only: leave out the peers, and with them all ratios.
    :param scale: share of the full size. Below 1, a run only checks that the benchmarks work.
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
    """One line of the table.

    :param unit: of ``ours`` and of ``peers``.
    :param peers: the figures of the peers, by name.
    :param bound: the bound of ``ours``, in words.
    :param met: ``ours`` is within the bound; None where there is no bound.
    """

    what: str
    unit: str
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)
    bound: str = ""
    met: bool | None = None

    def at_most(self, most: float) -> Figure:
        """Add a bound: at most this much."""
        return self._with_bound(f"≤ {most:g} {self.unit}".rstrip(), self.ours <= most)

    def at_least(self, least: float) -> Figure:
        """Add a bound: at least this much."""
        return self._with_bound(f"≥ {least:,g} {self.unit}".rstrip(), self.ours >= least)

    def within(self, share: float, peer: str, words: str) -> Figure:
        """Add a bound: at most a share of the peer's figure. No bound if the peer was left out."""
        if peer not in self.peers:
            return self
        return self._with_bound(f"≤ {words} {peer}".replace("  ", " "), self.ours <= share * self.peers[peer])

    def _with_bound(self, bound: str, met: bool) -> Figure:
        both = "; ".join(filter(None, (self.bound, bound)))
        return Figure(self.what, self.unit, self.ours, self.peers, both, met and self.met is not False)


@dataclass(frozen=True)
class BenchmarkResult:
    """The result of one benchmark.

    :param checked: the conditions, and what was checked about the measured work.
    """

    checked: str
    figures: tuple[Figure, ...]
