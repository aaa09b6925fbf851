"""Bars, drawn as SVG: no script, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 960
BAR: Final = 22
#: Of a letter of 12 px, at most on the average of a path.
LETTER: Final = 7.2
VALUE: Final = 110


def bars(values: Mapping[str, float], texts: Mapping[str, str], *, label: int, color: str = "#c96442") -> str:
    """One horizontal bar a name, with its value as text behind it.

    :param label: the room for names, in pixels.
    """
    most = max(values.values(), default=0) or 1
    height = BAR * len(values)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img">']
    for number, (name, value) in enumerate(values.items()):
        top, width = number * BAR, (WIDTH - label - VALUE) * value / most
        shown = escape(_shortened(name, int(label / LETTER)))
        parts.append(
            f'<text x="{label - 8}" y="{top + 15}" text-anchor="end">{shown}</text>'
            f'<rect x="{label}" y="{top + 3}" width="{max(width, 1):.1f}" height="{BAR - 6}" fill="{color}"/>'
            f'<text x="{label + width + 8:.1f}" y="{top + 15}">{escape(texts[name])}</text>'
        )
    return "".join([*parts, "</svg>"])


def _shortened(name: str, most: int) -> str:
    """Both ends of a long name tell more than its middle: a DAG's name, and a run's."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most - most // 2) :]}"


def shares(counts: Sequence[tuple[str, int, str]]) -> str:
    """One bar divided by counts: (name, count, color)."""
    total = sum(count for _, count, _ in counts) or 1
    left, parts = 0.0, [f'<svg viewBox="0 0 {WIDTH} 24" role="img">']
    for name, count, color in counts:
        width = WIDTH * count / total
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="24" fill="{color}">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
        left += width
    return "".join([*parts, "</svg>"])
