"""Compute the geometry of charts, in percent. ``templates/charts.html.j2`` draws them as SVG, without scripts.

The drawings stretch with the page. Their texts are beside them, so that these do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Final

#: More days are shown as months: columns narrower than two pixels cannot be read.
MAX_DAYS: Final = 400
MIN_COLUMNS: Final = 28


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar."""

    name: str
    count: int
    left: float
    width: float


def stacked_bar(counts: Iterable[tuple[str, int]]) -> list[Segment]:
    """Divide one bar by counts.

    :param counts: name and count of each segment.
    """
    counts = list(counts)
    total = sum(count for _, count in counts) or 1
    segments, left = [], 0.0
    for name, count in counts:
        width = 100 * count / total
        segments.append(Segment(name, count, round(left, 2), round(width, 2)))
        left += width
    return segments


@dataclass(frozen=True, slots=True)
class Column:
    """One day or month.

    :param height: as a percentage of the largest.
    """

    name: str
    usd: Decimal
    height: float


@dataclass(frozen=True, slots=True)
class ColumnChart:
    """What was spent over time, the oldest first.

    :param unit: ``day`` or ``month``.
    """

    unit: str
    columns: Sequence[Column]

    @property
    def width(self) -> int:
        """The number of columns that there is room for. A few would be as wide as the page."""
        return max(len(self.columns), MIN_COLUMNS)

    @property
    def first(self) -> str:
        return self.columns[0].name

    @property
    def last(self) -> str:
        return self.columns[-1].name

    @property
    def largest(self) -> Column:
        """The column with the most."""
        return max(self.columns, key=lambda column: column.usd)


def spending_columns(usd_by_day: Mapping[str, Decimal]) -> ColumnChart:
    """Return a column for each day from the first to the last, those without spending too.

    :param usd_by_day: by ISO 8601 date. Other keys are left out.
    """
    days = {date.fromisoformat(day): usd for day, usd in usd_by_day.items() if day[:1].isdecimal()}
    if not days:
        return ColumnChart("day", [])
    first, last = min(days), max(days)
    if (last - first).days < MAX_DAYS:
        every = (first + timedelta(days=number) for number in range((last - first).days + 1))
        return ColumnChart("day", _columns({day.isoformat(): days.get(day, Decimal(0)) for day in every}))
    months: dict[str, Decimal] = {}
    for day, usd in sorted(days.items()):
        month = f"{day:%Y-%m}"
        months[month] = months.get(month, Decimal(0)) + usd
    return ColumnChart("month", _columns(months))


def _columns(usd: Mapping[str, Decimal]) -> list[Column]:
    largest = max(usd.values()) or Decimal(1)
    return [Column(name, amount, round(float(100 * amount / largest), 2)) for name, amount in usd.items()]
