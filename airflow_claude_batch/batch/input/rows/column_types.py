"""Finds the type of each column of source rows, as one word.

=================  =====================================================  =======================
word               values                                                 in JSON (``json_of``)
=================  =====================================================  =======================
``boolean``        booleans                                               true, false
``integer``        integers of 64 bits                                    number
``number``         floats, or floats and integers                         number
``decimal``        decimals, longer integers, or those and integers       digits as text, or number
``date``           dates                                                  ISO 8601 text
``time``           times of day without an offset                         ISO 8601 text
``timestamp``      dates with a time                                      ISO 8601 text
``timestamp_tz``   dates with a time and an offset                        ISO 8601 text
``text``           texts, UUIDs, durations and the like; no value at all  text
``json``           lists, mappings, or values of several types            any
=================  =====================================================  =======================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from airflow_claude_batch.batch.input.rows.python_values import python_value

#: Types whose values all have the same word.
_WORDS: Final[dict[type, str]] = {
    str: "text",
    bool: "boolean",
    date: "date",
    timedelta: "text",
    UUID: "text",
    list: "json",
    tuple: "json",
    dict: "json",
}
#: Types of Python whose values have different words.
_OF_PYTHON: Final = frozenset({int, Decimal, datetime, time})
_SMALLEST: Final = -(2**63)
_LARGEST: Final = 2**63 - 1
#: The word of a column whose values have exactly these words.
_TOGETHER: Final = {
    frozenset({"integer", "number"}): "number",
    frozenset({"integer", "decimal"}): "decimal",
}


def column_type(value: Any) -> str | None:
    """Return the word for the type of one value. None for a missing value.

    >>> column_type(7), column_type(Decimal("7.00")), column_type(float("nan"))
    ('integer', 'decimal', None)

    :raises ValueFormError: its type is refused.
    """
    kind = type(value)
    if word := _WORDS.get(kind):
        return word
    return _word(value if kind in _OF_PYTHON else python_value(value))


def _word(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if _SMALLEST <= value <= _LARGEST else "decimal"
    if isinstance(value, float):
        return "number"
    if isinstance(value, Decimal):
        return None if value.is_nan() else "decimal"
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamp_tz"
    if isinstance(value, date):
        return "date"
    if isinstance(value, time):
        return "time" if value.tzinfo is None else "text"
    return _WORDS.get(type(value), "text")


class ColumnTypes:
    """Finds one word for each column over all rows.

    >>> types = ColumnTypes(["id", "price"])
    >>> types.add({"id": 1, "price": 7})
    >>> types.add({"id": 2, "price": 7.5})
    >>> types.words()
    {'id': 'integer', 'price': 'number'}
    """

    def __init__(self, columns: Sequence[str]) -> None:
        self._found: dict[str, set[str]] = {column: set() for column in columns}
        # Types of values that tell nothing new about their column.
        self._known: dict[str, set[type]] = {column: {type(None)} for column in columns}

    def add(self, row: Mapping[str, Any]) -> None:
        """Look at the values of a row.

        :raises KeyError: the row lacks a column.
        :raises ValueFormError: the type of a value is refused. Its ``column`` is not filled in.
        """
        for column, known in self._known.items():
            value = row[column]
            kind = type(value)
            if kind in known and (kind is not int or _SMALLEST <= value <= _LARGEST):
                continue
            self._look(column, value)

    def words(self) -> dict[str, str]:
        """Return the word of each column, in their order."""
        return {column: _together(words) for column, words in self._found.items()}

    def _look(self, column: str, value: Any) -> None:
        word = column_type(value)
        if word is None:
            return
        self._found[column].add(word)
        if type(value) in _WORDS or type(value) in (float, Decimal) or (type(value) is int and word == "integer"):
            self._known[column].add(type(value))


def _together(words: set[str]) -> str:
    if len(words) < 2:
        return next(iter(words), "text")
    return _TOGETHER.get(frozenset(words), "json")
