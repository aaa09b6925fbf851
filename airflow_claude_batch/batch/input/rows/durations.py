"""Writes a length of time as ISO 8601 does."""

from __future__ import annotations

from typing import Final

_NANOSECONDS: Final = 1_000_000_000
_UNITS: Final = (("H", 3600 * _NANOSECONDS), ("M", 60 * _NANOSECONDS))
_DAY: Final = 24 * 3600 * _NANOSECONDS


def iso_duration(nanoseconds: int) -> str:
    """Write a length of time in days, hours, minutes and seconds. Units that are zero are left out.

    >>> iso_duration(93_600_500_000_000)
    'P1DT2H0.5S'
    """
    days, rest = divmod(abs(nanoseconds), _DAY)
    clock = ""
    for letter, length in _UNITS:
        count, rest = divmod(rest, length)
        clock += f"{count}{letter}" if count else ""
    if rest or not (days or clock):
        seconds, fraction = divmod(rest, _NANOSECONDS)
        clock += f"{seconds}{f'.{fraction:09d}'.rstrip('0') if fraction else ''}S"
    sign = "-" if nanoseconds < 0 else ""
    return f"{sign}P{f'{days}D' if days else ''}{f'T{clock}' if clock else ''}"
