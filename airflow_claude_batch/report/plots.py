"""Bars, drawn as SVG: no script, nothing to load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

WIDTH: Final = 720
BAR: Final = 22
LABEL: Final = 300
LABEL_CHARACTERS: Final = 42
VALUE: Final = 110


def bars(values: Mapping[str, float], texts: Mapping[str, str], *, color: str = "#c96442") -> str:
    """One horizontal bar a name, with its value as text behind it."""
    most = max(values.values(), default=0) or 1
    height = BAR * len(values)
    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">']
    for number, (name, value) in enumerate(values.items()):
        top, width = number * BAR, (WIDTH - LABEL - VALUE) * value / most
        parts.append(
            f'<text x="{LABEL - 8}" y="{top + 15}" text-anchor="end">{escape(_label(name))}</text>'
            f'<rect x="{LABEL}" y="{top + 3}" width="{max(width, 1):.1f}" height="{BAR - 6}" fill="{color}"/>'
            f'<text x="{LABEL + width + 8:.1f}" y="{top + 15}">{escape(texts[name])}</text>'
        )
    return "".join([*parts, "</svg>"])


def _label(name: str) -> str:
    """The end of a long name tells more than its beginning: folders have that in common."""
    return name if len(name) <= LABEL_CHARACTERS else "…" + name[1 - LABEL_CHARACTERS :]


def shares(counts: Sequence[tuple[str, int, str]]) -> str:
    """One bar divided by counts: (name, count, color)."""
    total = sum(count for _, count, _ in counts) or 1
    left, parts = 0.0, [f'<svg viewBox="0 0 {WIDTH} 24" width="{WIDTH}" height="24" role="img">']
    for name, count, color in counts:
        width = WIDTH * count / total
        parts.append(
            f'<rect x="{left:.1f}" y="0" width="{width:.1f}" height="24" fill="{color}">'
            f"<title>{escape(name)}: {count:,}</title></rect>"
        )
        left += width
    return "".join([*parts, "</svg>"])
