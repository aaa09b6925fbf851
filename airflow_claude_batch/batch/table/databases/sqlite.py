"""SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, ClassVar, Final

from airflow_claude_batch.batch.table.column import Column, Kind, Table, UniqueIndex
from airflow_claude_batch.batch.table.databases.database import Database, Values, has_class


class Sqlite(Database):
    """A connection of the driver ``sqlite3``."""

    name = "SQLite"
    types: ClassVar = {
        Kind.BOOLEAN: "boolean",
        Kind.INTEGER: "integer",
        Kind.NUMBER: "numeric",
        Kind.FLOAT: "double",
        Kind.TEXT: "text",
        Kind.DATE: "date",
        Kind.TIME: "time",
        Kind.TIMESTAMP: "timestamp",
        Kind.TIMESTAMP_TZ: "timestamp",
        Kind.JSON: "json",
    }

    def prepare(self) -> None:
        self.connection.isolation_level = None  # transactions begin where begin() says so, DDL included

    def begin(self) -> None:
        self.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        if self.connection.in_transaction:
            self.execute("COMMIT")

    def rollback(self) -> None:
        if self.connection.in_transaction:
            self.execute("ROLLBACK")

    def describe(self, name: Sequence[str]) -> Table | None:
        *schema, table = name
        found = self.query(
            'SELECT name, type, "notnull", dflt_value IS NOT NULL, pk, hidden FROM pragma_table_xinfo(?, ?)',
            (table, schema[0] if schema else "main"),
        )
        if not found:
            return None
        keys = {name: str(type_).lower() for name, type_, _, _, pk, _ in found if pk}
        # An integer that is the primary key alone numbers the rows that have none.
        numbered = keys if list(keys.values()) == ["integer"] else {}
        columns = {
            name: Column(
                name=name,
                type=type_ or "none",
                kind=self.kind_of_type(type_),
                is_nullable=not notnull,
                must_be_given=bool(notnull) and not has_default and name not in numbered,
                is_generated=hidden in (2, 3),
            )
            for name, type_, notnull, has_default, _, hidden in found
        }
        unique = [UniqueIndex(frozenset(keys), is_primary=True)] if keys else []
        return Table(self.quote_table(name), columns, (*unique, *self._unique_indexes(table, schema)))

    def _unique_indexes(self, table: str, schema: Sequence[str]) -> list[UniqueIndex]:
        at = schema[0] if schema else "main"
        found = self.query('SELECT name FROM pragma_index_list(?, ?) WHERE "unique" AND NOT partial', (table, at))
        indexes = [self.query("SELECT name FROM pragma_index_info(?, ?)", (name, at)) for (name,) in found]
        # A column without a name is an expression.
        return [UniqueIndex(frozenset(name for (name,) in each)) for each in indexes if all(name for (name,) in each)]

    def table_names(self, name: Sequence[str]) -> list[str]:
        *schema, _ = name
        master = self.quote_table([schema[0] if schema else "main", "sqlite_master"])
        return [each for (each,) in self.query(f"SELECT name FROM {master} WHERE type = 'table'")]  # noqa: S608  # quoted

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
        self._insert(table, columns, rows, "")

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> None:
        others = [self.quote(column) for column in columns if column not in key]
        action = f"UPDATE SET {', '.join(f'{each} = excluded.{each}' for each in others)}" if others else "NOTHING"
        self._insert(table, columns, rows, f" ON CONFLICT ({self.quoted(key)}) DO {action}")

    def insert_missing(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> int:
        return self._insert(table, columns, rows, f" ON CONFLICT ({self.quoted(key)}) DO NOTHING")

    def _insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values], ending: str) -> int:
        places = ", ".join("?" * len(columns))
        sql = f"INSERT INTO {table.sql} ({self.quoted(columns)}) VALUES ({places}){ending}"  # noqa: S608  # names, quoted
        return int(self.connection.executemany(sql, map(_adapted, rows)).rowcount)

    def delete_keys(self, table: Table, key: Sequence[str], keys: Sequence[Values]) -> int:
        condition = " AND ".join(f"{self.quote(column)} = ?" for column in key)
        sql = f"DELETE FROM {table.sql} WHERE {condition}"  # noqa: S608  # names, quoted
        return int(self.connection.executemany(sql, map(_adapted, keys)).rowcount)

    def is_about_values(self, error: Exception) -> bool:
        return has_class(error, "DataError", "IntegrityError", "OverflowError")

    def code(self, error: Exception) -> str:
        return f"{type(error).__name__} {getattr(error, 'sqlite_errorname', '')}".rstrip()

    def reason(self, error: Exception) -> str:
        # SQLite names tables and columns, never values.
        return str(error)

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


_INTEGERS: Final[range] = range(-(2**63), 2**63)
#: SQLite has no such types. In a column of numbers, it makes numbers of texts of digits: those have 15 digits, unless
#: they are integers of 64 bits.
_ADAPTED: Final[dict[type, Callable[[Any], Any]]] = {
    Decimal: str,
    datetime: lambda value: value.replace(tzinfo=None).isoformat(" "),
    date: date.isoformat,
    time: time.isoformat,
    int: lambda value: value if value in _INTEGERS else str(value),
}


def _adapted(values: Values) -> list[Any]:
    return [_ADAPTED[type(value)](value) if type(value) in _ADAPTED else value for value in values]
