"""Copies of the main example as DAGs of the shared Airflow. Each has its own connection and its own tables."""

from __future__ import annotations

import json
from pathlib import Path

from airflow_stack import CONNECTION_ID, DAG_ID, ROOT, DagStack, Stack

#: Each is a DAG, its connection, and what happens to it.
COPIES = ("triggerer_is_killed", "scheduler_is_killed", "worker_is_killed")


def sources() -> dict[str, str]:
    """Return the text of each DAG's file, by DAG id: the example itself, and the copies."""
    original = _without_schedule((ROOT / "dags" / f"{DAG_ID}.py").read_text())
    return {DAG_ID: original, **{name: _copy(original, name) for name in COPIES}}


def warehouses(folder: Path) -> dict[str, str]:
    """Return the settings of the copies' connections to their tables."""
    hosts = {f"AIRFLOW_CONN_{_warehouse(name).upper()}": str(folder / f"{name}.db") for name in COPIES}
    return {name: json.dumps({"conn_type": "sqlite", "host": host}) for name, host in hosts.items()}


def original(stack: DagStack) -> Stack:
    """Return the example with its connection."""
    return Stack(stack.airflow, stack.simulators[CONNECTION_ID], is_stopping=stack.is_stopping)


def copy(stack: DagStack, name: str) -> Stack:
    """Return a copy of the example with its connection."""
    return Stack(stack.airflow, stack.simulators[name], dag_id=name, is_stopping=stack.is_stopping)


def assert_answered_and_paid_once(stack: Stack, run_id: str) -> None:
    """Check that every option has its answer, in the order of the table, from the only message batch."""
    rows = stack.wait_for_success(run_id)
    asked = stack.returned(run_id, "save_options")
    assert len(rows) == asked > 200
    assert [row.key for row in rows] == sorted(row.key for row in rows)
    assert {row.status for row in rows} == {"succeeded"}
    (batch,) = stack.simulator.books()["batches"]
    assert batch["request_count"] == asked == stack.simulator.books()["billed_requests"]
    assert stack.returned(run_id, "wait")["batch_ids"] == [batch["id"]]


def _warehouse(name: str) -> str:
    return f"warehouse_{name}"


def _without_schedule(text: str) -> str:
    return _replaced(text, 'schedule="@monthly"', "schedule=None")


def _copy(text: str, name: str) -> str:
    for old, new in (
        (f'DAG("{DAG_ID}"', f'DAG("{name}"'),
        ('{"retries": 2}', f'{{"retries": 2, "claude_conn_id": {name!r}}}'),
        ('WAREHOUSE = "warehouse"', f'WAREHOUSE = "{_warehouse(name)}"'),
    ):
        text = _replaced(text, old, new)
    return text


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)
