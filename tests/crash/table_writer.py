"""Write rows to a table in a process that may be killed at any time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from crash.attempt import open_connection
from crash.processes import PATIENCE_SECONDS, start_process

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.table.databases.choose import choose_database
from airflow_claude_batch.batch.table.paths import parse_path
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.batch.table.write import write_rows

if TYPE_CHECKING:
    from databases import Database

#: Names of the fields of Airflow's connections, and of what drivers take.
FIELDS = {"host": "host", "port": "port", "login": "user", "password": "password"}


def write_table(job: dict[str, Any], begun: Connection) -> None:
    """Write the rows of a results file. Send something when it begins."""
    plan, connection = dict(job["plan"]), open_connection(job)
    database = choose_database(connection, placeholder="?", quote=str, column_types={})
    paths = {column: parse_path(path) for column, path in plan.pop("columns").items()}

    def read() -> Iterator[Row]:
        with Path(job["path"]).open("rb") as file:
            yield from map(msgspec.json.Decoder(Row).decode, file)

    begun.send(None)
    write_rows(read, WritePlan(paths=paths, key=tuple(plan.pop("key")), **plan), database)


def driver_of(database: Database) -> dict[str, Any]:
    """Return the driver of a database, and what its ``connect`` takes."""
    if database.name == "sqlite":
        return {"driver": "sqlite3", "connect": database.fields["host"]}
    connect = {ours: database.fields[name] for name, ours in FIELDS.items()}
    driver, name = ("psycopg2", "dbname") if database.name == "postgres" else ("pymysql", "database")
    return {"driver": driver, "connect": {**connect, name: database.fields["schema"]}}


@dataclass(slots=True)
class Writer:
    """Starts such processes.

    :param job: what the process gets.
    """

    job: dict[str, Any]

    def run(self) -> float:
        """Write all rows. Return the seconds that it took after the beginning."""
        process = self._begun()
        since = time.monotonic()
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == 0, process.exitcode
        return time.monotonic() - since

    def run_and_kill(self, after_seconds: float) -> bool:
        """Write rows, and kill the process after a time. Return whether it was killed before it was done."""
        process = self._begun()
        process.join(after_seconds)
        process.kill()
        process.join()
        return process.exitcode != 0

    def _begun(self) -> BaseProcess:
        receiver, sender = Pipe(duplex=False)
        process = start_process(write_table, self.job, sender)
        sender.close()
        receiver.recv()
        return process
