"""Fixtures of real databases for tests: PostgreSQL, MariaDB and SQLite. A pytest session starts each server once.

Servers that are missing are installed from Debian's packages. Tests are skipped where that is not possible.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mariadb_server
import pytest
from cluster import services
from cluster.services import ServiceError, require, running_postgres

from demo.ports import HOST

#: The connection that ``any_database`` defines.
CONN_ID = "warehouse"
#: PostgreSQL asks for no password here. Tests look for it where no password may be.
UNCHECKED_PASSWORD = "a-password-that-must-not-appear"
#: PyMySQL loads certificates for each connection. Here there is no TLS.
MYSQL_EXTRA = {"ssl_disabled": True}


@dataclass(frozen=True)
class Database:
    """A running database.

    :param name: ``postgres``, ``mysql`` or ``sqlite``.
    :param fields: the fields of its Airflow connection, by their names in JSON.
    :param connect: opens a connection of the driver.
    :param empty: drops all tables.
    """

    name: str
    fields: dict[str, Any]
    connect: Callable[[], Any] = field(repr=False)
    empty: Callable[[], None] = field(repr=False)

    @property
    def airflow_connection(self) -> str:
        """The connection as Airflow reads it from an environment variable."""
        return json.dumps(self.fields)

    def execute(self, *statements: str) -> None:
        """Execute statements in one transaction."""
        with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
            connection.commit()

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        with closing(self.connect()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute(sql, parameters) if parameters else cursor.execute(sql)
            return [tuple(row) for row in cursor.fetchall()]


@pytest.fixture(scope="session")
def postgres_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A PostgreSQL server with an empty database."""
    import psycopg2

    _install_or_skip("postgres")
    with running_postgres(tmp_path_factory.mktemp("logs")) as port:
        user = services.database_user()
        account = {"host": HOST, "port": port, "user": user, "password": UNCHECKED_PASSWORD}

        def connect() -> Any:
            return psycopg2.connect(**account, dbname=services.DATABASE)

        def empty() -> None:
            database.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

        database = Database(
            "postgres",
            {
                "conn_type": "postgres",
                "host": HOST,
                "port": port,
                "login": user,
                "password": UNCHECKED_PASSWORD,
                "schema": services.DATABASE,
            },
            connect,
            empty,
        )
        yield database


@pytest.fixture(scope="session")
def mysql_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A MariaDB server with an empty database. Its Airflow connection has the type ``pymysql``, a provider of tests."""
    import pymysql

    _install_or_skip("mariadbd")
    with mariadb_server.running_mariadb(tmp_path_factory.mktemp("logs")) as server:

        def connect() -> Any:
            return pymysql.connect(
                host=HOST,
                port=server.port,
                user=mariadb_server.USER,
                password=server.password,
                database=mariadb_server.DATABASE,
                charset="utf8mb4",
                **MYSQL_EXTRA,
            )

        def empty() -> None:
            database.execute(f"DROP DATABASE {mariadb_server.DATABASE}", mariadb_server.CREATE_DATABASE)

        database = Database(
            "mysql",
            {
                "conn_type": "pymysql",
                "host": HOST,
                "port": server.port,
                "login": mariadb_server.USER,
                "password": server.password,
                "schema": mariadb_server.DATABASE,
                "extra": MYSQL_EXTRA,
            },
            connect,
            empty,
        )
        yield database


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Database:
    """A new database file of SQLite."""
    path = tmp_path / "warehouse.sqlite"

    def empty() -> None:
        path.unlink(missing_ok=True)

    return Database("sqlite", {"conn_type": "sqlite", "host": str(path)}, lambda: sqlite3.connect(path), empty)


@pytest.fixture(params=["sqlite", "postgres", "mysql"])
def any_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Each of the databases in turn, without tables, behind the Airflow connection ``warehouse``."""
    database: Database = request.getfixturevalue(f"{request.param}_database")
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", database.airflow_connection)
    yield database
    database.empty()


def _install_or_skip(program: str) -> None:
    with _one_installation():
        try:
            require(program)
        except ServiceError as error:
            pytest.skip(str(error))


@contextlib.contextmanager
def _one_installation() -> Iterator[None]:
    """Let the processes of a test run install one after the other."""
    with (Path(os.environ["CLAUDE_BATCH_TESTS_SHARED"]) / "install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
