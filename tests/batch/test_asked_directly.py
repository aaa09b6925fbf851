"""Near the timeout, requests without an answer are asked through the Messages API: all rows are there in time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.exceptions import BatchIncompleteError
from airflow_claude_batch.simulator import Fault

HOUR = timedelta(hours=1)
DEADLINE = Policy(
    max_requests=4,
    timeout=HOUR,
    on_timeout="ask_directly",
    direct_reserve=timedelta(minutes=30),
    direct_concurrency=2,
)
#: No batch of the simulator ends before the timeout by itself.
SLOW = {"batch_seconds": 10 * 3600.0}


def slow_world(path: Path, **options: Any) -> World:
    return make_world(path, **{**SLOW, **options})


def paid_directly(world: World) -> int:
    count: int = world.simulator.books()["direct"]["billed_requests"]
    return count


def statuses(world: World) -> Counter[str]:
    return Counter(row["status"] for row in world.rows)


def test_slow_batches_are_canceled_and_all_rows_are_there_before_the_timeout(tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    began = world.clock.now()

    done = world.run(TEN, DEADLINE)

    assert done.failure is None
    assert statuses(world) == {"succeeded": 10}
    assert [row["index"] for row in world.rows] == list(range(10))
    assert {(row["way"], row["batch_id"]) for row in world.rows} == {("direct", None)}
    assert world.clock.now() - began < HOUR
    assert paid_directly(world) == 10
    assert world.billed == 0
    first = next(step for step in world.steps if isinstance(step, WaitStep))
    assert first.until == began + HOUR - DEADLINE.direct_reserve
    assert not [path.name for path in world.folder.path.iterdir() if path.name.startswith("direct-")]


def test_bill_is_split_by_way_and_direct_answers_cost_twice_as_much(tmp_path: Path) -> None:
    world = slow_world(tmp_path, cancel_succeeded_share=0.5)

    done = world.run(TEN, DEADLINE)

    ways = Counter(row.get("way", "batch") for row in world.rows)
    assert done.failure is None
    assert ways["direct"] == paid_directly(world) == 10 - world.billed
    assert 0 < ways["direct"] < 10
    costs: dict[str, Decimal] = {"batch": Decimal(0), "direct": Decimal(0)}
    for row in world.rows:
        costs[row.get("way", "batch")] += Decimal(row["cost_usd"])
    assert done.manifest.direct == {
        "answers": ways["direct"],
        "usd": str(costs["direct"]),
        "batch_usd": str(costs["batch"]),
        "unseen": 0,
    }
    cost = done.manifest.cost or {}
    assert Decimal(cost["usd"]) == sum(costs.values())
    one = {row.get("way", "batch"): row for row in world.rows}
    per_token = {
        way: Decimal(row["cost_usd"]) / (row["usage"]["input_tokens"] + 5 * row["usage"]["output_tokens"])
        for way, row in one.items()
    }
    assert per_token["direct"] == 2 * per_token["batch"]


def test_batches_that_end_in_time_are_not_asked_directly(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(TEN, DEADLINE)

    assert done.failure is None
    assert paid_directly(world) == 0
    assert not done.manifest.direct
    assert "way" not in world.rows[0]


def test_requests_that_the_full_queue_kept_back_are_asked_directly(tmp_path: Path) -> None:
    world = slow_world(tmp_path, queue_limit=4)

    done = world.run(TEN, DEADLINE)

    assert done.failure is None
    assert statuses(world) == {"succeeded": 10}
    assert len(done.manifest.batch_ids) == 1


def test_limit_on_the_cost_stops_asking_and_the_rows_say_why(tmp_path: Path) -> None:
    world = slow_world(tmp_path, answer=lambda params, position: "word " * 200)  # all of max_tokens
    # Room for what is estimated of the batches, but not for all requests at full price.
    policy = replace(DEADLINE, max_cost=Decimal("0.0002"))

    done = world.run(TEN, policy)

    assert isinstance(done.failure, BatchIncompleteError)
    assert "asked directly: max_cost" in str(done.failure)
    left = [row for row in world.rows if row["status"] == "canceled"]
    assert 0 < len(left) < 10
    assert all("It was not asked directly: max_cost" in row["error"]["message"] for row in left)
    assert Decimal((done.manifest.cost or {})["usd"]) <= Decimal("0.0002")
    assert paid_directly(world) == 10 - len(left)


def test_batch_that_does_not_end_is_never_asked_directly(tmp_path: Path) -> None:
    world = slow_world(tmp_path, cancel_seconds=10 * 3600.0, queue_limit=4)

    done = world.run(TEN, DEADLINE)

    assert done.failure is not None
    assert paid_directly(world) == 6
    assert [row["index"] for row in world.rows] == [4, 5, 6, 7, 8, 9]


def test_refused_request_becomes_an_errored_row_and_costs_nothing(tmp_path: Path) -> None:
    world = slow_world(
        tmp_path, outcome=lambda id_, params, n: "errored:invalid_request_error" if "3" in str(params) else None
    )

    done = world.run(TEN, replace(DEADLINE, allow_failed=1))

    assert done.failure is None
    row = world.rows[3]
    assert (row["status"], row["way"], row["error"]["type"]) == ("errored", "direct", "invalid_request_error")
    assert paid_directly(world) == 9
    assert len(world.rows) == 10


@pytest.mark.parametrize("on_lost", ["stop", "resend"])
def test_lost_response_is_asked_again_only_if_the_author_agreed(on_lost: Any, tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    world.simulator.inject(Fault(on="message", do="drop_after_accept"))

    done = world.run(TEN, replace(DEADLINE, on_lost=on_lost, direct_concurrency=1))

    assert paid_directly(world) == (11 if on_lost == "resend" else 10)
    if on_lost == "resend":
        assert done.failure is None
        return
    assert isinstance(done.failure, BatchIncompleteError)
    lost = [row for row in world.rows if row["status"] == "errored"]
    assert [row["error"]["type"] for row in lost] == ["response_lost"]
    assert statuses(world) == {"succeeded": 9, "errored": 1}


ODD = [
    pytest.param(Fault(on="message", do="status", status=529), {"succeeded": 10}, id="overloaded, then not"),
    pytest.param(Fault(on="message", do="status", status=429, retry_after=0), {"succeeded": 10}, id="rate limit"),
    pytest.param(Fault(on="message", do="drop_before_accept"), {"succeeded": 9, "errored": 1}, id="nothing came back"),
    pytest.param(Fault(on="message", do="page", status=502), {"succeeded": 9, "errored": 1}, id="page of a proxy"),
    pytest.param(Fault(on="message", do="status", status=413), {"succeeded": 9, "errored": 1}, id="too large"),
    pytest.param(Fault(on="message", do="status", status=401), {"succeeded": 10}, id="key is rotated"),
]


@pytest.mark.parametrize(("fault", "expected"), ODD)
def test_odd_response_to_one_request_costs_no_other_one(fault: Fault, expected: Any, tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    world.simulator.inject(fault)

    done = world.run(TEN, replace(DEADLINE, direct_concurrency=1, allow_failed=1))

    assert done.failure is None
    assert statuses(world) == expected
    assert [row["index"] for row in world.rows] == list(range(10))
    assert max(world.simulator.books()["direct"]["billed"].values()) == 1


def test_formats_of_rows_and_tables_have_the_way(tmp_path: Path) -> None:
    world = slow_world(tmp_path)

    done = world.run(TEN, replace(DEADLINE, results_format="csv"))

    assert done.failure is None
    text = (world.folder.path / "results.csv").read_text()
    assert text.splitlines()[0].endswith("way,exact")
    assert json.loads((world.folder.path / "manifest.json").read_bytes())["direct"]["answers"] == 10
