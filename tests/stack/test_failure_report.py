"""A failed test on a real Airflow says what its tasks and processes were doing."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import cast

import pytest
from failure_report import MAX_LINES, MAX_WIDTH, explain, report, reported

RAISED = [{"exc_type": "KeyError", "exc_value": "x"}]
ENTRY = {"timestamp": "2026-01-01T10:00:01.5Z", "level": "error", "event": "Task failed", "error_detail": RAISED}
LOG_LINE = json.dumps(ENTRY) + "\n"
HEARTBEAT = "2026-01-01T10:00:02Z [info     ] Adopting or resetting orphaned tasks for active dag runs\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The files of an Airflow with a run that waits, and one that has ended."""
    with closing(sqlite3.connect(tmp_path / "airflow.db")) as database, database:
        database.executescript("""
            CREATE TABLE dag_run (id, dag_id, run_id, state);
            CREATE TABLE task_instance (dag_id, run_id, task_id, map_index, state, try_number, max_tries);
            CREATE TABLE job (id, job_type, state, latest_heartbeat);
            INSERT INTO dag_run VALUES (1, 'waits', 'one', 'running'), (2, 'ended', 'two', 'success');
            INSERT INTO task_instance VALUES ('waits', 'one', 'ask', 0, 'success', 1, 1),
                ('waits', 'one', 'ask', 1, NULL, 1, 2), ('ended', 'two', 'send', -1, 'success', 1, 0);
            INSERT INTO job VALUES (1, 'SchedulerJob', 'running', '10:00:03');
        """)
    write(tmp_path / "logs/dag_id=waits/run_id=one/task_id=ask/map_index=1/attempt=1.log", LOG_LINE)
    write(tmp_path / "logs/scheduler.log", "10:00:00 [error    ] database is locked\n" + "begin\n" * 9 + HEARTBEAT * 9)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_states_and_ends_of_logs_are_named_and_unfinished_runs_come_first(home: Path) -> None:
    lines = report(home).splitlines()

    assert lines[1:4] == [
        "SchedulerJob running, last heartbeat at 10:00:03",
        "waits one (running): ask[0] success, ask[1] no state (try 1 of 3)",
        "ended two (success): send success",
    ]
    assert "10:00:01 error: Task failed KeyError: x" in lines
    assert [line for line in lines if "locked" in line] == ["10:00:00 [error    ] database is locked"]
    assert not any("orphaned" in line for line in lines)


def test_only_the_dags_of_the_test_are_reported(home: Path) -> None:
    text = report(home, ["ended"])

    assert "ended two" in text
    assert "waits" not in text


def test_report_is_short_however_much_there_is(home: Path) -> None:
    with closing(sqlite3.connect(home / "airflow.db")) as database, database:
        for number in range(100):
            database.execute("INSERT INTO dag_run VALUES (?, 'waits', ?, 'running')", (number, f"run{number}"))
            database.execute(
                "INSERT INTO task_instance VALUES ('waits', ?, 'ask', -1, 'failed', 1, 0)", (f"run{number}",)
            )
            write(home / f"logs/dag_id=waits/run_id=run{number}/task_id=ask/attempt=1.log", LOG_LINE * 100)
    for component in ("scheduler", "triggerer"):
        write(home / f"logs/{component}.log", f"[error    ] {'x' * 999}\n" * 999)

    lines = report(home).splitlines()

    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) == MAX_WIDTH
    assert "--- the last problems and the end of triggerer.log" in lines


def test_missing_database_is_named(tmp_path: Path) -> None:
    assert "The database cannot be read: unable to open database file" in report(tmp_path)


def test_error_has_the_report_once_and_only_while_airflow_runs(home: Path) -> None:
    module, error = cast(ModuleType, SimpleNamespace(DAG_ID="waits")), AssertionError("no")
    explain(error, module)
    assert not hasattr(error, "__notes__")
    with reported(home):
        explain(error, module)
        explain(error, module)
    (note,) = error.__notes__
    assert "waits one (running)" in note
    assert "ended two" not in note
