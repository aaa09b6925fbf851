"""Write rows to a table in a process that may be killed at any time. For tests, and for campaigns of many kills::

    python table_writer.py '{"driver": "psycopg2", "connect": {…}, "path": "results.jsonl", "plan": {…}}'

It writes ``started`` to its output when it begins, and ``done`` when the table is right.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from crash.attempt import open_connection

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.table.databases.choose import choose_database
from airflow_claude_batch.batch.table.paths import parse_path
from airflow_claude_batch.batch.table.plan import WritePlan
from airflow_claude_batch.batch.table.write import write_rows

if TYPE_CHECKING:
    from databases import Database

#: Names of the fields of Airflow's connections, and of what drivers take.
FIELDS = {"host": "host", "port": "port", "login": "user", "password": "password"}


def main(job: dict[str, Any]) -> None:
    """Write the rows of a results file."""
    plan, connection = job["plan"], open_connection(job)
    database = choose_database(connection, placeholder="?", quote=str, column_types={})
    paths = {column: parse_path(path) for column, path in plan.pop("columns").items()}

    def read() -> Iterator[Row]:
        with Path(job["path"]).open("rb") as file:
            yield from map(msgspec.json.Decoder(Row).decode, file)

    print("started", flush=True)
    write_rows(read, WritePlan(paths=paths, key=tuple(plan.pop("key")), **plan), database)
    print("done", flush=True)


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
        """Write all rows. Return the seconds that it took after the start."""
        with self._process() as process:
            begun = self._started(process)
            output, errors = process.communicate(timeout=120)
            assert (process.returncode, output.split()) == (0, ["done"]), errors
        return time.monotonic() - begun

    def run_and_kill(self, after_seconds: float) -> bool:
        """Write rows, and kill the process after a time. Return whether it was killed before it was done."""
        with self._process() as process:
            self._started(process)
            try:
                process.wait(timeout=after_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate(timeout=120)
        return process.returncode != 0

    def _process(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, __file__, json.dumps(self.job)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _started(self, process: subprocess.Popen[str]) -> float:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "started\n", process.communicate(timeout=120)[1]
        return time.monotonic()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
