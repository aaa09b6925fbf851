"""Takes columns out of source rows: those of the key, and those that the landed rows keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from airflow_claude_batch.batch.input.rows.column_names import find_similar, list_columns, short_name
from airflow_claude_batch.batch.input.rows.column_types import ColumnTypes
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.values import ValueFormError, json_of
from airflow_claude_batch.exceptions import InputError

#: Stands for all columns of the source.
ALL_COLUMNS: Final = "*"
#: Integers up to here are JSON already. Larger ones may be refused.
_USUAL_INTEGER: Final = 2**63
_NO_KEY: Final = (
    "Leave such rows out in the query or the frame. Or leave key out: then the position of a row is its key."
)
_CLEAN_TEXT: Final = "Clean the text in the query, or with .encode(errors='replace').decode()."


def choose_columns(argument: str, given: str | Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that ``key`` or ``keep`` names: one, a list, or ``"*"`` for all.

    :param argument: its name, for the error.
    :raises InputError: the rows have no such column; names the columns that there are.
    """
    if given == ALL_COLUMNS and given not in columns:
        return tuple(columns)
    names = (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    for name in names:
        if name not in columns:
            similar = find_similar(str(name), columns)
            hint = "" if similar is None else f"Did you mean {short_name(similar)!r}? "
            raise InputError(
                f"{argument}: {short_name(str(name))!r} is no column of the rows.",
                "Nothing was sent.",
                f"{hint}{list_columns(columns)}",
            )
    return names


def bind_key(columns: Sequence[str]) -> Callable[[SourceRow], Any]:
    """Return the function that makes the key of a row: the value of one column, or a mapping of several.

    It raises KeyError for a row that lacks a column, and ValueFormError for a column without a value.
    """

    def key_of(row: SourceRow) -> Any:
        values = json_values(row, columns)
        for column, value in values.items():
            if value is None:
                raise ValueFormError(column, "of the key has no value", _NO_KEY)
        return values

    only = columns[0]

    def value_of(row: SourceRow) -> Any:
        value = row[only]
        if type(value) is str or (type(value) is int and -_USUAL_INTEGER < value < _USUAL_INTEGER):
            return value
        return key_of(row)[only]

    return value_of if len(columns) == 1 else key_of


class KeptEncoder:
    """Encodes the kept columns of rows, and finds their types.

    :ivar types: of the rows until now.
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = tuple(columns)
        self.types = ColumnTypes(self._columns)

    def encode(self, row: SourceRow) -> bytes:
        """Return the kept columns of a row as a JSON object, in their order.

        :raises KeyError: the row lacks a column.
        :raises ValueFormError: a value has no form as JSON.
        """
        values = json_values(row, self._columns)
        self.types.add(row)
        try:
            return msgspec.json.encode(values)
        except UnicodeEncodeError:
            raise not_unicode(next(name for name, value in values.items() if not is_encodable(name, value))) from None


def json_values(row: SourceRow, columns: Sequence[str]) -> dict[str, Any]:
    """Return the values of some columns as JSON.

    :raises KeyError: the row lacks a column.
    :raises ValueFormError: a value has no form as JSON.
    """
    values = {}
    for column in columns:
        value = row[column]
        try:
            values[column] = value if type(value) is str else json_of(value)
        except ValueFormError as error:
            error.column = column
            raise
    return values


def not_unicode(column: str) -> ValueFormError:
    """Build the error about a text that no request can have."""
    return ValueFormError(column, "holds a lone surrogate, which is not UTF-8", _CLEAN_TEXT)


def is_encodable(*values: Any) -> bool:
    """Return False if a text in the values has a lone surrogate."""
    try:
        msgspec.json.encode(values)
    except UnicodeEncodeError:
        return False
    return True
