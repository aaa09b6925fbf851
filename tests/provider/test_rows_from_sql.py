"""The operator reads the rows of a query: sent once, and read again by a retry when the database went away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from databases import CONN_ID, Database
from workbench import Workbench

from airflow_claude_batch.exceptions import SourceError
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.sources import SqlRows

pytestmark = pytest.mark.airflow


def operator(sql: str, parameters: Any = None, **options: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(
        task_id="label",
        rows=SqlRows(CONN_ID, sql, parameters),
        key="id",
        prompt="<title>{title}</title> { stays }",
        **{"wait_for_completion": True, "poll_interval": 1, **options},
    )


def test_rows_of_a_query_are_sent_once_in_their_order(
    any_database: Database, bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    any_database.execute(
        "CREATE TABLE tickets (id INTEGER PRIMARY KEY, day VARCHAR(10), title VARCHAR(40))",
        "INSERT INTO tickets VALUES (3, '2026-11-29', '{id} {{ ds }}'), (1, '2026-11-29', '100 %')",
        "INSERT INTO tickets VALUES (2, '2026-11-28', 'yesterday')",
    )
    place = ":day" if any_database.name == "sqlite" else "%(day)s"
    with bench.dag("sql_rows") as dag:
        operator(
            f"SELECT id, title FROM tickets WHERE day = {place} ORDER BY id",
            {"day": "{{ params.day }}"},
            params={"day": "2026-11-29"},
            keep=["title"],
        )

    run = bench.run(dag)

    assert run.states["label"] == "success", bench.errors
    rows = list(read_rows(run.xcom("label")))
    assert [row.key for row in rows] == [1, 3]
    assert [row.input for row in rows] == [{"title": "100 %"}, {"title": "{id} {{ ds }}"}]


def test_wrong_sql_fails_without_a_retry_and_sends_nothing(
    any_database: Database, bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    with bench.dag("wrong_sql") as dag:
        operator("SELECT id, title FROM absent", retries=3, retry_delay=timedelta())

    run = bench.run(dag)

    assert run.states["label"] == "failed"
    assert run.error("label").startswith(f"label: rows: the query on connection '{CONN_ID}' failed: ")
    assert len(bench.errors["label"]) == 1
    assert simulator.books()["batches"] == []


def test_lost_database_is_read_again_by_a_retry(
    postgres_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    bench: Workbench,
    claude_default: str,
    simulator: Simulator,
) -> None:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", postgres_database.airflow_connection)
    postgres_database.execute("CREATE SEQUENCE readings")  # a sequence counts on after a rollback
    with bench.dag("lost_database") as dag:
        operator(
            "SELECT id, 'x' AS title, CASE WHEN id = 300 AND nextval('readings') = 1 "
            "THEN pg_terminate_backend(pg_backend_pid()) END AS ended FROM generate_series(1, 500) AS id",
            retries=1,
            retry_delay=timedelta(),
        )

    try:
        run = bench.run(dag)
    finally:
        postgres_database.empty()

    assert run.states["label"] == "success"
    (error,) = bench.errors["label"]
    assert isinstance(error, SourceError)
    assert f"rows: the query on connection '{CONN_ID}' stopped after 255 rows" in str(error)
    assert [row.key for row in read_rows(run.xcom("label"))] == list(range(1, 501))
    assert len(simulator.books()["batches"]) == 1
