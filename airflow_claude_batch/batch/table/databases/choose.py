"""Find out which database a connection leads to."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from typing import Any, Final

from airflow_claude_batch.batch.table.databases.database import Database
from airflow_claude_batch.batch.table.databases.mysql import MySql
from airflow_claude_batch.batch.table.databases.other import OtherDatabase
from airflow_claude_batch.batch.table.databases.postgres import Postgres
from airflow_claude_batch.batch.table.databases.sqlite import Sqlite

_DRIVERS: Final[dict[str, type[Database]]] = {
    "psycopg2": Postgres,
    "psycopg": Postgres,
    "sqlite3": Sqlite,
    "pymysql": MySql,
    "MySQLdb": MySql,
    "mysql": MySql,
}
_OLDEST_POSTGRES: Final = 10


def choose_database(
    connection: Any, *, placeholder: str, quote: Callable[[str], str], column_types: dict[str, str]
) -> Database:
    """Return the database of a connection, by its driver. See :class:`OtherDatabase` for the parameters."""
    for cls in type(connection).__mro__:
        database = _DRIVERS.get(cls.__module__.partition(".")[0])
        if database is Postgres and not _is_postgres(connection):
            break
        if database is not None:
            return database(connection)
    return OtherDatabase(connection, placeholder=placeholder, quote=quote, column_types=column_types)


def _is_postgres(connection: Any) -> bool:
    """Tell whether the server is PostgreSQL. Redshift and others use its drivers, but lack some of its statements."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("SELECT version() AS v")
        row = cursor.fetchone()
    version = str(row["v"] if isinstance(row, dict) else row[0])
    found = re.match(r"PostgreSQL (\d+)", version)
    return found is not None and int(found[1]) >= _OLDEST_POSTGRES and "Redshift" not in version
