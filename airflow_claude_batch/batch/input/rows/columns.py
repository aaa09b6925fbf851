"""Check the columns of a source: each has a name of its own, and all rows and files have the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.rows.column_names import list_columns
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import NOTHING_SENT, InputError

#: The longest path, and the longest name of a column, on the first line of an error.
_SHOWN_PATH: Final = 60
_SHOWN_NAME: Final = 30


def check_names(names: Iterable[Any], place: str) -> tuple[str, ...]:
    """Return the names of columns.

    :param place: where they stand, for errors, such as ``rows[3]``.
    :raises InputError: there is none, one is no text or empty, or two are the same.
    """
    columns = tuple(names)
    problem = _problem(columns)
    if problem:
        raise InputError(
            f"{place} {problem}.",
            NOTHING_SENT,
            "Give each column a name of its own: prompts and keys name columns by it.",
        )
    return columns


def _problem(columns: tuple[Any, ...]) -> str | None:
    if not columns:
        return "has no columns"
    for number, name in enumerate(columns):
        if not isinstance(name, str):
            return f"has a column whose name is no text: {short_repr(name, _SHOWN_NAME)}"
        if not name:
            return (
                f"has a column without a name, after column {number}" if number else "has no name for its first column"
            )
    twice = next((name for name, count in Counter(columns).items() if count > 1), None)
    return None if twice is None else f"has two columns of the name {short_repr(twice, _SHOWN_NAME)}"


def in_order(row: SourceRow, columns: tuple[str, ...], place: str) -> SourceRow:
    """Return a row with its columns in the order of the first row.

    :param place: where the row stands, for the error.
    :raises InputError: it has other columns.
    """
    check_same(row.keys(), columns, place, "the first row")
    return {name: row[name] for name in columns}


def check_same(found: Collection[Any], columns: tuple[str, ...], place: str, first: str) -> None:
    """Check that a row or a file has the columns of the first one, in any order.

    :param place: where they were found, for the error.
    :param first: what has the expected columns, for the error.
    :raises InputError: a column is missing, or there is another one.
    """
    missing = [name for name in columns if name not in found]
    others = [name for name in found if name not in columns]
    if missing:
        problem = f"lacks the column {short_repr(missing[0], _SHOWN_NAME)}"
    elif others:
        problem = f"has a column more: {short_repr(others[0], _SHOWN_NAME)}"
    else:
        return
    raise InputError(
        f"{place} {problem}.",
        f"{NOTHING_SENT} All rows must have the columns of {first}. {list_columns(columns)}",
        "Write every column into each row, with an empty value (None, null) where it is missing.",
    )


def shown_path(uri: str) -> str:
    """Return a path that fits on the first line of an error: the end of a long one."""
    return uri if len(uri) <= _SHOWN_PATH else f"…{uri[1 - _SHOWN_PATH :]}"
