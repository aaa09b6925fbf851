"""The operator that writes rows to tables, on Airflow and with the hooks of real databases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.sql.hooks.sql import DbApiHook
from airflow.sdk import DAG
from databases import CONN_ID, UNCHECKED_PASSWORD, Database

from airflow_claude_batch._airflow.compat import AirflowFailException, BaseHook
from airflow_claude_batch.batch.input.kept_columns import KeptColumns, KeptColumnsWriter
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import ConfigurationError, ResultsError
from airflow_claude_batch.transfers import RowsToSqlOperator

ROWS: list[dict[str, Any]] = [
    {"index": 0, "key": 1, "status": "succeeded", "output": {"label": "spam"}, "cost_usd": "0.00125"},
    {"index": 1, "key": 2, "status": "errored", "error": {"type": "api_error", "message": "overloaded"}},
    {"index": 2, "key": 3, "status": "succeeded", "output": {"label": "ham"}, "cost_usd": "0"},
]
COLUMNS = {"id": "key", "label": "output.label", "usd": "cost_usd", "why_not": "error.message"}
TABLE = "CREATE TABLE ticket_labels (id INTEGER PRIMARY KEY, label VARCHAR(9), usd NUMERIC(12, 6), why_not TEXT)"


def operator(**options: Any) -> RowsToSqlOperator:
    given: dict[str, Any] = {"rows": {"responses": ROWS}, "conn_id": CONN_ID, "table": "ticket_labels"}
    return RowsToSqlOperator(task_id="load", **{"columns": COLUMNS, **given, **options})


class TaskInstance:
    """The ids that messages name."""

    task_id = "load"


def execute(**options: Any) -> dict[str, Any]:
    task = operator(**options)
    context: Any = {"ti": TaskInstance()}
    return task.execute(context)


# ------------------------------------------------------------------ on Airflow


@pytest.mark.airflow
def test_ui_shows_where_rows_are_and_none_of_their_text(
    any_database: Database, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    any_database.execute(TABLE + "")
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    manifest = {"results_path": str(path), "status": "ended", "responses": ROWS, "request_count": len(ROWS)}

    with DAG("shown_labels", schedule=None) as dag:

        @dag.task
        def wait() -> dict[str, Any]:
            return manifest

        operator(rows=wait())
    run = run_dag(dag)

    assert run.state == "success"
    (task,) = (each for each in run.get_task_instances() if each.task_id == "load")
    fields = RenderedTaskInstanceFields.get_templated_fields(task)
    assert fields["rows"] == f"{len(ROWS)} rows in {path}"
    assert any_database.query("SELECT count(*) FROM ticket_labels") == [(len(ROWS),)]


@pytest.mark.airflow
def test_dag_writes_what_an_upstream_task_returned(
    any_database: Database, run_dag: Callable[..., Any], tmp_path: Path
) -> None:
    any_database.execute(
        TABLE + "", "INSERT INTO ticket_labels VALUES (3, 'old', NULL, NULL), (9, 'other', NULL, NULL)"
    )
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))

    with DAG("labels", schedule=None) as dag:

        @dag.task(multiple_outputs=False)  # Airflow 3.0 cannot store a None among several outputs
        def wait() -> dict[str, Any]:
            return {"results_path": str(path), "status": "ended", "responses": None}

        operator(rows=wait(), table="{{ 'ticket_' }}labels", conn_id="{{ 'warehouse' }}")
    run = run_dag(dag)

    assert run.state == "success"
    assert any_database.query("SELECT id, label, why_not FROM ticket_labels ORDER BY id") == [
        (1, "spam", None),
        (2, None, "overloaded"),
        (3, "ham", None),
        (9, "other", None),
    ]
    (task,) = (each for each in run.get_task_instances() if each.task_id == "load")
    xcom = task.xcom_pull(task_ids="load")
    assert xcom == {
        "table": "ticket_labels",
        "mode": "upsert",
        "rows_written": 3,
        "rows_failed": 1,
        "rows_skipped": 0,
        "rows_deleted": 0,
    }


def test_every_mode_gives_the_same_rows_when_it_runs_twice(any_database: Database) -> None:
    for mode, where in (("upsert", None), ("insert", None), ("replace", None), ("replace", "1 = 1")):
        any_database.execute("DROP TABLE IF EXISTS ticket_labels")
        for _ in range(2):
            execute(mode=mode, replace_where=where, create_table=True, failed_rows="skip")
        assert any_database.query("SELECT id, label FROM ticket_labels ORDER BY id") == [(1, "spam"), (3, "ham")]


def test_column_gets_the_id_of_the_submission(any_database: Database) -> None:
    columns = {"run": "submission_id", "id": "key", "label": "output.label"}
    for id_ in ("dag/run1/send", "dag/run2/send", "dag/run2/send"):
        manifest = {"submission_id": id_, "responses": ROWS[:1]}
        execute(rows=manifest, columns=columns, key=["run", "id"], create_table=True)

    assert any_database.query("SELECT run, id, label FROM ticket_labels ORDER BY run") == [
        ("dag/run1/send", 1, "spam"),
        ("dag/run2/send", 1, "spam"),
    ]
    with pytest.raises(ConfigurationError, match=r"columns\['run'\] is 'submission_id', and rows is no manifest"):
        execute(rows="/data/results.jsonl", columns=columns)


def test_new_table_gets_the_types_of_kept_columns(
    sqlite_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", sqlite_database.airflow_connection)
    folder = tmp_path / "submission"
    folder.mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    writer = KeptColumnsWriter(scratch)
    writer.add(b'{"day":"2026-11-29","amount":"1.50"}')
    writer.types = {"day": "date", "amount": "decimal"}
    writer.finish()
    kept = KeptColumns.written(scratch)
    assert kept is not None
    kept.publish(LocalFolder(folder), "d" * 64)
    row = {**ROWS[0], "input": {"day": "2026-11-29", "amount": "1.50"}}
    (folder / "results.jsonl").write_text(json.dumps(row) + "\n")
    columns = {"id": "key", "day": "input.day", "amount": "input.amount"}

    manifest = {"results_path": str(folder / "results.jsonl"), "status": "ended"}
    execute(rows=manifest, columns=columns, create_table=True)

    found = sqlite_database.query("SELECT name, lower(type) FROM pragma_table_info('ticket_labels')")
    assert found == [("id", "integer"), ("day", "date"), ("amount", "numeric")]
    assert sqlite_database.query("SELECT * FROM ticket_labels") == [(1, "2026-11-29", 1.5)]


def test_manifests_with_the_same_keys_are_refused(any_database: Database) -> None:
    with pytest.raises(AirflowFailException, match="the row with key 1 has the same id as a row before it"):
        execute(rows=[{"responses": ROWS}, {"responses": ROWS}], create_table=True)


def test_log_says_what_was_written(any_database: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    execute(create_table=True)
    execute(mode="replace", failed_rows="skip")
    execute(failed_rows="skip")

    assert "Created the table ticket_labels." in caplog.text
    assert "Wrote 3 rows to ticket_labels (mode upsert). Of these, 1 row has no valid answer." in caplog.text
    assert (
        "Wrote 2 rows to ticket_labels (mode replace). Before, 2 rows were deleted. 1 row without a valid answer was "
        "left out.\n"
    ) in caplog.text
    assert "1 row without a valid answer was left out. Earlier values of these keys stay in the table." in caplog.text


def test_table_that_does_not_fit_fails_the_task_for_good(any_database: Database) -> None:
    any_database.execute("CREATE TABLE ticket_labels (id INTEGER)")

    with pytest.raises(AirflowFailException, match="load: ticket_labels has no column 'label'"):
        execute()


def test_manifest_of_a_dry_run_is_refused_in_the_words_of_read_rows(any_database: Database) -> None:
    any_database.execute(TABLE)

    with pytest.raises(ResultsError, match="read_rows got the manifest of a dry run"):
        execute(rows={"status": "dry_run"})


# ------------------------------------------------------------------ connections


def test_server_that_is_away_is_told_without_the_password(
    postgres_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {**postgres_database.fields, "port": 1}
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps(fields))

    with pytest.raises(ResultsError, match="The connection warehouse to the database could not be opened") as error:
        execute()
    assert UNCHECKED_PASSWORD not in str(error.value)
    assert "The driver's message: " in str(error.value)
    assert "refused" in str(error.value)


def test_connection_of_another_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "claude", "password": "sk-secret"}')

    with pytest.raises(ConfigurationError, match="'warehouse' has the type 'claude', which is no SQL database"):
        execute()


# ------------------------------------------------------------------ databases that the package does not know


class UnknownCursor:
    """A cursor of a driver that no module of the package knows."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        return self._cursor.execute(sql, parameters)

    def executemany(self, sql: str, rows: Any) -> Any:
        rows = [[str(value) if type(value).__name__ == "Decimal" else value for value in row] for row in rows]
        return self._cursor.executemany(sql, rows)


