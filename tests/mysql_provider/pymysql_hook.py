"""A provider for MySQL without a compiler: the official one needs mysqlclient, which is built from source.

Airflow finds it as it finds every provider: by the entry point in the ``.dist-info`` folder beside this module.
"""

from __future__ import annotations

from typing import Any

import pymysql
from airflow.providers.common.sql.hooks.sql import DbApiHook


class PyMySqlHook(DbApiHook):
    """Connects to MySQL and MariaDB. Its extra goes to the driver, as that of the official hook does."""

    conn_name_attr = "pymysql_conn_id"
    default_conn_name = "pymysql_default"
    conn_type = "pymysql"
    hook_name = "PyMySQL"
    supports_autocommit = True
    supports_executemany = True

    def get_conn(self) -> Any:
        """Return a connection of PyMySQL."""
        connection = self.get_connection(self.get_conn_id())
        return pymysql.connect(
            host=connection.host,
            port=connection.port or 3306,
            user=connection.login,
            password=connection.password or "",
            database=connection.schema,
            charset="utf8mb4",
            **connection.extra_dejson,
        )

    def get_uri(self) -> str:
        """Return the URL for SQLAlchemy, which names the driver."""
        connection = self.get_connection(self.get_conn_id())
        account = f"{connection.login}:{connection.password}"
        return f"mysql+pymysql://{account}@{connection.host}:{connection.port}/{connection.schema}?charset=utf8mb4"

    @property
    def dialect_name(self) -> str:
        """Return the dialect in which statements are written."""
        return "mysql"

    def set_autocommit(self, conn: Any, autocommit: bool) -> None:
        """Switch the driver's autocommit, which is a method."""
        conn.autocommit(autocommit)

    def get_autocommit(self, conn: Any) -> bool:
        """Tell whether each statement is a transaction of its own."""
        return bool(conn.get_autocommit())
