"""Tables in and tables out on real processes. The triggerer is killed while all of them wait."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from airflow_database import task_instances
from airflow_stack import DagStack

from airflow_claude_batch.rows import read_rows
from shared_airflow.preparations import Preparations
from shared_airflow.tables import CONNECTION, EXAMPLES

pytestmark = pytest.mark.stack

DAG_IDS, RUN_ID = tuple(EXAMPLES), "2026-01-01"


class Runs:
    """One run of each example."""

    def __init__(self, stack: DagStack) -> None:
        self.stack = stack

    def wait_for(self, state: str) -> None:
        for dag_id, task_id in EXAMPLES.items():
            self.stack.wait_for(partial(self._has, dag_id, task_id, state), f"{task_id} of {dag_id}: {state}")

    def _has(self, dag_id: str, task_id: str, state: str) -> bool:
        states = {task["task_id"]: task["state"] for task in task_instances(self.stack.airflow, dag_id, RUN_ID)}
        assert "failed" not in states.values(), (dag_id, states)
        return set(states.values()) == {state} if state == "success" else states.get(task_id) == state

    def returned(self, dag_id: str, task_id: str) -> Any:
        return self.stack.airflow.api.returned(dag_id, RUN_ID, task_id)

    def select(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.stack.warehouse)) as database:
            return database.execute(sql).fetchall()


def prepare(stack: DagStack) -> Runs:
    for dag_id in EXAMPLES:
        stack.airflow.api.trigger(dag_id, RUN_ID, logical_date=f"{RUN_ID}T00:00:00Z")
    runs = Runs(stack)
    runs.wait_for("deferred")
    return runs


def while_triggerer_is_down(stack: DagStack, _runs: Runs) -> None:
    stack.simulators[CONNECTION].pace(0)


@pytest.fixture(scope="module")
def runs(preparations: Preparations, triggerer_killed: None) -> Runs:
    runs = preparations.result_of(prepare)
    runs.wait_for("success")
    return runs


def test_each_request_is_billed_once(runs: Runs) -> None:
    books = runs.stack.simulators[CONNECTION].books()
    assert sorted(batch["request_count"] for batch in books["batches"]) == [3, 4, 4]
    assert books["billed_requests"] == 11


def test_labels_stand_beside_their_tickets(runs: Runs) -> None:
    rows = {row.key: row for row in read_rows(runs.returned("table_to_table", "label"))}
    labels = runs.select("SELECT id, title, topic, urgent, wish, usd, why_not FROM example_ticket_labels ORDER BY id")
    assert [label[0] for label in labels] == [1041, 1042, 1043, 1044]
    for key, title, topic, urgent, wish, usd, why_not in labels:
        output = rows[key].output
        assert (topic, bool(urgent), wish) == (output["topic"], output["urgent"], output["wish"])
        assert usd == pytest.approx(float(rows[key].cost_usd or 0))
        assert why_not is None
        assert runs.select(f"SELECT title FROM example_tickets WHERE id = {key}") == [(title,)]


def test_judgements_are_read_from_typed_parquet(runs: Runs) -> None:
    rated = runs.returned("parquet_to_parquet", "rate_products")
    assert [row["product"] for row in rated] == ["lamp", "radio"]
    assert all(1 <= row["stars"] <= 5 for row in rated)


def test_invoices_are_in_the_table(runs: Runs) -> None:
    invoices = runs.select("SELECT file, seller, total, why_not FROM example_invoices ORDER BY file")
    assert [invoice[0] for invoice in invoices] == ["2041.pdf", "2042.pdf", "2043.pdf"]
    assert all(seller is not None and total is not None and why is None for _, seller, total, why in invoices)
