"""Reading a query holds a few of its rows, whatever their number."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from databases import Database

ROWS = 60_000
#: Of 1 KB each, so that a client that loads the result takes 60 MB and more.
MOST_MB = 24
POSTGRES = f"SELECT id, repeat('x', 1000) AS body FROM generate_series(1, {ROWS}) AS id"
MYSQL = f"SELECT seq AS id, repeat('x', 1000) AS body FROM seq_1_to_{ROWS}"

# The peak of a process of its own, above what it has once the driver is loaded and has connected.
MEASURE = """
import importlib, json, re, sys
from pathlib import Path
from airflow_claude_batch.batch.input.rows.sql_rows import SqlRowSource

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024

module, account, sql = json.loads(sys.argv[1])
connect = lambda: importlib.import_module(module).connect(**account)
assert [dict(row) for row in SqlRowSource(connect, "SELECT 1 AS a")] == [{"a": 1}]
Path("/proc/self/clear_refs").write_text("5")
before, rows, last = peak(), 0, 0
for row in SqlRowSource(connect, sql):
    rows, last = rows + 1, row["id"]
print(json.dumps([rows, last, peak() - before]))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Only Linux resets a process's peak of memory")
@pytest.mark.parametrize(
    ("driver", "server", "schema", "sql"),
    [
        pytest.param("psycopg2", "postgres", "dbname", POSTGRES, id="psycopg2"),
        pytest.param("psycopg", "postgres", "dbname", POSTGRES, id="psycopg"),
        pytest.param("pymysql", "mysql", "database", MYSQL, id="pymysql"),
    ],
)
def test_memory_does_not_grow_with_the_rows(
    driver: str, server: str, schema: str, sql: str, request: pytest.FixtureRequest
) -> None:
    database: Database = request.getfixturevalue(f"{server}_database")
    names = {"host": "host", "port": "port", "user": "login", "password": "password", schema: "schema"}
    account: dict[str, Any] = {name: database.fields[field] for name, field in names.items()}
    command = [sys.executable, "-c", MEASURE, json.dumps([driver, account, sql])]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=200)

    assert done.returncode == 0, done.stderr
    rows, last, megabytes = json.loads(done.stdout)
    assert (rows, last) == (ROWS, ROWS)
    assert megabytes < MOST_MB
