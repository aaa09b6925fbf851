"""Types of the columns of a table of rows, and the conversion between JSON values and the columns' values.

A column has the same type whatever its rows hold. A value that its column cannot hold becomes None there; who writes
the rows notices, because the value does not come back, and keeps it as JSON in another column.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

Convert = Callable[[Any], Any]
Kind = Literal["boolean", "integer", "number", "text", "date", "time", "timestamp", "timestamp_tz", "json"]

_LARGEST_INTEGER: Final = 2**63 - 1
_encoder = msgspec.json.Encoder()
_exact = decimal.Context(prec=100, traps=[decimal.InvalidOperation, decimal.Inexact])


class ScalarType(msgspec.Struct, frozen=True, tag="scalar"):
    """One value: a 64-bit integer, a double, a text, a date … A ``json`` value of any shape is JSON text."""

    kind: Kind


class DecimalType(msgspec.Struct, frozen=True, tag="decimal"):
    """A decimal with a fixed number of digits. ``scale`` of them are behind the point. In JSON it is a text."""

    precision: int
    scale: int


class ListType(msgspec.Struct, frozen=True, tag="list"):
    """A list of values of one type."""

    items: ColumnType


class StructField(msgspec.Struct, frozen=True):
    """A named value of a struct.

    :ivar absent: null in the column means that the object does not have the property, rather than null in it.
    """

    name: str
    type: ColumnType
    absent: bool = False


class StructType(msgspec.Struct, frozen=True, tag="struct"):
    """An object with listed properties."""

    fields: tuple[StructField, ...]


ColumnType = ScalarType | DecimalType | ListType | StructType

JSON: Final = ScalarType("json")


def has_usable_names(names: list[str]) -> bool:
    """Tell whether a struct may have these names everywhere: none is empty, and all differ in more than their case."""
    return bool(names) and all(names) and len({name.casefold() for name in names}) == len(names)


def to_column(type_: ColumnType) -> Convert:
    """Return the function that makes the column's value of a JSON value, None if the column cannot hold it."""
    if isinstance(type_, ScalarType):
        return _TO_SCALAR[type_.kind]
    if isinstance(type_, DecimalType):
        return _to_decimal(type_)
    if isinstance(type_, ListType):
        item = to_column(type_.items)
        return lambda value: [item(each) for each in value] if isinstance(value, list) else None
    fields = [(field.name, to_column(field.type)) for field in type_.fields]
    return lambda value: {name: of(value.get(name)) for name, of in fields} if isinstance(value, dict) else None


def from_column(type_: ColumnType) -> Convert:
    """Return the function that makes the JSON value of a column's value."""
    if isinstance(type_, ScalarType):
        convert = _FROM_SCALAR.get(type_.kind, _unchanged)
    elif isinstance(type_, DecimalType):
        convert = "{:f}".format
    elif isinstance(type_, ListType):
        item = from_column(type_.items)
        convert = lambda value: [item(each) for each in value]  # noqa: E731  # one of several, chosen here
    else:
        convert = _from_struct(type_)
    return convert if convert is _unchanged else lambda value: None if value is None else convert(value)


def _to_decimal(type_: DecimalType) -> Convert:
    """Return the function that reads the digits of a text, or an integer. None if they do not fit exactly."""
    quantum, most = Decimal((0, (1,), -type_.scale)), 10 ** (type_.precision - type_.scale)

    def convert(value: Any) -> Decimal | None:
        if isinstance(value, str | int):
            with contextlib.suppress(decimal.DecimalException):
                number = _exact.quantize(Decimal(value), quantum)
                return number if number.is_finite() and -most < number < most else None
        return None

    return convert


def _from_struct(type_: StructType) -> Convert:
    fields = [(field.name, from_column(field.type), field.absent) for field in type_.fields]

    def convert(value: Any) -> dict[str, Any]:
        return {
            name: None if (inner := value[name]) is None else of(inner)
            for name, of, absent in fields
            if not absent or value[name] is not None
        }

    return convert


def _unchanged(value: Any) -> Any:
    return value


def _integer(value: Any) -> int | None:
    if type(value) is int:
        return value if -_LARGEST_INTEGER - 1 <= value <= _LARGEST_INTEGER else None
    if type(value) is float and value.is_integer():  # JSON's 7.0 is an integer
        return _integer(int(value))
    return None


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value
    with contextlib.suppress(OverflowError):
        return float(value) if type(value) is int else None
    return None


def _iso(read: Callable[[str], Any], *, aware: bool = False) -> Convert:
    """Return the function that reads a date or time in the form that Python writes, with or without an offset."""

    def convert(value: Any) -> Any:
        with contextlib.suppress(ValueError, OverflowError, TypeError):
            found = read(value)
            if aware:
                return found.astimezone(datetime.UTC) if found.tzinfo else None
            return None if getattr(found, "tzinfo", None) else found
        return None

    return convert


_TO_SCALAR: Final[dict[str, Convert]] = {
    "boolean": lambda value: value if isinstance(value, bool) else None,
    "integer": _integer,
    "number": _number,
    "text": lambda value: value if isinstance(value, str) else None,
    "date": _iso(datetime.date.fromisoformat),
    "time": _iso(datetime.time.fromisoformat),
    "timestamp": _iso(datetime.datetime.fromisoformat),
    "timestamp_tz": _iso(datetime.datetime.fromisoformat, aware=True),
    "json": lambda value: None if value is None else _encoder.encode(value).decode(),
}
_FROM_SCALAR: Final[dict[str, Convert]] = {
    **dict.fromkeys(("date", "time", "timestamp", "timestamp_tz"), lambda value: value.isoformat()),
    "json": msgspec.json.decode,
}
