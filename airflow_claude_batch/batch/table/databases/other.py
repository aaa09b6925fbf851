"""Any other database: plain INSERT and DELETE, which all of them have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any, ClassVar

from airflow_claude_batch.batch.table.column import Column, Kind, Table, kind_of_type, length_of_type
from airflow_claude_batch.batch.table.databases.database import Database, Values, has_class


class OtherDatabase(Database):
    """A connection of any DBAPI driver.

    Types and constraints of its tables are not known. Values go to the driver as Python has them, nested ones as JSON.

    :param placeholder: what stands for a value in a statement: ``%s`` or ``?``.
    :param quote: quotes a name that needs it.
    :param column_types: types of columns as the author wrote them. Those columns get values of these types.
    """

    name = "This database"
    refuses_nul = True  # some do, such as Redshift
    has_upsert = False
    rolls_back = False
    has_savepoints = False
    types: ClassVar = {}

    def __init__(
        self, connection: Any, *, placeholder: str, quote: Callable[[str], str], column_types: dict[str, str]
    ) -> None:
        super().__init__(connection)
        self._placeholder = placeholder
        self._quote = quote
        self._column_types = column_types
        self._has_sent_values = False

    def prepare(self) -> None:
        """Nothing is known that could be set."""

    def describe(self, name: Sequence[str]) -> Table | None:
        sql = self.quote_table(name)
        with closing(self.connection.cursor()) as cursor:
            cursor.execute(f"SELECT * FROM {sql} WHERE 1 = 0")  # noqa: S608  # a name, quoted
            cursor.fetchall()  # some drivers describe the columns only then
            names = [str(column[0]) for column in cursor.description or ()]
        return Table(sql, {each: self._column(each) for each in names}, None)

    def _column(self, name: str) -> Column:
        type_name = self._column_types.get(name)
        if type_name is None:
            return Column(name=name, type="unknown", kind=Kind.ANY)
        return Column(name, type_name, kind_of_type(type_name), max_length=length_of_type(type_name))

    def table_names(self, name: Sequence[str]) -> list[str]:
        return []

    def insert(self, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
        places = ", ".join([self._placeholder] * len(columns))
        sql = f"INSERT INTO {table.sql} ({self.quoted(columns)}) VALUES ({places})"  # noqa: S608  # names, quoted
        self._execute_many(sql, rows)

    def delete_keys(self, table: Table, key: Sequence[str], keys: Sequence[Values]) -> int:
        condition = " AND ".join(f"{self.quote(column)} = {self._placeholder}" for column in key)
        return self._execute_many(f"DELETE FROM {table.sql} WHERE {condition}", keys)  # noqa: S608  # names, quoted

    def _execute_many(self, sql: str, rows: Sequence[Values]) -> int:
        self._has_sent_values = True
        with closing(self.connection.cursor()) as cursor:
            cursor.executemany(sql, [tuple(row) for row in rows])
            return int(getattr(cursor, "rowcount", -1) or 0)

    def is_lost(self, error: Exception) -> bool:
        return has_class(error, "InterfaceError")

    def code(self, error: Exception) -> str:
        codes = (getattr(error, name, None) for name in ("sqlstate", "errno", "code"))
        return " ".join([type(error).__name__, *(str(code) for code in codes if isinstance(code, int | str))][:2])

    def reason(self, error: Exception) -> str:
        # Once rows are written, any message may quote their values.
        return "" if self._has_sent_values else str(error).strip().partition("\n")[0][:200]

    def quote(self, name: str) -> str:
        return self._quote(name)
