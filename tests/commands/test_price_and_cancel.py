"""The commands that ask the API: what batches cost, and to cancel them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from command_world import Outcome, World, call
from stored_xcoms import stored_xcoms

from airflow_claude_batch._airflow.servers import XComModel, create_session
from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY
from airflow_claude_batch._airflow.submissions import find_submissions
from airflow_claude_batch.commands import running_batches
from airflow_claude_batch.exceptions import SubmissionRecordError
from airflow_claude_batch.hooks import ClaudeHook

pytestmark = pytest.mark.airflow

PRICE = {
    "batch_id", "conn_id", "task", "status", "requests", "created_at", "ended_at", "answers", "usd", "is_complete",
    "unpriced_models", "tokens", "expected_usd", "error",
}  # fmt: skip
CANCELED = {
    "batch_id", "conn_id", "requests", "result", "error", "dag_id", "run_id", "task_id", "map_index",
}  # fmt: skip


def summary(dag_id: str, task_id: str) -> Any:
    """Return the submission of a task: its id, and the id of its batch."""
    with create_session() as session:
        found = find_submissions(session, dag_ids=[dag_id], limit=10)
    snapshot = next(each.snapshot for each in found if each.key.task_id == task_id)
    assert snapshot is not None
    return snapshot.submission_id, snapshot.parts[0].batch_id


def status(world: World, batch_id: str) -> str:
    return next(
        str(batch["processing_status"]) for batch in world.simulator.books()["batches"] if batch["id"] == batch_id
    )


@pytest.fixture
def stranger(world: World) -> str:
    """A batch that no task knows."""
    params = {"model": "claude-haiku-5-5", "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    body = json.dumps({"requests": [{"custom_id": "theirs", "params": params}]})
    with ClaudeHook("my_claude").get_conn() as client:
        return client.create_batch(body.encode()).id


def price(*arguments: str) -> Outcome:
    return call("price", *arguments, "-o", "json")


def test_price_of_an_ended_batch_is_that_of_its_rows(world: World) -> None:
    submission_id, batch_id = summary("cli_ended", "wait")
    shown = call("show", submission_id, "-o", "json").json
    outcome = price(batch_id)
    assert (outcome.status, outcome.err) == (0, "")
    (found,) = outcome.json
    assert set(found) == PRICE
    assert (found["usd"], found["is_complete"], found["answers"], found["requests"]) == (shown["cost_usd"], True, 2, 3)
    assert found["tokens"]["claude-haiku-5-5"]["output_tokens"] > 0
    assert price(submission_id).json == outcome.json
    assert call("price", batch_id).lines[1].split()[:4] == [batch_id, "ended", "3", "2"]


def test_price_of_a_running_batch_is_its_estimate(world: World) -> None:
    (found,) = price(world.open_batch).json
    assert (found["status"], found["usd"], found["is_complete"], found["conn_id"]) == (
        "in_progress",
        None,
        False,
        "my_claude",
    )
    lower, expected, upper = (Decimal(found["expected_usd"][name]) for name in ("lower", "expected", "upper"))
    assert 0 < lower <= expected <= upper
    assert "~0.0" in call("price", world.open_batch).out


def test_price_of_what_nobody_knows(world: World, stranger: str) -> None:
    outcome = price(stranger, "msgbatch_nothing")
    assert outcome.status == 1
    running, missing = outcome.json
    assert (running["task"], running["expected_usd"], running["error"]) == (None, None, None)
    assert (missing["status"], missing["usd"]) == (None, None)
    assert missing["error"]
    assert "\n" not in missing["error"]


def test_cancel_asks_and_says_what_is_billed(world: World) -> None:
    submission_id, batch_id = summary("cli_canceled", "one")
    for answer, said in ((None, "There is nobody to ask: add --yes."), ("n", "Cancel 1 message batch? [y/N]")):
        refused = call("cancel", submission_id, answer=answer)
        assert refused.status == 1
        assert f"{batch_id}: 1 request, created " in refused.err
        assert "cli_canceled / " in refused.err
        assert "is billed" in refused.err
        assert said in refused.err
        assert "not canceled" in refused.out
        assert status(world, batch_id) == "in_progress"
    done = call("cancel", submission_id, answer="y")
    assert (done.status, "canceling" in done.out) == (0, True)
    assert status(world, batch_id) in ("canceling", "ended")


def test_cancel_with_yes_as_json(world: World) -> None:
    _, batch_id = summary("cli_canceled", "two")
    _, ended = summary("cli_ended", "wait")
    outcome = call("cancel", batch_id, ended, "--yes", "-o", "json")
    assert outcome.status == 0
    results = {each["batch_id"]: each for each in outcome.json}
    assert set(results[batch_id]) == CANCELED
    assert (results[batch_id]["result"], results[batch_id]["task_id"]) == ("accepted", "two")
    assert results[ended]["result"] == "ended"


def test_a_batch_that_nobody_knows_needs_yes(world: World, stranger: str) -> None:
    refused = call("cancel", stranger, "--conn-id", "my_claude", answer="y")
    assert (refused.status, status(world, stranger)) == (1, "in_progress")
    assert f"Warning: no task of this Airflow knows {stranger}." in refused.err
    done = call("cancel", stranger, "--conn-id", "my_claude", "--yes", "-o", "json")
    assert (done.status, done.json[0]["result"], done.json[0]["dag_id"]) == (0, "accepted", None)
    assert "Warning" in done.err


def test_cancel_of_what_does_not_exist(world: World) -> None:
    missing = call("cancel", "msgbatch_nothing", "--yes")
    assert missing.status == 1
    assert "could not be canceled" in missing.out
    assert missing.err.count("\n") == 1
    impossible = call("cancel", "a b", "--yes")
    assert (impossible.status, impossible.out) == (1, "")
    assert impossible.err.startswith("'a b' is not the id of a message batch.")
    unknown_connection = call("cancel", "msgbatch_nothing", "--yes", "--conn-id", "nobody")
    assert unknown_connection.status == 1
    assert "'nobody'" in unknown_connection.err


def test_a_submission_that_has_ended_has_nothing_to_cancel(world: World) -> None:
    submission_id, _ = summary("cli_ended", "wait")
    done = call("cancel", submission_id, "-o", "json")
    assert (done.status, done.json, done.err) == (0, [], "There is no message batch to cancel.\n")


@pytest.fixture
def killed(world: World) -> Iterator[tuple[str, str]]:
    """A submission whose process was killed right after it had sent a batch, and that batch.

    Its snapshot is what it was before.
    """
    submission_id, batch_id = summary("cli_killed", "send")
    with create_session() as session:
        before = session.query(XComModel.value).filter_by(dag_id="cli_killed", key=SNAPSHOT_KEY).scalar()
    value = {**(json.loads(before) if isinstance(before, str) else before), "state": "working", "parts": []}
    write_snapshot(json.dumps(value) if isinstance(before, str) else value)
    yield submission_id, batch_id
    write_snapshot(before)


def write_snapshot(value: Any) -> None:
    with create_session() as session:
        query = stored_xcoms(session, dag_id="cli_killed", key=SNAPSHOT_KEY)
        query.update({"value": value}, synchronize_session=False)


def test_a_batch_that_only_the_ledger_knows_is_canceled_with_its_submission(
    world: World, killed: tuple[str, str]
) -> None:
    submission_id, batch_id = killed
    shown = call("cancel", submission_id, "-o", "json")
    assert [(each["batch_id"], each["result"], each["task_id"]) for each in shown.json] == [
        (batch_id, "declined", "send")
    ]
    assert status(world, batch_id) == "in_progress"


def test_a_ledger_that_cannot_be_read_is_told(killed: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise SubmissionRecordError("The submission's ledger has version 9.", "Nothing was sent now.")

    monkeypatch.setattr(running_batches, "read_ledger", fail)
    done = call("cancel", killed[0], "--yes", "-o", "json")
    assert (done.status, done.json) == (1, [])
    assert f"{killed[0]}: its ledger cannot be read, so it may have further batches: The submission's" in done.err
