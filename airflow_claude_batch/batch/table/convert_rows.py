"""Make values of columns of landed rows, and name the row and the column that do not fit."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.table.column import Column, Table
from airflow_claude_batch.batch.table.convert import Converter, UnfitValueError, converter_for
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.batch.table.seen_keys import SeenKeys
from airflow_claude_batch.exceptions import TableError

log = logging.getLogger(__name__)


class RowConverter:
    """Converts rows, one after the other, to values in the order of the plan's columns."""

    def __init__(self, plan: WritePlan, table: Table, *, replaces_nul: bool) -> None:
        self._plan = plan
        self._replaces_nul = replaces_nul
        self._table = table
        self._columns = [
            (
                path.getter(),
                self._converter(table.columns[name]),
                table.columns[name].is_nullable and name not in plan.key,
            )
            for name, path in plan.paths.items()
        ]
        self._constants = [self._constant(column, value) for column, value in plan.constants.items()]
        self._key = [(plan.columns.index(column), table.columns[column].folded) for column in plan.key]
        self._seen = SeenKeys()
        self._row: Any = None
        self._replaced: dict[str, int] = {}
        self._first_replaced: Any = None

    def convert(self, row: Any) -> list[Any]:
        """Return the values of a row.

        :raises UnfitRowError: a column cannot take its value, or the key came before.
        """
        self._row = row
        values: list[Any] = []
        for get, convert, is_nullable in self._columns:
            value = get(row)
            if value is not None:
                try:
                    value = convert(value)
                except UnfitValueError as error:
                    raise self._unfit(self._plan.columns[len(values)], str(error)) from None
            elif not is_nullable:
                raise self._no_value(self._plan.columns[len(values)])
            values.append(value)
        values += self._constants
        if self._key and not self._seen.add(self._key_text(values)):
            raise self._same_key()
        return values

    def log_replaced(self) -> None:
        """Log in how many values characters were replaced."""
        if self._replaced:
            log.warning(
                "Replaced NUL characters, which the database refuses, by U+FFFD in %s: %s. The first is in the row "
                "with key %.60r. The results file has the answers as they came.",
                quantity(sum(self._replaced.values()), "value"),
                ", ".join(f"{count:,} of column {column}" for column, count in self._replaced.items()),
                self._first_replaced,
            )

    def _converter(self, column: Column) -> Converter:
        count = partial(self._count_replaced, column.name)
        return converter_for(column, on_replaced=count if self._replaces_nul else None)

    def _count_replaced(self, column: str) -> None:
        if not self._replaced:
            self._first_replaced = getattr(self._row, "key", None)
        self._replaced[column] = self._replaced.get(column, 0) + 1

    def _constant(self, name: str, value: Any) -> Any:
        try:
            return None if value is None else self._converter(self._table.columns[name])(value)
        except UnfitValueError as error:
            raise TableError(
                f"constants[{name!r}] is {error}, but the column is of type {self._table.columns[name].type}.",
                "Nothing was written. The answers are safe in the results file.",
                "Correct the constant, or the column's type.",
            ) from None

    def _key_text(self, values: list[Any]) -> str:
        if len(self._key) == 1:
            ((place, folded),) = self._key
            text = str(values[place])
            return folded(text) if folded else text
        key = [(values[place], folded) for place, folded in self._key]
        return repr([folded(each) if folded and isinstance(each, str) else each for each, folded in key])

    def too_large(self) -> UnfitRowError:
        """Return the error for the last row, which is larger than the server takes."""
        return UnfitRowError(
            f"{_named(self._row)} is larger than the database's max_allowed_packet.",
            "Raise max_allowed_packet on the server, or leave out the column with the long text.",
        )

    def _unfit(self, column: str, what: str) -> UnfitRowError:
        return UnfitRowError(
            f"{_named(self._row)} has {what} for the column {column} of type {self._table.columns[column].type}.",
            f"Correct columns[{column!r}], or the type of the column.",
        )

    def _no_value(self, column: str) -> UnfitRowError:
        if column in self._plan.key:
            remedy = "A key tells rows apart, so each row needs one. Choose other columns as key."
        elif self._row.status == "succeeded":
            remedy = "Let the column take NULL, or choose another path."
        else:
            remedy = f"Its status is {self._row.status}. Set failed_rows='skip', or let the column take NULL."
        return UnfitRowError(f"{_named(self._row)} has no value for the column {column}, which takes no NULL.", remedy)

    def _same_key(self) -> UnfitRowError:
        names = ", ".join(self._plan.key)
        return UnfitRowError(
            f"{_named(self._row)} has the same {names} as a row before it.",
            "The table can hold one of them only. Choose columns as key that tell all rows apart, such as "
            "key=['id', 'lang'], or load the manifests one by one.",
        )


class UnfitRowError(Exception):
    """A row that the table cannot take: what is wrong, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def named(key: Any) -> str:
    """Name a row in a message.

    >>> named(17)
    'the row with key 17'
    """
    return f"the row with key {key!r:.40}"


def _named(row: Any) -> str:
    return named(row.key)
