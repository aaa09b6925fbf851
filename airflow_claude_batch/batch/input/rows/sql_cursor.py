"""Open a cursor that does not load the whole result: each driver has its own kind.

The driver is known by the module of the connection's class. It is imported already, because it made the connection.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from airflow_claude_batch.batch.input.rows.sql_errors import several_statements_error

_PSYCOPG: Final = frozenset({"psycopg2", "psycopg"})
_MYSQL: Final = frozenset({"MySQLdb", "pymysql"})
_CURSOR_NAME: Final = "airflow_claude_batch_rows"
#: MySQL ends a query that is read slowly after 60 s. MySQL's driver for Java waits as long as this when it streams.
_MYSQL_WRITE_SECONDS: Final = 600


class StreamingCursor:
    """A connection, and a cursor on it that reads a few rows at a time.

    :param connection: a DBAPI connection, or SQLAlchemy's wrapper of one. It is closed with the cursor.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        raw = getattr(connection, "driver_connection", None) or connection  # SQLAlchemy's wrapper has that attribute
        self._raw = raw
        modules = {cls.__module__.partition(".")[0] for cls in type(raw).__mro__}
        self._driver = next(iter(modules & (_PSYCOPG | _MYSQL)), "")
        self._cursor: Any = None
        self._is_at_end = False

    @property
    def column_names(self) -> list[Any]:
        """The names of the columns. psycopg2 knows them after the first fetch only."""
        return [column[0] for column in self._cursor.description]

    @property
    def may_have_rows(self) -> bool:
        """False if the statement was one that gives no rows, such as an UPDATE."""
        return self._driver == "psycopg2" or self._cursor.description is not None

    def execute(self, sql: str, parameters: Mapping[str, Any] | Sequence[Any] | None, name: str) -> None:
        """Execute a query.

        :param name: names the query in errors.
        :raises InputError: there are several statements.
        """
        if self._driver in _MYSQL:
            self._allow_slow_reading()
        self._cursor = self._open()
        if parameters:
            self._cursor.execute(sql, parameters)
        else:
            self._cursor.execute(sql)  # with an empty list, drivers would interpret % in the SQL
        if self._driver == "psycopg2" and self._cursor.statusmessage != "DECLARE CURSOR":
            raise several_statements_error(name)

    def fetch(self, count: int) -> Sequence[Any]:
        """Return the next rows, none at the end."""
        rows: Sequence[Any] = self._cursor.fetchmany(count)
        self._is_at_end = not rows
        return rows

    def check_end(self, name: str) -> None:
        """Check that no other statement follows whose rows would be missing.

        :param name: names the query in errors.
        :raises InputError: there are several statements.
        """
        if self._driver in _MYSQL and self._cursor.nextset() and self._cursor.description is not None:
            raise several_statements_error(name)

    def close(self) -> None:
        """Close cursor and connection, and undo what the statement may have changed."""
        if self._driver in _MYSQL and not self._is_at_end:
            self._abandon()
        else:
            for close in (getattr(self._cursor, "close", None), getattr(self._connection, "rollback", None)):
                if close is not None:
                    _try(close)
        _try(self._connection.close)

    def _open(self) -> Any:
        if self._driver in _PSYCOPG:
            if self._raw.autocommit:
                self._raw.autocommit = False  # named cursors live in a transaction
            if self._driver == "psycopg2":
                return self._raw.cursor(_CURSOR_NAME, cursor_factory=_of("psycopg2.extensions", "cursor"))
            return self._raw.cursor(_CURSOR_NAME, row_factory=_of("psycopg.rows", "tuple_row"))
        if self._driver in _MYSQL:
            return self._raw.cursor(_of(f"{self._driver}.cursors", "SSCursor"))
        return self._raw.cursor()

    def _allow_slow_reading(self) -> None:
        with suppress(Exception):  # other databases speak MySQL's protocol and may lack the variable
            cursor = self._raw.cursor()
            cursor.execute(f"SET SESSION net_write_timeout = {_MYSQL_WRITE_SECONDS}")
            cursor.close()

    def _abandon(self) -> None:
        """Keep PyMySQL from reading the rest of the result when its cursor is closed: the connection ends instead."""
        result: Any = getattr(self._cursor, "_result", None)
        if hasattr(result, "unbuffered_active"):
            result.unbuffered_active = False


def _of(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)


def _try(close: Any) -> None:
    with suppress(Exception):  # the connection may be lost, and some drivers know no rollback
        close()
