"""A table that changes by one row in twenty each day, on real processes. The triggerer is killed while one waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from airflow_database import runs, task_instances
from airflow_stack import UNTIL_ENDED, DagStack

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.rows import read_rows
from shared_airflow.changing_table import CONNECTION, DAG_ID, DAYS, PRODUCTS
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack


class Days:
    """The runs of the DAG, in the order of their days."""

    def __init__(self, stack: DagStack) -> None:
        self.stack = stack
        self.simulator = stack.simulators[CONNECTION]

    def wait_for_runs(self, count: int) -> None:
        self.stack.wait_for(lambda: self._ended(count), f"{count} days")

    def wait_for_deferral(self) -> None:
        self.stack.wait_for(self._is_deferred, "a day that waits in the triggerer")

    def _ended(self, count: int) -> bool:
        states = [run["state"] for run in runs(self.stack.airflow, DAG_ID)]
        assert "failed" not in states, states
        return states.count("success") >= count

    def _is_deferred(self) -> bool:
        airflow = self.stack.airflow
        instances = [ti for run in runs(airflow, DAG_ID) for ti in task_instances(airflow, DAG_ID, run["dag_run_id"])]
        return any(ti["state"] == "deferred" for ti in instances)

    def returned(self, task_id: str) -> list[Any]:
        ids = [run["dag_run_id"] for run in runs(self.stack.airflow, DAG_ID)]
        return [self.stack.airflow.api.returned(DAG_ID, run_id, task_id) for run_id in ids]

    def rows(self) -> list[Sequence[Row]]:
        return [list(read_rows(manifest)) for manifest in self.returned("describe")]


def prepare(stack: DagStack) -> Days:
    days = Days(stack)
    days.simulator.pace(2)
    stack.airflow.api.unpause(DAG_ID)
    days.wait_for_runs(2)
    days.simulator.pace(UNTIL_ENDED)
    days.wait_for_deferral()
    return days


def while_triggerer_is_down(_stack: DagStack, days: Days) -> None:
    days.simulator.pace(2)


@pytest.fixture(scope="module")
def days(preparations: Preparations, triggerer_killed: None) -> Days:
    days = preparations.result_of(prepare)
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
