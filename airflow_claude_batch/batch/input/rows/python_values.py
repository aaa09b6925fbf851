"""Turns values of other libraries into Python's own: those of numpy, pandas, polars, pyarrow and of drivers.

A type is recognised by its name and its package, so none of these libraries is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from airflow_claude_batch.batch.input.foreign_types import is_array, is_missing
from airflow_claude_batch.batch.input.rows.durations import iso_duration
from airflow_claude_batch.batch.quantity import with_article

_BYTES: Final = (
    "Cast it to text in the query, or leave the column out. A document or an image goes in with files=, by its URI."
)
_CAST: Final = "Cast it to text in the query, or convert it before the rows are given."


class ValueFormError(Exception):
    """A value of a source row has no form as text or JSON.

    :param column: its column. None until the code that reads the row fills it in.
    :param problem: what the value is, such as ``holds bytes``. It never quotes the value.
    :param remedy: what to do, in sentences.
    """

    def __init__(self, column: str | None, problem: str, remedy: str) -> None:
        super().__init__(column, problem, remedy)
        self.column = column
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        what = "a column" if self.column is None else f"column {self.column!r}"
        return f"{what} {self.problem}"


def python_value(value: Any) -> Any:
    """Return a value as one of Python's own types. None stands for every missing value: NaN, NaT and NA.

    Subclasses of ``date``, ``time``, ``timedelta``, ``Decimal`` and ``UUID`` stay as they are, and so does what lists
    and mappings hold.

    :raises ValueFormError: the value has no form as text: bytes, or a type that is not known.
    """
    if isinstance(value, Enum):
        return python_value(value.value)
    if value is None or is_missing(value):
        return None
    if isinstance(value, bytes | bytearray | memoryview):
        raise ValueFormError(None, "holds bytes", _BYTES)
    if isinstance(value, str):
        return str.__str__(value)  # str(…) calls a method that a subclass may have changed
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, date | time | timedelta | Decimal | UUID):
        return value
    return _of_collection(value)


def _of_collection(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple):
        return list(value)
    if hasattr(type(value), "as_py"):  # a scalar of pyarrow
        return _of_other(value, value.as_py())
    if type(value).__module__ == "ipaddress":  # psycopg reads inet and cidr as these
        return str(value)
    if is_array(value):
        return _of_array(value)
    raise _unknown(value)


def _of_array(value: Any) -> Any:
    """Convert an array, a column, or a scalar of numpy, which is an array without dimensions."""
    kind = str(getattr(getattr(value, "dtype", None), "kind", ""))
    if getattr(value, "ndim", 1) != 0:
        if kind in ("M", "m"):  # tolist gives integers for those that count nanoseconds
            return list(value)
        method = next((name for name in ("tolist", "to_list", "to_pylist") if hasattr(type(value), name)), None)
        return list(value) if method is None else getattr(value, method)()
    if kind in ("M", "m"):
        return _of_numpy_time(value)
    return _of_other(value, value.item())


def _of_numpy_time(value: Any) -> Any:
    """Convert a ``datetime64`` or a ``timedelta64``: as text if Python's own types cannot hold it.

    Those end at microseconds, and at the year 9999. numpy gives an integer for what is beyond.
    """
    if str(value) == "NaT":
        return None
    item = value.item()
    if not isinstance(item, int):
        return item
    if value.dtype.kind == "M":
        exact = value.astype("M8[us]")
        item = exact.item()
        return item if isinstance(item, date) and exact == value else str(value).rstrip("0")
    if value.dtype.str.endswith(("[Y]", "[M]")):  # they have no fixed length
        raise _unknown(value)
    return iso_duration(value.astype("m8[ns]").item())


def _of_other(value: Any, converted: Any) -> Any:
    """Return what a library made of its value, as one of Python's types.

    :raises ValueFormError: it made none of them.
    """
    if type(converted) is type(value) or isinstance(converted, complex):
        raise _unknown(value)
    return python_value(converted)


def _unknown(value: Any) -> ValueFormError:
    return ValueFormError(None, f"holds {with_article(type(value).__name__)}", _CAST)
