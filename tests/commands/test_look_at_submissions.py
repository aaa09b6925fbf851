"""The commands that look at submissions: list, show and rows, on what tasks have left in Airflow's database."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from command_world import HOSTILE, World, call

from airflow_claude_batch._airflow.states import State
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.commands.table import STATES

pytestmark = pytest.mark.airflow

#: The fields of the JSON. Programs read them, so none may vanish.
SUMMARY = {
    "submission_id", "dag_id", "run_id", "task_id", "map_index", "try_number", "task_state", "state", "detail",
    "is_open", "requests", "batches", "ended_batches", "failed", "reused", "estimated_usd", "cost_usd",
    "cost_is_complete", "created_at", "ended_at", "changed_at", "failure",
}  # fmt: skip
DETAILS = SUMMARY | {
    "conn_id", "folder", "results_path", "reason", "counts", "models", "cost", "estimate", "approval",
    "reused_answers", "usual_seconds", "parts", "task_instances",
}  # fmt: skip


def listed(*arguments: str) -> list[dict[str, Any]]:
    outcome = call("list", "--dag", "cli_ended", "--dag", "cli_open", *arguments, "-o", "json")
    assert (outcome.status, outcome.err) == (0, "")
    return list(outcome.json)


def test_the_states_of_the_option_are_all_states() -> None:
    assert tuple(map(str, State)) == STATES


def test_list_has_each_submission_once(world: World) -> None:
    running, ended = listed()
    assert set(running) == SUMMARY
    assert (running["dag_id"], running["run_id"], running["task_id"]) == ("cli_open", world.open_run, "send")
    assert (running["state"], running["is_open"], running["task_state"]) == ("stopped", True, "failed")
    assert (running["requests"], running["batches"], running["ended_batches"], running["cost_usd"]) == (2, 1, 0, None)
    assert running["failure"] is None
    # The sensor has changed last: it is shown for the submission that it shares with the operator.
    assert (ended["dag_id"], ended["task_id"], ended["state"], ended["is_open"]) == (
        "cli_ended",
        "wait",
        "ended",
        False,
    )
    assert (ended["requests"], ended["failed"], ended["cost_is_complete"]) == (3, 1, True)
    assert float(ended["cost_usd"]) > 0


@pytest.mark.parametrize(
    ("arguments", "dags"),
    [
        pytest.param(["--open"], ["cli_open"], id="open"),
        pytest.param(["--ended"], ["cli_ended"], id="ended"),
        pytest.param(["--state", "stopped"], ["cli_open"], id="state"),
        pytest.param(["--limit", "1"], ["cli_open"], id="limit"),
        pytest.param(["--day", "2001-01-01"], [], id="day"),
    ],
)
def test_list_filters(world: World, arguments: list[str], dags: list[str]) -> None:
    assert [each["dag_id"] for each in listed(*arguments)] == dags


def test_list_as_a_table(world: World) -> None:
    header, row = call("list", "--dag", "cli_ended").lines
    assert header.split()[:3] == ["submission", "state", "requests"]
    assert row.endswith(f"cli_ended / {world.ended_run} / wait")
    empty = call("list", "--dag", "nothing")
    assert (empty.status, empty.out, empty.err) == (0, "", "There is no such submission.\n")
    assert call("list", "--dag", "nothing", "-o", "json").json == []


def test_show_by_each_of_its_names(world: World) -> None:
    submission_id = listed("--open")[0]["submission_id"]
    by_task = call("show", "cli_open", world.open_run, "send", "-o", "json").json
    assert by_task == call("show", submission_id, "-o", "json").json
    assert by_task == call("show", world.open_batch, "-o", "json").json
    assert set(by_task) == DETAILS
    assert by_task["conn_id"] == "my_claude"
    assert [(part["batch_id"], part["state"], part["requests"]) for part in by_task["parts"]] == [
        (world.open_batch, "in_progress", 2)
    ]
    assert by_task["counts"] == {}  # nothing is known before the end


def test_show_has_the_bill_and_both_tasks(world: World) -> None:
    shown = call("show", "cli_ended", world.ended_run, "send", "-o", "json").json
    assert [(each["task_id"], each["task_state"]) for each in shown["task_instances"]] == [
        ("wait", "success"),
        ("send", "success"),
    ]
    assert shown["counts"] == {"succeeded": 2, "errored": 1}
    assert shown["models"]["claude-haiku-5-5"]["usd"] == shown["cost_usd"]
    text = call("show", "cli_ended", world.ended_run, "send").out
    assert "2 succeeded, 1 errored" in text
    assert "Bill by model:" in text
    assert f"{world.results}/cli_ended" in text


def test_rows_as_json_are_whole(world: World) -> None:
    rows = call("rows", "cli_ended", world.ended_run, "send", "-o", "json").json
    assert [(row["index"], row["key"], row["status"]) for row in rows] == [
        (0, "first", "succeeded"),
        (1, HOSTILE, "succeeded"),
        (2, 17, "errored"),
    ]
    assert set(rows[0]) == set(Row.__struct_fields__)
    assert rows[2]["error"]["message"] == "no\x1b[2J"


@pytest.mark.parametrize(
    ("arguments", "indices"),
    [
        pytest.param(["--status", "failed"], [2], id="failed"),
        pytest.param(["--status", "succeeded", "--status", "errored"], [0, 1, 2], id="statuses"),
        pytest.param(["--status", "expired"], [], id="none"),
        pytest.param(["--key", "17", "--key", "first"], [0, 2], id="keys"),
        pytest.param(["--key", "17", "--status", "succeeded"], [], id="key and status"),
        pytest.param(["--limit", "2"], [0, 1], id="limit"),
    ],
)
def test_rows_are_filtered(world: World, arguments: list[str], indices: list[int]) -> None:
    outcome = call("rows", "cli_ended", world.ended_run, "wait", *arguments, "-o", "json")
    assert [row["index"] for row in outcome.json] == indices


def test_rows_for_people_and_spreadsheets(world: World) -> None:
    table = call("rows", "cli_ended", world.ended_run, "send", is_terminal=True)
    assert all(line.isprintable() for line in table.lines[1:])  # the first has the emphasis
    assert "invalid_requ" in table.out
    text = call("rows", "cli_ended", world.ended_run, "send", "-o", "csv").out
    first, hostile, failed = csv.DictReader(io.StringIO(text, newline=""))
    assert (first["key"], first["cost_usd"][:3], hostile["key"]) == ("first", "0.0", f"'{HOSTILE}")
    assert (failed["key"], failed["error_type"], failed["text"]) == ("17", "invalid_request_error", "")


def test_rows_of_a_path(world: World) -> None:
    path = f"{world.results}/cli_ended/{world.ended_run}/send"
    assert len(call("rows", path, "-o", "json").json) == 3
    missing = call("rows", f"{path}/other", "-o", "json")
    assert (missing.status, missing.out) == (1, "")
    assert missing.err.startswith(f"{path}/other is no results file")
    assert missing.err.count("\n") == 1


def test_rows_of_a_submission_that_has_none(world: World) -> None:
    outcome = call("rows", world.open_batch)
    assert (outcome.status, outcome.out) == (1, "")
    assert "results.jsonl is not there. Nothing is landed yet" in outcome.err


@pytest.mark.parametrize("command", ["show", "rows"])
@pytest.mark.parametrize(
    ("names", "status", "said"),
    [
        pytest.param(["nothing"], 1, "No task instance of this Airflow knows nothing.", id="unknown id"),
        pytest.param(["%"], 1, "No task instance of this Airflow knows %.", id="a pattern of SQL"),
        pytest.param(["\x1b[2J\n"], 1, "No task instance of this Airflow knows \\x1b[2J", id="control characters"),
        pytest.param(["a", "b", "c"], 1, "a / b / c has no submission, or is not in this Airflow.", id="unknown task"),
        pytest.param(["a", "b"], 2, "Give one id, or a DAG, a run and a task, not 2 names.", id="two names"),
    ],
)
def test_what_does_not_exist_is_said_in_one_line(
    world: World, command: str, names: list[str], status: int, said: str
) -> None:
    outcome = call(command, *names)
    assert (outcome.status, outcome.out) == (status, "")
    assert outcome.err.startswith(said)
    assert outcome.err.count("\n") == 1


def test_a_database_that_fails_is_said_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_claude_batch._airflow.servers import create_session
    from airflow_claude_batch.commands import list_submissions

    def broken(*arguments: Any, **options: Any) -> Any:
        with create_session() as session:
            yield from session.execute(list_submissions_text("SELECT * FROM no_such_table"))

    from sqlalchemy import text as list_submissions_text

    monkeypatch.setattr(list_submissions, "iterate_submissions", broken)
    outcome = call("list")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("Airflow's database cannot be used. OperationalError: no such table: no_such_table. ")
    assert outcome.err.count("\n") == 1
    assert "Check AIRFLOW_HOME" in outcome.err
