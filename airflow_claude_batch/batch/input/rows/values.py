"""Writes the values of source rows: as text in prompts, and as JSON in keys and in kept columns.

A value has the same form in both, whatever the source that it comes from:

============================  ==============================================================
None, NaN, NaT, NA            empty text; null in JSON
boolean                       ``true``, ``false``
integer, float                as JSON writes it: ``7``, ``0.5``, ``1e+16``
decimal                       its digits as text, without an exponent: ``12.50``
date, time, timestamp         ISO 8601 text, with the UTC offset if it has one
duration                      ISO 8601 text: ``P1DT2H``
UUID, IP address              text
enum                          its value
list, tuple, mapping, array   JSON without spaces, its values in the forms above
============================  ==============================================================

Bytes, infinity and other types are refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import NoneType
from typing import Any, Final
from uuid import UUID

from airflow_claude_batch.batch.input.rows.durations import iso_duration
from airflow_claude_batch.batch.input.rows.python_values import ValueFormError, python_value

__all__ = ["ValueFormError", "json_of", "text_of"]

#: Digits of an integer, and of a decimal with its zeros. Python refuses to write longer integers.
_MOST_DIGITS: Final = 4000
_MOST_DECIMAL_DIGITS: Final = 150_000  # PostgreSQL has up to 131,072 before the point
_LARGEST: Final = 10**_MOST_DIGITS

# Made once: json.dumps makes one for every call.
_ENCODE: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
#: How text is made of JSON that is no list and no mapping: as the encoder does, in a tenth of its time.
_TEXTS: Final[dict[type, Callable[[Any], str]]] = {
    str: str,
    int: int.__repr__,
    float: float.__repr__,
    bool: {True: "true", False: "false"}.__getitem__,
    NoneType: lambda _none: "",
}


def text_of(value: object) -> str:
    """Return a value as it stands in a prompt.

    >>> text_of(Decimal("12.50")), text_of(None), text_of({"size": [1, 2]})
    ('12.50', '', '{"size":[1,2]}')

    :raises ValueFormError: it has no form as text.
    """
    if type(value) is str:
        return value
    if type(value) is int and -_LARGEST < value < _LARGEST:
        return str(value)
    form = json_of(value)
    return _TEXTS.get(type(form), _ENCODE)(form)


def json_of(value: Any) -> Any:
    """Return a value as ``json`` can write it: None, a str, bool, int, float, list or dict.

    >>> json_of(date(2026, 11, 29)), json_of((Decimal("0.10"), float("nan")))
    ('2026-11-29', ['0.10', None])

    :raises ValueFormError: it has no form as JSON.
    """
    try:
        write = _WRITERS.get(type(value))
        return _of_other(value) if write is None else write(value)
    except RecursionError:
        raise ValueFormError(
            None, "is nested too deeply, or holds itself", "Select the parts of it that the prompt needs."
        ) from None


def _same(value: Any) -> Any:
    return value


def _of_int(value: int) -> int:
    if -_LARGEST < value < _LARGEST:
        return value
    raise ValueFormError(None, f"holds an integer of more than {_MOST_DIGITS:,} digits", "Leave the column out.")


def _of_float(value: float) -> float | None:
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return None
    raise _infinite()


def _of_decimal(value: Decimal) -> str | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise _infinite()
    if abs(value.adjusted()) > _MOST_DECIMAL_DIGITS:
        raise ValueFormError(
            None, f"holds a decimal of more than {_MOST_DECIMAL_DIGITS:,} digits", "Round it in the query."
        )
    return format(value, "f")


def _of_duration(value: timedelta) -> str:
    microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return iso_duration(microseconds * 1000 + getattr(value, "nanoseconds", 0))  # pandas' Timedelta has them


def _of_list(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [json_of(item) for item in value]


def _of_mapping(value: dict[Any, Any]) -> dict[str, Any]:
    mapping = {text_of(name): json_of(item) for name, item in value.items()}
    if len(mapping) != len(value):
        problem = "holds a mapping with two names that are the same text"
        raise ValueFormError(None, problem, "Give each value in it a name of its own.")
    return mapping


def _of_other(value: Any) -> Any:
    """Write a value of a subclass, or of another library's type."""
    value = python_value(value)
    write = _WRITERS.get(type(value))
    if write is None:
        write = next(write for kind, write in _WRITERS_OF_SUBCLASSES if isinstance(value, kind))
    return write(value)


def _infinite() -> ValueFormError:
    return ValueFormError(
        None, "holds infinity, which JSON does not have", "Replace it in the query, for example by NULL."
    )


#: How values are written whose type is exactly this one.
_WRITERS: Final[dict[type, Callable[[Any], Any]]] = {
    str: _same,
    NoneType: _same,
    bool: _same,
    int: _of_int,
    float: _of_float,
    Decimal: _of_decimal,
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: _of_duration,
    UUID: str,
    list: _of_list,
    tuple: _of_list,
    dict: _of_mapping,
}
#: The types that ``python_value`` leaves subclasses of. A ``Timestamp`` of pandas writes its nanoseconds itself.
_WRITERS_OF_SUBCLASSES: Final[tuple[tuple[type, Callable[[Any], Any]], ...]] = (
    (datetime, lambda value: value.isoformat()),
    (date, lambda value: value.isoformat()),
    (time, lambda value: value.isoformat()),
    (timedelta, _of_duration),
    (Decimal, _of_decimal),
    (UUID, str),
)
