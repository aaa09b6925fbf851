"""PostgreSQL, by psycopg 2 or 3.

Rows are copied into a temporary table and inserted from there. That is several times as fast as statements with values.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from types import NoneType
from typing import Any, ClassVar, Final

from airflow_claude_batch.batch.table.column import (
    Column,
    Kind,
    Table,
    UniqueIndex,
    integer_range,
    kind_of_type,
    length_of_type,
)
from airflow_claude_batch.batch.table.convert import json_text
from airflow_claude_batch.batch.table.databases.database import Database, Values, has_class

_COLUMNS: Final = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       CASE t.typbasetype WHEN 0 THEN format_type(t.oid, a.atttypmod) ELSE format_type(t.typbasetype, t.typtypmod) END,
       a.attnotnull, a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a'
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_UNIQUE: Final = """
SELECT i.indisprimary,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey[0:i.indnkeyatts - 1]) AS k(number)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number)
FROM pg_index i
WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL"""
#: Classes of SQLSTATE that are about values, and those that end connections.
_VALUES: Final = ("21", "22", "23")
_LOST: Final = ("08", "57P")
_STAGE: Final = "claude_batch_rows"


class Postgres(Database):
    """A connection of psycopg2 or psycopg."""

    name = "PostgreSQL"
    refuses_nul = True
    types: ClassVar = {
        Kind.BOOLEAN: "boolean",
        Kind.INTEGER: "bigint",
        Kind.NUMBER: "numeric",
        Kind.FLOAT: "double precision",
        Kind.TEXT: "text",
        Kind.DATE: "date",
        Kind.TIME: "time",
        Kind.TIMESTAMP: "timestamp",
        Kind.TIMESTAMP_TZ: "timestamp with time zone",
        Kind.JSON: "jsonb",
    }

    def prepare(self) -> None:
        self.rollback()  # a hook may have begun a transaction, in which autocommit cannot be switched off
        self.connection.autocommit = False

    def describe(self, name: Sequence[str]) -> Table | None:
        sql = self.quote_table(name)
        found = self.query(_COLUMNS, (sql,))
        if not found:
            self.rollback()
            return None
        unique = tuple(
            UniqueIndex(frozenset(columns), is_primary) for is_primary, columns in self.query(_UNIQUE, (sql,))
        )
        self.rollback()
        return Table(sql, {row[0]: _column(row) for row in found}, unique)

    def table_names(self, name: Sequence[str]) -> list[str]:
        *schema, _ = name
        sql = (
            "SELECT schemaname, tablename FROM pg_tables"
            " WHERE schemaname = COALESCE(%s, schemaname) AND schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        found = self.query(sql, (schema[-1] if schema else None,))
        self.rollback()
        return [table if schema or at == "public" else f"{at}.{table}" for at, table in found]

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
        self._copy(f"{table.sql} ({self.quoted(columns)})", rows)

    def upsert(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> None:
        others = [self.quote(column) for column in columns if column not in key]
        action = f"UPDATE SET {', '.join(f'{each} = EXCLUDED.{each}' for each in others)}" if others else "NOTHING"
        self._insert_staged(table, columns, key, rows, action)

    def insert_missing(self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values]) -> int:
        return self._insert_staged(table, columns, key, rows, "NOTHING")

    def _insert_staged(
        self, table: Table, columns: Sequence[str], key: Sequence[str], rows: Sequence[Values], action: str
    ) -> int:
        names = self.quoted(columns)
        with self._stage(table, columns, rows) as stage:
            return self.execute(
                f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {stage}"  # noqa: S608  # names, quoted
                f" ON CONFLICT ({self.quoted(key)}) DO {action}"
            )

    def delete_keys(self, table: Table, key: Sequence[str], keys: Sequence[Values]) -> int:
        same = " AND ".join(f"t.{self.quote(column)} = s.{self.quote(column)}" for column in key)
        with self._stage(table, key, keys) as stage:
            return self.execute(f"DELETE FROM {table.sql} t USING {stage} s WHERE {same}")  # noqa: S608  # names, quoted

    @contextmanager
    def _stage(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> Iterator[str]:
        """Copy rows into a temporary table with the columns of the table. Yield its name."""
        stage = f"pg_temp.{_STAGE}"
        types = ", ".join(f"{self.quote(column)} {table.columns[column].type}" for column in columns)
        self.execute(f"CREATE TEMPORARY TABLE {_STAGE} ({types}) ON COMMIT DROP")
        self._copy(stage, rows)
        yield stage
        self.execute(f"DROP TABLE {stage}")

    def _copy(self, into: str, rows: Sequence[Values]) -> None:
        sql = f"COPY {into} FROM STDIN WITH (ENCODING 'UTF8')"
        data = "".join(map(_copy_line, rows)).encode()
        with closing(self.connection.cursor()) as cursor:
            if hasattr(cursor, "copy_expert"):
                cursor.copy_expert(sql, io.BytesIO(data))
            else:
                with cursor.copy(sql) as copy:
                    copy.write(data)

    def is_lost(self, error: Exception) -> bool:
        return bool(self.connection.closed) or _sqlstate(error).startswith(_LOST)

    def is_about_values(self, error: Exception) -> bool:
        state = _sqlstate(error)
        return state.startswith(_VALUES) if state else has_class(error, "DataError", "IntegrityError")

    def code(self, error: Exception) -> str:
        return f"{type(error).__name__} {_sqlstate(error)}".rstrip()

    def reason(self, error: Exception) -> str:
        diag: Any = getattr(error, "diag", None)
        if self.is_about_values(error):  # its message quotes the value
            names = {"column": getattr(diag, "column_name", None), "constraint": getattr(diag, "constraint_name", None)}
            return ", ".join(f"{what} {name}" for what, name in names.items() if name)
        return str(getattr(diag, "message_primary", None) or "")

    def quote(self, name: str) -> str:
        return '"' + name.replace('"', '""') + '"'


def _sqlstate(error: Exception) -> str:
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None) or ""


def _column(row: tuple[Any, ...]) -> Column:
    name, type_, base, not_null, has_default, is_generated = row
    return Column(
        name=name,
        type=type_,
        kind=kind_of_type(base),
        is_nullable=not not_null,
        must_be_given=not_null and not has_default,
        is_generated=is_generated,
        max_length=length_of_type(base),
        integers=integer_range(base),
    )


def _copy_line(values: Values) -> str:
    return "\t".join([_COPIED[type(value)](value) for value in values]) + "\n"


def _copied_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _array(values: list[Any]) -> str:
    """Return a list as the text of a PostgreSQL array."""
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _array(value)
    text = value if isinstance(value, str) else json_text(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


#: How COPY reads each type of value.
_COPIED: Final[dict[type, Callable[[Any], str]]] = {
    NoneType: lambda value: "\\N",
    bool: lambda value: "t" if value else "f",
    str: _copied_text,
    list: lambda value: _copied_text(_array(value)),
    **dict.fromkeys((int, float, Decimal, datetime, date, time), str),
}
