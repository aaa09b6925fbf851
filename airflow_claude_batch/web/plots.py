"""Compute the geometry of the report's charts. ``templates/charts.html.j2`` draws them as SVG, without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

#: All sizes are in pixels of an SVG that is as wide as the page.
CHART_WIDTH: Final = 960
BAR_HEIGHT: Final = 22
VALUE_WIDTH: Final = 110
#: The width of a 12 px letter: the upper limit of a path's average.
LETTER_WIDTH: Final = 7.2


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar, with a label before and its value behind."""

    label: str
    value: str
    top: int
    width: float


@dataclass(frozen=True, slots=True)
class BarChart:
    """Horizontal bars, one below the other.

    :param label_width: the space for labels.
    """

    bars: Sequence[Bar]
    label_width: int
    color: str

    @property
    def width(self) -> int:
        return CHART_WIDTH

    @property
    def height(self) -> int:
        return BAR_HEIGHT * len(self.bars)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar."""

    name: str
    count: int
    color: str
    left: float
    width: float


def bar_chart(
    values: Mapping[str, float], texts: Mapping[str, str], *, label_width: int, color: str = "#c96442"
) -> BarChart:
    """Lay out one bar for each value, scaled to the largest.

    :param values: by label.
    :param texts: how each value is written, by the same labels.
    """
    largest = max(values.values(), default=0) or 1
    room = CHART_WIDTH - label_width - VALUE_WIDTH
    bars = [
        Bar(
            label=shorten(label, int(label_width / LETTER_WIDTH)),
            value=texts[label],
            top=number * BAR_HEIGHT,
            width=round(max(room * value / largest, 1.0), 1),
        )
        for number, (label, value) in enumerate(values.items())
    ]
    return BarChart(bars, label_width, color)


def stacked_bar(counts: Iterable[tuple[str, int, str]]) -> list[Segment]:
    """Divide one bar by counts.

    :param counts: name, count and color of each segment.
    """
    counts = list(counts)
    total = sum(count for _, count, _ in counts) or 1
    segments, left = [], 0.0
    for name, count, color in counts:
        width = CHART_WIDTH * count / total
        segments.append(Segment(name, count, color, round(left, 1), round(width, 1)))
        left += width
    return segments


def shorten(label: str, limit: int) -> str:
    """Cut out the middle of a long label: its ends, a DAG's name and a run's, say more."""
    return label if len(label) <= limit else f"{label[: limit // 2 - 1]}…{label[-(limit - limit // 2) :]}"
