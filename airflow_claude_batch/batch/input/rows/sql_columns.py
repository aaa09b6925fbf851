"""Check the names of a query's columns: prompts, keys and kept columns name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from airflow_claude_batch.batch.input.rows.column_names import short_name
from airflow_claude_batch.exceptions import InputError

#: What PostgreSQL calls a column without a name.
_UNNAMED: Final = ("", "?column?")


def check_columns(names: Sequence[Any], query: str) -> tuple[str, ...]:
    """Return the names of a query's columns.

    :param query: names the query in errors.
    :raises InputError: one has no name, or two have the same one.
    """
    for number, name in enumerate(names, 1):
        if name is None or name in _UNNAMED:
            raise InputError(
                f"rows: column {number} of {query} has no name.",
                "Nothing was sent.",
                "Name it in the SQL: SELECT count(*) AS tickets.",
            )
        first = names.index(name) + 1
        if first < number:
            raise InputError(
                f"rows: columns {first} and {number} of {query} have the same name, {short_name(name)!r}.",
                "Nothing was sent.",
                "Give one of them another name in the SQL: SELECT a.id, b.id AS b_id.",
            )
    return tuple(names)
