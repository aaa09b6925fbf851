"""Explains why ``json`` refused a value: the place inside the value, the problem and the remedy. Quotes no text."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.foreign_types import recognise

_JSON_TYPES: Final = "Use strings, finite numbers, booleans, None, and lists and mappings of them."
_MISSING: Final = "Write a missing value as None, or leave it out."
_CLEAN_TEXT: Final = "Clean the text with .encode(errors='replace').decode()."


class JsonError(NamedTuple):
    """The problem, with its place, and what to do about it."""

    problem: str
    remedy: str


def exact_integer(value: Any) -> int:
    """Return an integer of another library, such as numpy's, as Python's. ``json`` calls it for types it does not know.

    :raises TypeError: it is no integer.
    """
    if isinstance(value, Integral):
        return int(value)
    raise TypeError(f"type {type(value).__name__} is not JSON")


def explain(value: Any, name: str, error: Exception) -> JsonError:
    """Find what ``json`` refused in ``value``. Places are paths that begin with ``name``."""
    return next(_find(value, name), None) or JsonError(f"{name} cannot be written as JSON: {error}.", _JSON_TYPES)


def _find(value: Any, name: str) -> Iterator[JsonError]:
    """Walk without recursion: a value that is nested too deeply for ``json`` is too deep for recursion here."""
    pending, seen = [(name, value)], {id(value)}
    while pending:
        path, item = pending.pop()
        if found := _check(item):
            yield JsonError(f"{path} {found.problem}", found.remedy)
        for inner in reversed(list(_children(path, item))):
            if id(inner[1]) not in seen or not isinstance(inner[1], dict | list | tuple):
                seen.add(id(inner[1]))
                pending.append(inner)


def _check(item: Any) -> JsonError | None:
    if isinstance(item, dict):
        return next(filter(None, map(_check_key, item)), None)
    if isinstance(item, str):
        return _check_text(item)
    if isinstance(item, float):
        return None if math.isfinite(item) else JsonError(f"is {item}, which is not JSON.", f"{_MISSING} {_JSON_TYPES}")
    if isinstance(item, Integral | list | tuple | None):
        return None
    foreign = recognise(item)
    remedy = f"{foreign.remedy} {_JSON_TYPES}" if foreign else _JSON_TYPES
    return JsonError(f"is of type {type(item).__name__}, which is not JSON.", remedy)


def _check_key(key: Any) -> JsonError | None:
    if isinstance(key, str | float) and _check(key) is not None:
        return JsonError(f"has the key {short_repr(key, 40)}, which is not JSON.", _JSON_TYPES)
    if not isinstance(key, str | int | float | None):
        return JsonError(f"has the key {short_repr(key, 40)}, which is not JSON.", "Use strings as keys.")
    return None


def _check_text(text: str) -> JsonError | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return JsonError(f"has a lone surrogate at position {error.start}, which is not UTF-8.", _CLEAN_TEXT)
    return None


def _children(path: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, dict):
        yield from ((f"{path}.{key}", inner) for key, inner in item.items())
    elif isinstance(item, list | tuple):
        yield from ((f"{path}[{index}]", inner) for index, inner in enumerate(item))
