"""The databases of the tests are real, and Airflow reaches them by their connections."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from databases import CONN_ID, Database

from airflow_claude_batch._airflow.compat import BaseHook


def test_database_stores_what_a_test_writes_and_is_empty_afterwards(any_database: Database) -> None:
    any_database.execute("CREATE TABLE t (id INTEGER, body TEXT)", "INSERT INTO t VALUES (1, 'ü 😀')")
    assert any_database.query("SELECT id, body FROM t") == [(1, "ü 😀")]

    any_database.empty()

    with pytest.raises(Exception, match="t"):
        any_database.query("SELECT id FROM t")


def test_airflow_reads_and_writes_by_the_connection(any_database: Database) -> None:
    any_database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, body VARCHAR(9))")

    hook = BaseHook.get_connection(CONN_ID).get_hook()
    hook.insert_rows("t", [(1, "one"), (2, "two")], target_fields=["id", "body"])

    assert [tuple(row) for row in hook.get_records("SELECT id, body FROM t ORDER BY id")] == [(1, "one"), (2, "two")]


def test_another_process_finds_the_provider_of_mysql(mysql_database: Database) -> None:
    environ = {
        **os.environ,
        f"AIRFLOW_CONN_{CONN_ID.upper()}": mysql_database.airflow_connection,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    code = (
        "from airflow_claude_batch._airflow.compat import BaseHook\n"
        f"print(BaseHook.get_connection('{CONN_ID}').get_hook().get_first('SELECT 41 + 1')[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split()[-1:] == ["42"], done.stderr
