"""The oldest supported Airflow, whose triggers read connections in another way."""

from collections.abc import Callable
from pathlib import Path

import pytest
from airflow_stack import ROOT, Stack

OLDEST = ROOT / ".venvs" / "airflow-3.0.6"

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not OLDEST.exists(), reason="there is no environment of Airflow 3.0.6 in .venvs"),
]


def test_deferred_wait_with_a_connection_in_the_database(start_stack: Callable[[Path], Stack]) -> None:
    stack = start_stack(OLDEST)
    run_id = "run"
    stack.trigger(run_id)
    stack.wait_for_task(run_id, "wait", "deferred")

    stack.simulator.pace(0)

    rows = stack.wait_for_success(run_id)
    assert len(rows) == stack.simulator.books()["billed_requests"] > 200
    assert {row.status for row in rows} == {"succeeded"}
