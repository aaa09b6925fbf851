"""A deadline on a real Airflow, and an API that is too slow for it: the rest is asked directly."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from airflow_database import run_state
from airflow_stack import DagStack

from airflow_claude_batch.rows import read_rows
from demo.simulator import KEY
from shared_airflow.preparations import Preparations

pytestmark = pytest.mark.stack

DAG_ID, RUN_ID = "deadline", "run"


def prepare(stack: DagStack) -> str:
    """Send four batches, and end one of them. Return its id."""
    simulator, api = stack.simulators[DAG_ID], stack.airflow.api
    connection = {"connection_id": DAG_ID, "conn_type": "claude", "host": simulator.url, "password": KEY}
    api.put_connection({**connection, "extra": '{"max_batch_requests": 2}'})
    api.trigger(DAG_ID, RUN_ID)
    stack.wait_for(lambda: len(simulator.books()["batches"]) == 4, "four batches")
    ended = str(simulator.books()["batches"][0]["id"])
    simulator.end(ended)
    return ended


def test_all_rows_are_there_at_the_deadline_and_the_bill_is_split_by_way(
    dag_stack: DagStack, preparations: Preparations
) -> None:
    ended, simulator = preparations.result_of(prepare), dag_stack.simulators[DAG_ID]

    dag_stack.wait_for(lambda: run_state(dag_stack.airflow, DAG_ID, RUN_ID) in ("success", "failed"), "the run to end")

    assert run_state(dag_stack.airflow, DAG_ID, RUN_ID) == "success"
    manifest = dag_stack.airflow.api.returned(DAG_ID, RUN_ID, "ask")
    rows = list(read_rows(manifest))
    assert [(row.key, row.status) for row in rows] == [(letter, "succeeded") for letter in "abcdefg"]
    assert Counter((row.way, row.batch_id) for row in rows) == {(None, ended): 2, ("direct", None): 5}
    books = simulator.books()
    assert (books["billed_requests"], books["direct"]["billed_requests"]) == (2, 5)
    assert ended not in simulator.canceled_batch_ids()
    assert len(simulator.canceled_batch_ids()) == 3
    in_batch, direct = (sum(Decimal(row.cost_usd or 0) for row in rows if row.way == way) for way in (None, "direct"))
    split = manifest["direct"]
    assert (split["answers"], Decimal(split["batch_usd"]), Decimal(split["usd"])) == (5, in_batch, direct)
    assert 0 < in_batch < direct