class UnknownConnection:
    """A connection of such a driver, which keeps its rows in SQLite."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path)

    def cursor(self) -> UnknownCursor:
        return UnknownCursor(self._connection.cursor())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


class UnknownHook(DbApiHook):
    """A hook as other providers have them."""

    conn_name_attr = "unknown_conn_id"
    default_conn_name = "unknown_default"
    conn_type = "unknown"
    hook_name = "Unknown"
    _placeholder = "?"
    path = ""

    def get_conn(self) -> Any:
        return UnknownConnection(self.path)

    def get_uri(self) -> str:
        return "unknown://"


@pytest.fixture
def unknown_database(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", '{"conn_type": "unknown"}')
    monkeypatch.setattr(UnknownHook, "path", sqlite_database.fields["host"])
    kind = type(BaseHook.get_connection("warehouse"))  # each version of Airflow has its own
    monkeypatch.setattr(kind, "get_hook", lambda self, **_: UnknownHook(CONN_ID))
    return sqlite_database


@pytest.mark.parametrize("where", [None, "id < 5"])
def test_database_that_is_not_known_is_replaced_by_plain_statements(
    unknown_database: Database, where: str | None
) -> None:
    unknown_database.execute('CREATE TABLE ticket_labels (id INTEGER, "order" TEXT, usd NUMERIC)')
    unknown_database.execute("INSERT INTO ticket_labels VALUES (1, 'old', 0), (9, 'other', 0)")

    for _ in range(2):
        execute(mode="replace", replace_where=where, columns={"id": "key", "order": "output.label", "usd": "cost_usd"})

    assert unknown_database.query("SELECT * FROM ticket_labels ORDER BY id") == [
        (1, "spam", 0.00125),
        (2, None, None),
        (3, "ham", 0),
        (9, "other", 0),
    ]


def test_upsert_into_a_database_that_is_not_known_is_refused_with_what_works(unknown_database: Database) -> None:
    unknown_database.execute(TABLE)

    with pytest.raises(AirflowFailException, match="mode='upsert' is known for PostgreSQL, MySQL") as error:
        execute()
    assert "Use mode='replace'" in str(error.value)
    assert unknown_database.query("SELECT count(*) FROM ticket_labels") == [(0,)]


def test_table_is_not_created_in_a_database_that_is_not_known(unknown_database: Database) -> None:
    with pytest.raises(AirflowFailException, match="create_table=True is known for PostgreSQL, MySQL"):
        execute(mode="replace", create_table=True)


def test_error_of_a_database_that_is_not_known_quotes_no_value(unknown_database: Database) -> None:
    unknown_database.execute(TABLE.replace("VARCHAR(9)", "TEXT CHECK (label <> 'spam')"))

    with pytest.raises(ResultsError, match="ticket_labels: the database refused a statement") as error:
        execute(mode="replace")
    assert "spam" not in str(error.value)
    assert "If this database has no transactions, rows may be missing until the task has run again." in str(error.value)


def test_table_that_is_not_known_is_named_in_the_databases_words(unknown_database: Database) -> None:
    with pytest.raises(ResultsError, match="ticket_labels: the database refused a statement") as error:
        execute(mode="replace")
    assert "It says: no such table: ticket_labels" in str(error.value)


@pytest.mark.parametrize("name", ['a"b', "a`b", "a]b", "a%b"])
def test_odd_name_is_refused_where_quoting_is_not_known(unknown_database: Database, name: str) -> None:
    quoted = name.replace('"', '""')
    unknown_database.execute(TABLE, f'ALTER TABLE ticket_labels ADD COLUMN "{quoted}" TEXT')

    with pytest.raises(AirflowFailException, match="has a character that is not taken for this database"):
        execute(mode="replace", columns={"id": "key", name: "output.label"})


# ------------------------------------------------------------------ arguments


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "merge"}, "load: mode must be 'upsert', 'insert' or 'replace', not 'merge'"),
        ({"failed_rows": "drop"}, "load: failed_rows must be 'include' or 'skip', not 'drop'"),
        ({"create_table": "no"}, "load: create_table must be True or False, not the text 'no'"),
        ({"columns": {}}, "load: columns is empty"),
        ({"columns": ["id"]}, "load: columns must be a mapping with names of columns"),
        (
            {"columns": {"id": "key", "label": "ouput.label"}},
            r"load: columns\['label'\] is 'ouput.label', which is no path into a row.\nA row has no field 'ouput'\. "
            "Did you mean 'output'",
        ),
        ({"columns": {"id": "key", "a": "output."}}, r"columns\['a'\] is 'output.', which is no path"),
        ({"columns": {"id": "key", "a": "output[x]"}}, r"columns\['a'\] is 'output\[x\]', which is no path"),
        ({"columns": {"id": "key", "a": "cost_usd.x"}}, "'cost_usd' is a single value: nothing is below it"),
        ({"columns": {"id": "key", "a": 5}}, r"columns\['a'\] is 5, which is no path"),
        ({"columns": {"label": "output.label"}}, "load: mode='upsert' needs a key, and no column gets the row's key"),
        (
            {"columns": {"label": "output.label"}, "mode": "replace"},
            "load: mode='replace' needs a key, and no column gets the row's key",
        ),
        ({"key": "nr"}, "load: key names 'nr', which is not in columns"),
        ({"key": 5}, "load: key must name columns of the table, not 5"),
        ({"replace_where": "x = 1"}, "load: replace_where needs mode='replace', not mode='upsert'"),
        ({"mode": "replace", "replace_where": " "}, "load: replace_where must be a condition in SQL, not ' '"),
        ({"table": "a..b"}, "load: table is 'a..b', which is no name of a table"),
        ({"table": None}, "load: table is None, which is no name of a table"),
        ({"constants": {"label": 1}}, "load: columns and constants both give label"),
        ({"column_types": {"x": "text"}}, "load: column_types names 'x', which is not in columns"),
        ({"column_types": {"id": 5}}, r"load: column_types\['id'\] must be a type in SQL, not 5"),
        ({"batch_rows": 0}, "load: batch_rows must be a whole number from 1, not 0"),
    ],
)
def test_argument_that_cannot_be_right_is_refused_when_the_dag_is_parsed(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        operator(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"table": "{{ params.table }}"},
        {"columns": {"label": "output.label"}, "mode": "replace", "replace_where": "day = '{{ ds }}'"},
        {"columns": {"id": "key.id", "lang": "key.lang"}, "key": ["id", "lang"]},
        {"table": '"a.b"."c d"'},
        {"columns": {"id": "input.nr"}, "key": "id"},
    ],
)
def test_argument_that_may_be_right_is_taken(options: dict[str, Any]) -> None:
    operator(**options)


def test_template_that_gives_no_condition_deletes_nothing(any_database: Database) -> None:
    any_database.execute(TABLE, "INSERT INTO ticket_labels VALUES (3, 'old', NULL, NULL)")
    task = operator(mode="replace", replace_where="{{ '' }}")
    task.render_template_fields({})
    context: Any = {"ti": TaskInstance()}

    with pytest.raises(ConfigurationError, match="replace_where must be a condition in SQL, not ''"):
        task.execute(context)
    assert any_database.query("SELECT count(*) FROM ticket_labels") == [(1,)]
