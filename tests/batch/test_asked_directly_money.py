"""What requests that are asked directly may cost at most, and those that are not asked because they may be paid."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from submission_world import TEN, World, make_world, new_world

from airflow_claude_batch.batch.direct.journal import DirectJournal, read_journals
from airflow_claude_batch.batch.land.landed_parts import remove_parts
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.simulator import Fault

DEADLINE = Policy(
    max_requests=4,
    timeout=timedelta(hours=1),
    on_timeout="ask_directly",
    direct_reserve=timedelta(minutes=30),
    direct_concurrency=1,
)


def paid_directly(world: World) -> int:
    count: int = world.simulator.books()["direct"]["billed_requests"]
    return count


def test_landed_rows_that_cannot_be_read_again_yet_are_not_asked_directly(tmp_path: Path) -> None:
    quick = iter([90.0])
    world = make_world(tmp_path, batch_seconds=lambda batch: next(quick, 36_000.0))
    with world.attempt(TEN, DEADLINE) as submission:
        began = submission.ledger.attempt_began_at
        advance_until(world, submission, began + timedelta(minutes=28))
        (landed,) = submission.ledger.landed_batch_ids
        remove_parts(world.folder, must=True)
        world.simulator.inject(Fault(on="results", do="status", status=404, match=landed, times=None))
        advance_until(world, submission, began + timedelta(minutes=34))
        assert paid_directly(world) == 0
        world.simulator.clear_faults()
        done = world.finish(submission)

    assert done.failure is None
    assert [row["status"] for row in world.rows] == ["succeeded"] * 10
    assert (paid_directly(world), world.billed) == (6, 4)


def advance_until(world: World, submission: Submission, at: datetime) -> None:
    while world.clock.now() < at:
        submission.advance()
        world.clock.advance(60)


LOST = Fault(on="message", do="drop_after_accept")


@pytest.mark.parametrize(
    ("on_lost", "faults"),
    [
        pytest.param("stop", [msgspec.structs.replace(LOST, times=3)], id="after an outage"),
        pytest.param(
            "resend", [LOST, Fault(on="message", do="status", status=429, retry_after=400)], id="after a long pause"
        ),
    ],
)
def test_lost_responses_count_in_the_limit_on_the_cost(on_lost: Any, faults: list[Fault], tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=36_000, answer=lambda params, position: "word " * 200)
    world.simulator.inject(*faults)
    limit = Decimal("0.0002")

    world.run(TEN, replace(DEADLINE, max_cost=limit, on_lost=on_lost))

    (cost,) = {Decimal(row["cost_usd"]) for row in world.rows if row["status"] == "succeeded"}
    assert 0 < cost * paid_directly(world) <= limit


def test_request_whose_responses_are_always_lost_is_paid_twice_at_most(tmp_path: Path) -> None:
    world = make_world(tmp_path, batch_seconds=36_000)
    world.simulator.inject(Fault(on="message", do="drop_after_accept", times=None))

    world.run(TEN[:1], replace(DEADLINE, on_lost="resend"))

    assert sorted(world.simulator.books()["direct"]["billed"].values()) == [2]
    assert [row["error"]["type"] for row in world.rows] == ["response_lost"]


def test_second_batch_of_a_create_call_is_read_before_its_requests_are_asked_directly(tmp_path: Path) -> None:
    seconds = iter([90.0, 36_000.0])
    world = make_world(tmp_path, batch_seconds=lambda batch: next(seconds))
    world.simulator.inject(Fault(do="create_twice", on="create"))  # the second response comes back

    done = world.run(TEN, replace(DEADLINE, max_requests=10))

    assert done.failure is None
    assert (paid_directly(world), world.billed) == (0, 10)


def test_answers_of_the_store_are_not_asked_directly_by_a_try_that_goes_on_after_a_kill(tmp_path: Path) -> None:
    world = new_world(tmp_path)
    world.run(TEN, DEADLINE, store={})
    world.simulator.pace(36_000.0)
    task = world.another("two")
    with task.attempt(["another question"], DEADLINE, store={}) as killed:
        while not killed.ledger.asks_directly:
            killed._advance()
            task.clock.advance(60)

    done = task.run(TEN, DEADLINE, store={})  # its template rendered other requests

    assert done.failure is None
    assert {row["status"] for row in task.rows} == {"succeeded"}
    assert paid_directly(world) == 0


def test_answer_after_a_line_that_could_not_be_written_whole_is_in_the_journal(tmp_path: Path) -> None:
    journal = DirectJournal(HalfLine(tmp_path), "0123456789ab")
    with pytest.raises(OSError, match="no space left"):
        journal.note_answer("t-0-a", b'{"custom_id":"t-0-a","result":{"type":"succeeded"}}')
    line = b'{"custom_id":"t-1-b","result":{"type":"succeeded"}}'
    journal.note_answer("t-1-b", line)

    assert read_journals(LocalFolder(tmp_path), ["0123456789ab"]).answers == (line,)


class HalfLine(LocalFolder):
    """A disk that is full after half of the first line."""

    _is_full = True

    def append(self, name: str, data: bytes) -> None:
        if not self._is_full:
            return super().append(name, data)
        self._is_full = False
        super().append(name, data[: len(data) // 2])
        raise OSError("no space left on device")
