"""A table that changes by one row in twenty each day, on real processes. The triggerer is killed while one waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from airflow_stack import DagStack

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from demo.airflow_api import wait_for
from shared_airflow.changing_table import CONNECTION, DAG_ID, DAYS, PRODUCTS

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


class Days:
    """The runs of the DAG, in the order of their days."""

    def __init__(self, stack: DagStack) -> None:
        self.stack = stack
        self.simulator = stack.simulators[CONNECTION]

    def wait_for_runs(self, count: int) -> None:
        wait_for(lambda: self._ended(count), seconds=600, what=f"{count} days")

    def _ended(self, count: int) -> bool:
        self.stack.airflow.check()
        states = [run["state"] for run in self.stack.airflow.api.runs(DAG_ID)]
        assert "failed" not in states, states
        return states.count("success") >= count

    def is_deferred(self) -> bool:
        api = self.stack.airflow.api
        return any(api.task_count(DAG_ID, run_id, "deferred") for run_id in api.unfinished_runs(DAG_ID))

    def returned(self, task_id: str) -> list[Any]:
        runs = sorted(self.stack.airflow.api.runs(DAG_ID), key=lambda run: run["logical_date"])
        return [self.stack.airflow.api.returned(DAG_ID, run["dag_run_id"], task_id) for run in runs]

    def rows(self) -> list[Sequence[Row]]:
        return [list(read_rows(manifest)) for manifest in self.returned("describe")]


@pytest.fixture(scope="module")
def days(dag_stack: DagStack) -> Days:
    days = Days(dag_stack)
    days.simulator.pace(2)
    dag_stack.airflow.api.unpause(DAG_ID)
    days.wait_for_runs(2)
    days.simulator.pace(3600)
    wait_for(days.is_deferred, seconds=60, what="a day that waits in the triggerer")
    dag_stack.airflow.kill("triggerer")
    days.simulator.pace(2)
    dag_stack.airflow.start("triggerer")
    days.wait_for_runs(DAYS)
    return days


def test_only_the_rows_that_changed_are_billed(days: Days) -> None:
    books = days.simulator.books()
    assert [batch["request_count"] for batch in books["batches"]] == [PRODUCTS, *[1] * (DAYS - 1)]
    assert books["billed_requests"] == PRODUCTS + DAYS - 1


def test_rows_of_each_day_are_whole_and_in_order(days: Days) -> None:
    all_rows = days.rows()
    assert len(all_rows) == DAYS
    for day, rows in enumerate(all_rows, 1):
        assert [row.key for row in rows] == list(range(1, PRODUCTS + 1))
        assert {row.status for row in rows} == {"succeeded"}
        for row in rows:
            changed = f"A lamp of 2026, number {row.key}" if row.key <= day else f"A lamp of {5 * row.key} watts"
            assert changed in (row.text or "")


def test_reused_rows_cost_nothing_and_say_where_they_come_from(days: Days) -> None:
    first, *later = days.rows()
    assert all(row.reused_from is None and row.cost_usd != "0" for row in first)
    for day, rows in enumerate(later, 2):
        asked = [row.key for row in rows if row.reused_from is None]
        assert asked == [day]
        assert all(row.cost_usd == "0" for row in rows if row.reused_from)
        assert all(row.reused_from["cost_usd"] != "0" for row in rows if row.reused_from)


def test_each_day_has_a_line_of_its_cost(days: Days) -> None:
    lines = days.returned("say_cost")
    asked = [PRODUCTS, *[1] * (DAYS - 1)]
    assert [line.split(", ")[:2] for line in lines] == [
        [f"2026-01-{day:02}: {count} asked", f"{PRODUCTS - count} reused"] for day, count in enumerate(asked, 1)
    ]
