"""A PostgreSQL server for benchmarks, in a process of its own. The tests have the code that starts one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"


@dataclass(frozen=True)
class Postgres:
    """A running server.

    :param connection: its Airflow connection as JSON.
    """

    connection: str

    def run(self, *statements: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Run statements in one transaction, each with the parameters. Return the rows of the last one."""
        import psycopg2

        fields = json.loads(self.connection)
        account = {"host": fields["host"], "port": fields["port"], "user": fields["login"], "dbname": fields["schema"]}
        with closing(psycopg2.connect(**account)) as connection, connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []


@contextmanager
def postgres_server(logs: Path) -> Iterator[Postgres]:
    """Run a server with an empty database until the end of the block. Debian's package is installed if it is missing.

    :param logs: the folder for its log.
    """
    if str(TESTS) not in sys.path:
        sys.path.append(str(TESTS))
    from cluster import services

    from demo.ports import HOST

    services.require("postgres")
    with services.running_postgres(logs) as port:
        account = {"host": HOST, "port": port, "login": services.database_user(), "schema": services.DATABASE}
        yield Postgres(json.dumps({"conn_type": "postgres", **account}))
