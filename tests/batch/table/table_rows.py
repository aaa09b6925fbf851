"""Rows to write, and databases to write them to, by each driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from databases import Database

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.table.databases.choose import choose_database
from airflow_claude_batch.batch.table.paths import parse_path
from airflow_claude_batch.batch.table.plan import WritePlan, default_key
from airflow_claude_batch.batch.table.write import WriteResult, write_rows


@dataclass
class Target:
    """A database that tests write to.

    :param driver: ``sqlite``, ``psycopg2``, ``psycopg`` or ``pymysql``.
    :param connect: opens a connection of the driver.
    """

    driver: str
    database: Database
    connect: Callable[[], Any]

    @property
    def quote(self) -> str:
        return "`" if self.driver == "pymysql" else '"'

    def write(
        self, rows: list[Row] | Callable[[], Iterator[Row]], connection: Any = None, **options: Any
    ) -> WriteResult:
        """Write rows as the operator does.

        :param rows: rows, or a function that starts to read them.
        """
        read = rows if callable(rows) else partial(iter, rows)
        kept_types = options.pop("kept_types", None)
        connection = connection or self.connect()
        try:
            database = choose_database(
                connection, placeholder="%s", quote=lambda name: name, column_types=options.get("column_types", {})
            )
            return write_rows(read, plan(**options), database, kept_types=kept_types)
        finally:
            connection.close()

    def execute(self, *statements: str) -> None:
        self.database.execute(*statements)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.query(sql)


def plan(**options: Any) -> WritePlan:
    """Make a plan of what an author writes."""
    columns = options.pop("columns", {"id": "key", "label": "output.label"})
    paths = {column: parse_path(path) for column, path in columns.items()}
    key = options.pop("key", None)
    return WritePlan(
        table=options.pop("table", "labels"), paths=paths, key=default_key(paths) if key is None else key, **options
    )


def answered(key: Any, label: Any = "spam", **fields: Any) -> Row:
    """Make a row with a valid answer."""
    return Row(**{"index": 0, "key": key, "status": "succeeded", "output": {"label": label}, **fields})


def failed(key: Any, why: str = "refused") -> Row:
    """Make a row without an answer."""
    return Row(index=0, key=key, status="errored", error={"type": "invalid_request_error", "message": why})


def connect_by_psycopg(database: Database) -> Any:
    """Open a connection of psycopg 3."""
    import psycopg

    fields = database.fields
    return psycopg.connect(
        host=fields["host"],
        port=fields["port"],
        user=fields["login"],
        password=fields["password"],
        dbname=fields["schema"],
    )


DRIVERS = {"sqlite": "sqlite", "psycopg2": "postgres", "psycopg": "postgres", "pymysql": "mysql"}
