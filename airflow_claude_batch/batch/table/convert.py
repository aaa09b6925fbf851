"""Convert values of rows to values of columns. What would lose something is refused, with the reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.storable_json import storable_names, storable_text
from airflow_claude_batch.batch.table.column import Column, Kind

Converter = Callable[[Any], Any]

_INTEGER: Final = re.compile(r"[+-]?\d{1,80}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_encoder = msgspec.json.Encoder(decimal_format="number")


class UnfitValueError(Exception):
    """A value that its column cannot take. The message says what it is, without the value itself."""


def converter_for(column: Column, *, on_replaced: Callable[[], None] | None) -> Converter:
    """Return what converts values of rows for a column. None is never given to it.

    :param on_replaced: called for each value in which a NUL was replaced, because the database refuses it. None if the
        database takes it.
    :raises UnfitValueError: raised by the converter: the column cannot take the value.
    """
    clean = _cleaner(on_replaced)
    texts = _text_converter(column, clean)
    converters: dict[Kind, Converter] = {
        Kind.BOOLEAN: _boolean,
        Kind.INTEGER: _integer_converter(column.integers),
        Kind.NUMBER: _number,
        Kind.FLOAT: _float,
        Kind.TEXT: texts,
        Kind.DATE: _date,
        Kind.TIME: _time,
        Kind.TIMESTAMP: _utc_without_zone,
        Kind.TIMESTAMP_TZ: _utc,
        Kind.JSON: _json_converter(clean),
        Kind.ARRAY: _array_converter(clean),
        Kind.OTHER: texts,
        Kind.ANY: _any_converter(texts),
    }
    return converters[column.kind]


def json_text(value: Any) -> str:
    """Return a value as compact JSON."""
    return _encoder.encode(value).decode()


def described(value: Any) -> str:
    """Return what a value is, in words."""
    match value:
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float() | Decimal():
            return "a number with a fraction"
        case str():
            return "a text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return f"a value of type {type(value).__name__}"


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise UnfitValueError(described(value))


def _is_whole(value: Any) -> bool:
    if isinstance(value, str):
        return _INTEGER.fullmatch(value) is not None
    return isinstance(value, int) or (isinstance(value, float | Decimal) and value == value // 1)


def _integer_converter(integers: range) -> Converter:
    def convert(value: Any) -> int:
        if not _is_whole(value):
            raise UnfitValueError(described(value))
        number = int(value)
        if number not in integers:
            raise UnfitValueError("an integer out of its range")
        return number

    return convert


def _number(value: Any) -> Decimal | int:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return value
    if isinstance(value, float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise UnfitValueError(described(value))


def _float(value: Any) -> float:
    if type(value) is float and isfinite(value):
        return value
    return float(_number(value))


def _cleaner(on_replaced: Callable[[], None] | None) -> Converter:
    """Return what replaces NUL in texts and JSON values by U+FFFD."""

    def clean(value: Any) -> Any:
        stored = storable_text(value) if type(value) is str else storable_names(value)
        if stored != value and on_replaced is not None:
            on_replaced()
        return stored

    return (lambda value: value) if on_replaced is None else clean


def _text_converter(column: Column, clean: Converter) -> Converter:
    most = column.max_length

    def convert(value: Any) -> Any:
        text = clean(value) if type(value) is str else _as_text(clean(value))
        if most is not None and len(text) > most:
            raise UnfitValueError(f"a text of {len(text):,} characters")
        return text

    return convert


def _as_text(value: Any) -> str:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else json_text(value)


def _json_converter(clean: Converter) -> Converter:
    def convert(value: Any) -> str:
        text = json_text(value)
        return json_text(clean(value)) if "\\u0000" in text else text

    return convert


def _array_converter(clean: Converter) -> Converter:
    def convert(value: Any) -> Any:
        if not isinstance(value, list):
            raise UnfitValueError(described(value))
        return clean(value)

    return convert


def _any_converter(texts: Converter) -> Converter:
    def convert(value: Any) -> Any:
        return texts(value) if isinstance(value, str | list | Mapping) else value

    return convert


def _datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise UnfitValueError("a text that is no ISO 8601 date and time") from None
    raise UnfitValueError(described(value))


def _utc(value: Any) -> datetime:
    """Read a date and time. One without an offset is UTC."""
    parsed = _datetime(value)
    try:
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except OverflowError:
        raise UnfitValueError("a date and time out of its range") from None


def _utc_without_zone(value: Any) -> datetime:
    return _utc(value).replace(tzinfo=None)


def _date(value: Any) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise UnfitValueError("a text that is no ISO 8601 date") from None
    raise UnfitValueError(described(value))


def _time(value: Any) -> time:
    if isinstance(value, time):
        return value
    if isinstance(value, str):
        try:
            parsed = time.fromisoformat(value)
        except ValueError:
            raise UnfitValueError("a text that is no ISO 8601 time") from None
        if parsed.tzinfo is None:
            return parsed
    raise UnfitValueError(described(value) if not isinstance(value, str) else "a time with an offset")
