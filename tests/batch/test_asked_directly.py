"""Near the timeout, requests without an answer are asked through the Messages API: all rows are there in time."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch.batch.direct.journal import DirectJournal, journal_names, read_journals, remove_journals
from airflow_claude_batch.batch.land.read_results import rows_of_file
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.batch.ledger.record import claim_ledger
from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import WaitStep
from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder
from airflow_claude_batch.batch.submission import Submission
from airflow_claude_batch.exceptions import BatchIncompleteError, BatchTimeoutError, SubmissionTakenOverError
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


def test_task_that_resumes_after_its_timeout_asks_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = slow_world(tmp_path)
    with world.attempt(TEN, DEADLINE) as submission:
        submission.advance()
        world.clock.advance(2 * 3600)
        done = world.finish(submission)

    assert isinstance(done.failure, BatchTimeoutError)
    assert "this task resumed too late" in caplog.text
    assert paid_directly(world) == 0
    assert statuses(world) == {"canceled": 10}
    assert "It was not asked directly: the timeout came first." in world.rows[0]["error"]["message"]


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


def test_limit_that_nobody_was_asked_about_holds_for_direct_requests_too(tmp_path: Path) -> None:
    world = slow_world(tmp_path, answer=lambda params, position: "word " * 200)

    done = world.run(TEN, replace(DEADLINE, approve_above=Decimal("0.0002")))

    assert isinstance(done.failure, BatchIncompleteError)
    assert "asked directly: approve_above, $0.000200, has no room" in str(done.failure)
    assert Decimal((done.manifest.cost or {})["usd"]) <= Decimal("0.0002")


def test_later_attempts_find_direct_answers_and_ask_nothing_again(tmp_path: Path) -> None:
    world = slow_world(tmp_path, cancel_succeeded_share=0.5)
    policy = replace(DEADLINE, delete_batches=True)
    first = world.run(TEN, policy)
    paid = paid_directly(world), world.billed

    for clear in (False, True):
        again = world.run(TEN, policy, clear=clear)

        assert again.is_old
        assert (again.manifest.cost, again.manifest.direct) == (first.manifest.cost, first.manifest.direct)
        assert again.manifest.responses == first.manifest.responses
    assert (paid_directly(world), world.billed) == paid
    moved = world.run(TEN[5:], policy, clear=True)
    assert moved.failure is None
    assert paid_directly(world) == paid[0]


def test_attempt_after_the_timeout_begins_with_batches_again(tmp_path: Path) -> None:
    world = slow_world(tmp_path, answer=lambda params, position: "word " * 200)
    policy = replace(DEADLINE, max_cost=Decimal("0.0002"))
    world.run(TEN, policy)
    asked = paid_directly(world)

    world.simulator.pace(90)
    done = world.run(TEN, replace(policy, max_cost=Decimal("0.01")))

    assert done.failure is None
    assert statuses(world) == {"succeeded": 10}
    assert (paid_directly(world), world.billed) == (asked, 10 - asked)


def begin_reserve(world: World, submission: Submission) -> None:
    """Advance a submission until its reserve has begun and its batches are canceled."""
    while not submission.ledger.asks_directly:
        step = submission._advance()
        if isinstance(step, WaitStep):
            world.clock.advance(60)


def test_next_process_lands_the_journal_and_says_what_was_in_flight(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = slow_world(tmp_path)
    with world.attempt(TEN, DEADLINE) as submission:
        begin_reserve(world, submission)
        journal = DirectJournal(world.folder, submission.ledger.attempt)
        ids = [submission.requests.custom_id(index, "0123456789ab") for index in range(4)]
        for index in (1, 2, 3):
            journal.note_asked(ids[index])
        message = submission.client.create_message(submission.requests.params(1))
        journal.note_answer(ids[1], message.result_line(ids[1]))
    (name,) = journal_names(world.folder)
    with (world.folder.path / name).open("ab") as file:
        file.write(message.result_line(ids[2])[:-20])  # its process was killed while it wrote
    # What it leaves in a storage that has no atomic uploads.
    (world.folder.path / f".{name}.{'0' * 32}.tmp").write_bytes(message.result_line(ids[3]))

    with world.attempt(TEN, DEADLINE) as submission:
        assert submission.ledger.asks_directly
        done = world.finish(submission)

    assert done.failure is None
    assert statuses(world) == {"succeeded": 10}
    assert paid_directly(world) == 10
    assert (done.manifest.direct or {})["unseen"] == 2
    assert "1 answer of it is landed, and not asked again. 2 requests were in flight then" in caplog.text
    assert not [path for path in world.folder.path.iterdir() if "direct-" in path.name]


def test_journaled_answer_in_an_unknown_form_is_kept_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    world = slow_world(tmp_path)
    with world.attempt(TEN, DEADLINE) as submission:
        begin_reserve(world, submission)
        journal = DirectJournal(world.folder, submission.ledger.attempt)
        custom_id = submission.requests.custom_id(1, "0123456789ab")
        journal.note_answer(custom_id, b'{"custom_id":"%b","result":["of a later release"]}' % custom_id.encode())

    done = world.run(TEN, DEADLINE)

    assert done.failure is None
    assert statuses(world) == {"succeeded": 10}
    (kept,) = (world.folder.path / "unreadable_lines.jsonl").read_text().splitlines()
    assert "of a later release" in kept
    assert "cannot be read" in caplog.text
    assert list(journal_names(world.folder)) == []


def test_second_answer_of_a_replaced_process_is_in_the_bill(tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    with world.attempt(TEN, DEADLINE) as submission:
        begin_reserve(world, submission)
        journal = DirectJournal(world.folder, submission.ledger.attempt)
        for token in ("0123456789ab", "ba9876543210"):
            custom_id = submission.requests.custom_id(0, token)
            response = submission.client.create_message(submission.requests.params(0))
            journal.note_answer(custom_id, response.result_line(custom_id))
        done = world.finish(submission)

    assert paid_directly(world) == 11
    assert (done.manifest.direct or {})["answers"] == 11
    assert len(world.rows[0]["replaced"]) == 1
    rows = [row for first in world.rows for row in (first, *first.get("replaced", ()))]
    assert Decimal((done.manifest.cost or {})["usd"]) == sum(Decimal(row["cost_usd"]) for row in rows)
    again = world.run(TEN, DEADLINE, clear=True)
    assert again.manifest.cost == done.manifest.cost


def test_process_that_was_replaced_asks_nothing_more_and_keeps_what_it_has_in_flight(tmp_path: Path) -> None:
    asked = []

    def take_over(params: dict[str, Any], position: int) -> None:
        asked.append(params)
        if len(asked) == 3:
            claim_ledger(FolderLedgerStore(world.folder))

    world = slow_world(tmp_path, answer=take_over)
    with (
        world.attempt(TEN, replace(DEADLINE, direct_concurrency=1)) as first,
        pytest.raises(SubmissionTakenOverError),
    ):
        world.finish(first)

    assert paid_directly(world) == 3
    done = world.run(TEN, DEADLINE)
    assert done.failure is None
    assert paid_directly(world) == 10


def test_journal_in_an_object_store_has_an_object_for_each_answer() -> None:
    folder = ObjectFolder(fsspec.filesystem("memory"), f"/direct-{new_token()}", uri="memory://direct")
    journal = DirectJournal(folder, "0123456789ab")
    journal.note_asked("t-0-a")
    journal.note_asked("t-1-b")
    journal.note_answer("t-0-a", b'{"custom_id":"t-0-a","result":{"type":"succeeded"}}')
    journal.note_asked("t-2-c")

    found = read_journals(folder, ["0123456789ab"])

    assert found.answers == (b'{"custom_id":"t-0-a","result":{"type":"succeeded"}}',)
    assert found.in_flight == ("t-1-b", "t-2-c")
    assert len(found.names) == 2
    assert read_journals(folder, ["another"]).names == ()
    remove_journals(folder, found.names)
    assert folder.names() == []


def test_answer_that_cannot_be_written_down_stops_asking_and_is_landed_all_the_same(tmp_path: Path) -> None:
    world = slow_world(tmp_path)
    with world.attempt(TEN, replace(DEADLINE, direct_concurrency=1)) as submission:
        begin_reserve(world, submission)
        submission._memory.direct.journal.folder = FullDisk(world.folder.path, after=3)
        step = submission.advance()
        while isinstance(step, WaitStep) and paid_directly(world) == 0:
            world.clock.advance(5)
            step = submission.advance()
        assert isinstance(step, WaitStep)
        paid = paid_directly(world)
        submission._memory.direct.journal.folder = world.folder
        done = world.finish(submission)

    assert paid < 10
    assert done.failure is None
    assert paid_directly(world) == 10


class FullDisk(LocalFolder):
    """A disk to which nothing can be appended after some times."""

    def __init__(self, path: Path, *, after: int) -> None:
        super().__init__(path)
        self._left = after

    def append(self, name: str, data: bytes) -> None:
        self._left -= 1
        if self._left < 0:
            raise OSError("no space left on device")
        super().append(name, data)


def test_rows_of_a_parquet_file_have_the_way(tmp_path: Path) -> None:
    world = slow_world(tmp_path, cancel_succeeded_share=0.5)

    done = world.run(TEN, replace(DEADLINE, results_format="parquet"))

    assert done.failure is None
    rows = list(rows_of_file(world.folder, "results.parquet", path="results.parquet"))
    assert rows == [msgspec.convert(row, Row) for row in world.rows]
    assert {row.way for row in rows} == {None, "direct"}


def test_formats_of_rows_and_tables_have_the_way(tmp_path: Path) -> None:
    world = slow_world(tmp_path)

    done = world.run(TEN, replace(DEADLINE, results_format="csv"))

    assert done.failure is None
    text = (world.folder.path / "results.csv").read_text()
    assert text.splitlines()[0].endswith("way,exact")
    assert json.loads((world.folder.path / "manifest.json").read_bytes())["direct"]["answers"] == 10
