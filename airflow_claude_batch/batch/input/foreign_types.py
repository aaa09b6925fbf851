"""Recognises what others put into lists: data frames, arrays, rows, models. Imports none of their libraries.

A type is recognised by what it can do, and by the package that defines it. Its remedy is a call, by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from numbers import Number
from typing import Any, Final, NamedTuple
from uuid import UUID

from airflow_claude_batch.batch.quantity import with_article

#: How the rows of a data frame are read as mappings. The first method that the type has is named.
_ROWS_AS_MAPPINGS: Final = (
    ("mappings", "result.mappings()"),  # SQLAlchemy
    ("iter_rows", "frame.iter_rows(named=True)"),  # polars
    ("toLocalIterator", "map(lambda row: row.asDict(), frame.toLocalIterator())"),  # pyspark
    ("collect", "frame.collect().iter_rows(named=True)"),  # polars, lazy
    ("to_pylist", "table.to_pylist()"),  # pyarrow
    ("compute", 'frame.compute().to_dict("records")'),  # dask
    ("to_dict", 'frame.to_dict("records")'),  # pandas
    ("to_pandas", 'frame.to_pandas().to_dict("records")'),  # ibis, cuDF
    ("fetchall", 'relation.to_df().to_dict("records")'),  # duckdb
)
_MISSING: Final = frozenset({"NAType", "NaTType"})


class Foreign(NamedTuple):
    """What a value is, with its article, and the call that makes JSON of it."""

    name: str
    remedy: str


def full_type_name(value: Any) -> str:
    """Name the type of a value with its package: ``pandas.DataFrame``, ``list``."""
    name = "None" if value is None else type(value).__name__
    return name if (package := _package(type(value))) == "builtins" else f"{package}.{name}"


def rows_of_table(value: Any) -> str | None:
    """Return the expression that gives the rows of a data frame as mappings, None if it is no data frame.

    Iterating a data frame gives the names of its columns, or the columns themselves.
    """
    kind = type(value)
    if isinstance(value, type) or not (hasattr(kind, "columns") or hasattr(kind, "column_names")):
        return None
    return next((rows for method, rows in _ROWS_AS_MAPPINGS if hasattr(kind, method)), None)


def is_record(value: Any) -> bool:
    """Return True for a row of a database, or a named tuple: its values stand under names."""
    kind = type(value)
    if isinstance(value, Mapping | str | bytes | type):
        return False
    return hasattr(kind, "_fields") or hasattr(kind, "_mapping") or (kind.__name__ in ("Row", "Record", "DictRow"))


def is_missing(value: Any) -> bool:
    """Return True for what stands for a missing value in a data frame: NaN, NA and NaT."""
    return type(value).__name__ in _MISSING or (isinstance(value, float) and value != value)  # NaN


def is_task_output(value: Any) -> bool:
    """Return True for the output of a task that Airflow has not resolved yet. (A path has a ``resolve`` as well.)"""
    return hasattr(type(value), "iter_references") and hasattr(type(value), "resolve")


def is_undefined(value: Any) -> bool:
    """Return True for what a template of Jinja gives for a name that does not exist."""
    return any(kind.__name__ == "Undefined" and _package(kind) == "jinja2" for kind in type(value).__mro__)


def is_array(value: Any) -> bool:
    """Return True for an array or a column: of numpy, pandas, polars, pyarrow or the like."""
    kind = type(value)
    return hasattr(kind, "__array__") or hasattr(kind, "__arrow_c_array__") or hasattr(kind, "to_pylist")


def recognise(value: Any) -> Foreign | None:
    """Recognise a value that JSON does not have, and name the call that makes JSON of it. None if it is not known."""
    for found in (_scalar, _model, _collection):
        if foreign := found(value):
            return foreign
    return None


def _scalar(value: Any) -> Foreign | None:
    if is_missing(value):
        return Foreign("a missing value", "Leave it out: .dropna() in pandas, .drop_nulls() in polars.")
    if isinstance(value, os.PathLike):
        return Foreign("a path", "Give the text of the file: path.read_text().")
    if isinstance(value, bytes | bytearray | memoryview):
        return Foreign("bytes", "Decode a text with .decode(), and write other data as base64.")
    if isinstance(value, Enum):
        return Foreign("a member of an enum", "Give its .value.")
    if isinstance(value, date | time):
        return Foreign("a date or time", "Write it as text with .isoformat().")
    if isinstance(value, timedelta | UUID):
        return Foreign(with_article(type(value).__name__), "Write it as text with str().")
    if isinstance(value, Decimal):
        return Foreign("a Decimal", "Write it as text with str(), or convert it with int() or float().")
    if _package(type(value)) == "numpy" and not is_many(value):
        return Foreign("a value of numpy", "Convert it with .item().")
    if hasattr(type(value), "as_py"):
        return Foreign("a value of pyarrow", "Convert it with .as_py().")
    if isinstance(value, Number) and not isinstance(value, int | float):
        return Foreign("a number that JSON does not have", "Convert it with int() or float().")
    return None


def _model(value: Any) -> Foreign | None:
    kind = type(value)
    if isinstance(value, type):
        return Foreign("a class", "Give a value.")
    if hasattr(kind, "model_dump"):
        return Foreign("an object of a pydantic model", "Give a mapping: .model_dump(mode='json', exclude_none=True).")
    if hasattr(kind, "__dataclass_fields__"):
        return Foreign("an object of a dataclass", "Give a mapping: dataclasses.asdict(…).")
    if hasattr(kind, "__attrs_attrs__"):
        return Foreign("an object of an attrs class", "Give a mapping: attrs.asdict(…).")
    if hasattr(kind, "__struct_fields__"):
        return Foreign("an object of a msgspec Struct", "Give a mapping: msgspec.to_builtins(…).")
    return None


def _collection(value: Any) -> Foreign | None:
    if rows := rows_of_table(value):
        return Foreign("a data frame", f"Give its rows: {rows}.")
    if is_many(value):
        return Foreign("an array", f"Convert it with .{_list_method(value)}().")
    if isinstance(value, set | frozenset):
        return Foreign("a set", "Give a list, in an order that stays: sorted(…).")
    if isinstance(value, Mapping):
        return Foreign("a mapping that is no dict", "Convert it with dict(…).")
    if is_task_output(value):
        return Foreign("a task's output that was not resolved", "Let a task make the whole list, and give its output.")
    if callable(value):
        return Foreign("a function", "Call it, or make a task of it with @task.claude_batch.")
    if isinstance(value, Iterable) and not isinstance(value, list | tuple | str):
        return Foreign("an iterable", "Convert it with list(…).")
    return None


def is_many(value: Any) -> bool:
    """Return True for an array that holds several values."""
    return is_array(value) and getattr(value, "ndim", 1) != 0


def _list_method(value: Any) -> str:
    return next((name for name in ("tolist", "to_list", "to_pylist") if hasattr(type(value), name)), "tolist")


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
