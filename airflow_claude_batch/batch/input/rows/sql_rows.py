"""Read the rows of a SQL query through a DBAPI connection, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from airflow_claude_batch.batch.input.rows.fetch_size import FetchSize
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.batch.input.rows.sql_columns import check_columns
from airflow_claude_batch.batch.input.rows.sql_cursor import StreamingCursor
from airflow_claude_batch.batch.input.rows.sql_errors import no_rows_error, read_error
from airflow_claude_batch.exceptions import ClaudeBatchError


class SqlRowSource:
    """Rows of a query. Each iteration opens a connection, and closes it whatever happens.

    Reading ends its transaction by a rollback. The database holds the result where the driver can do that: named
    cursors of psycopg 2 and 3, and ``SSCursor`` of mysqlclient and PyMySQL.

    Example::

        source = SqlRowSource(lambda: sqlite3.connect("tickets.db"), "SELECT id, title FROM tickets")
        for row in source:
            print(row["title"])

    :param connect: opens a DBAPI connection. Its own errors are those of this package.
    :param sql: one statement that gives rows.
    :param parameters: its parameters, in the style of the driver. Without any, ``%`` is literal.
    :param name: names the query in errors.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        sql: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        *,
        name: str = "the query",
    ) -> None:
        self._connect = connect
        self._sql = sql
        self._parameters = parameters
        self._name = name
        self._columns: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns. Empty before the first row is read."""
        return self._columns

    @property
    def place(self) -> str:
        """Always empty: a row's number says where it stands."""
        return ""

    def __iter__(self) -> Iterator[SourceRow]:
        self._columns = ()
        cursor, count, size = StreamingCursor(self._connect()), 0, FetchSize()
        try:
            group = self._guard(0, self._execute, cursor)
            while group:
                count, following = count + len(group), size.after(group)
                yield from self._rows(group)
                group = ()  # large rows are not held while the next ones are fetched
                group = self._guard(count, cursor.fetch, following)
            self._guard(count, cursor.check_end, self._name)
        finally:
            cursor.close()

    def _execute(self, cursor: StreamingCursor) -> Sequence[Any]:
        """Run the query, and return its first row. psycopg2 knows the columns only after it."""
        cursor.execute(self._sql, self._parameters, self._name)
        if not cursor.may_have_rows:
            raise no_rows_error(self._name)
        first = cursor.fetch(1)
        self._columns = check_columns(cursor.column_names, self._name)
        return first

    def _rows(self, group: Sequence[Any]) -> Iterator[SourceRow]:
        columns = self._columns
        if isinstance(group[0], Mapping):  # a connection whose author chose a cursor of dictionaries
            group = [tuple(row.values()) for row in group]
        for row in group:
            yield dict(zip(columns, row, strict=True))

    def _guard(self, count: int, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call the driver, whose errors become errors of this package."""
        try:
            return call(*arguments)
        except (ClaudeBatchError, MemoryError):
            raise
        except Exception as error:  # each driver has its own
            raise read_error(error, self._name, self._sql, self._parameters, count) from None
