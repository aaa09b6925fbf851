"""Why a value cannot be written as JSON: where in it the trouble is, and what to do. Texts are never quoted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

_REMEDY = "Use strings, finite numbers, booleans, None, and lists and mappings of them"


def shown(value: Any, length: int = 80) -> str:
    """A value for messages to people, cut short. Some values have no ``repr``: huge numbers, lists nested deeply."""
    try:
        return f"{value!r:.{length}}"
    except Exception:  # a repr may raise anything
        return f"a {type(value).__name__} that cannot be shown"


def explain(value: Any, where: str, error: Exception) -> str:
    """Say what is wrong with a value that ``json`` refused with this error, by its path from ``where``."""
    return next(_faults(value, where), None) or f"{error}. {_REMEDY}."


def _faults(value: Any, where: str) -> Iterator[str]:
    """Walk without recursion: what is nested too deeply for ``json`` is for us, too."""
    pending, seen = [(where, value)], {id(value)}
    while pending:
        place, item = pending.pop()
        if fault := _fault(item):
            yield f"{place} {fault}."
        for inner in reversed(list(_inside(place, item))):
            if id(inner[1]) not in seen or not isinstance(inner[1], dict | list | tuple):
                seen.add(id(inner[1]))
                pending.append(inner)


def _fault(item: Any) -> str | None:
    if isinstance(item, dict):
        return next(filter(None, map(_key_fault, item)), None)
    if isinstance(item, str):
        return _text_fault(item)
    if isinstance(item, float):
        return None if math.isfinite(item) else f"is {item}. {_REMEDY}"
    return None if isinstance(item, int | list | tuple | None) else f"is a {type(item).__name__}. {_REMEDY}"


def _key_fault(key: Any) -> str | None:
    fault = _fault(key) if isinstance(key, str | float) else None
    if fault or not isinstance(key, str | int | float | None):
        return f"has the key {shown(key, 40)}, which JSON cannot have"
    return None


def _text_fault(text: str) -> str | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return (
            f"has a lone surrogate at position {error.start}, which UTF-8 cannot have. Clean it with "
            ".encode(errors='replace').decode()"
        )
    return None


def _inside(place: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        yield from ((f"{place}.{key}", inner) for key, inner in item.items())
    elif isinstance(item, list | tuple):
        yield from ((f"{place}[{index}]", inner) for index, inner in enumerate(item))
