"""What Airflow does with a ``SqlRows``: its templates, its upstream tasks, its serialized and its shown form."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, BaseOperator, task, task_group
from databases import CONN_ID, Database
from workbench import Run, Workbench

from airflow_claude_batch.exceptions import ConfigurationError, InputError
from airflow_claude_batch.sources import SqlRows

pytestmark = pytest.mark.airflow

SECRET = "a-value-that-must-not-appear"


class ReadRows(BaseOperator):
    """Returns the rows of a source, and leaves everything else to Airflow."""

    template_fields: Sequence[str] = ("rows", "other")

    def __init__(self, *, rows: SqlRows, other: Any = None, **options: Any) -> None:
        super().__init__(**options)
        self.rows = rows
        self.other = other

    def execute(self, context: Any) -> list[Any]:
        return [dict(row) for row in self.rows.rows()]


@pytest.fixture(autouse=True)
def warehouse(sqlite_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", sqlite_database.airflow_connection)
    return sqlite_database


def dag(bench: Workbench, dag_id: str, **options: Any) -> DAG:
    return DAG(dag_id, default_args={"retries": 0}, schedule=None, **options)


def shown_fields(run: Run, task_id: str, map_index: int = -1) -> dict[str, Any]:
    """Return what the UI shows under Rendered Templates."""
    from airflow_claude_batch._airflow.servers import RenderedTaskInstanceFields, TaskInstance, create_session, select
    from airflow_claude_batch._airflow.task_rows import TaskKey, is_of_task, is_task

    is_rendered = is_of_task(RenderedTaskInstanceFields)
    key = TaskKey(run.dag.dag_id, run.run.run_id, task_id, map_index)
    query = select(RenderedTaskInstanceFields.rendered_fields).join(TaskInstance, is_rendered).where(is_task(key))
    with create_session() as session:
        shown: dict[str, Any] = session.scalars(query).one()
        return shown


def test_templates_are_rendered_in_a_copy_for_each_run(bench: Workbench) -> None:
    with dag(bench, "templates") as source_dag:
        read = ReadRows(
            task_id="read",
            rows=SqlRows("{{ params.conn }}", "SELECT '{{ ds }}' AS day, :v AS v", {"v": "{{ ds_nodash }}"}),
            params={"conn": CONN_ID},
        )

    for day in (1, 2):
        run = bench.run(source_dag, logical_date=datetime(2026, 11, day, tzinfo=UTC))
        assert run.xcom("read") == [{"day": f"2026-11-0{day}", "v": f"2026110{day}"}]
    assert read.rows.sql == "SELECT '{{ ds }}' AS day, :v AS v"
    assert read.rows.parameters == {"v": "{{ ds_nodash }}"}


def test_outputs_of_tasks_among_parameters_make_upstream_tasks_and_are_resolved(bench: Workbench) -> None:
    with dag(bench, "outputs") as source_dag:

        @task
        def value() -> str:
            return "{{ ds }}"  # data is no template

        @task
        def values() -> dict[str, Any]:
            return {"v": 1, "w": "x"}

        one = ReadRows(task_id="one", rows=SqlRows(CONN_ID, "SELECT :v AS v", {"v": value()}))
        whole = ReadRows(task_id="whole", rows=SqlRows(CONN_ID, "SELECT :v AS v, :w AS w", values()))
        named = ReadRows(task_id="named", rows=SqlRows(value(), "SELECT 1 AS a"))

    assert one.upstream_task_ids == {"value"}
    assert whole.upstream_task_ids == {"values"}
    assert named.upstream_task_ids == {"value__1"}
    run = bench.run(source_dag)
    assert run.xcom("one") == [{"v": "{{ ds }}"}]
    assert run.xcom("whole") == [{"v": 1, "w": "x"}]
    assert run.states["named"] == "failed"
    assert "no connection '{{ ds }}'" in run.error("named")


def test_mapped_tasks_share_a_source_or_have_their_own(bench: Workbench) -> None:
    with dag(bench, "mapped") as source_dag:

        @task
        def value() -> str:
            return "up"

        v = value()
        ReadRows.partial(
            task_id="shared", rows=SqlRows(CONN_ID, "SELECT '{{ ti.map_index }}' AS i, :v AS v", {"v": v})
        ).expand(other=["a", "b"])
        ReadRows.partial(task_id="own").expand(
            rows=[SqlRows(CONN_ID, "SELECT '{{ ti.map_index }}' AS i"), SqlRows(CONN_ID, "SELECT :v AS v", {"v": v})]
        )
        ReadRows.partial(task_id="keywords").expand_kwargs(
            [
                {"rows": SqlRows(CONN_ID, "SELECT '{{ ti.map_index }}' AS i")},
                {"rows": SqlRows(CONN_ID, "SELECT 2 AS i")},
            ]
        )

    run = bench.run(source_dag)

    assert set(run.states.values()) == {"success"}
    assert [run.xcom("shared", index) for index in (0, 1)] == [[{"i": "0", "v": "up"}], [{"i": "1", "v": "up"}]]
    assert [run.xcom("own", index) for index in (0, 1)] == [[{"i": "0"}], [{"v": "up"}]]
    assert [run.xcom("keywords", index) for index in (0, 1)] == [[{"i": "0"}], [{"i": 2}]]
    assert shown_fields(run, "own", 1)["rows"] == f"-- connection: {CONN_ID}, parameters: v\nSELECT :v AS v"


def test_argument_of_a_mapped_task_group_is_a_parameter(bench: Workbench) -> None:
    with dag(bench, "mapped_group") as source_dag:

        @task_group
        def group(v: Any) -> None:
            ReadRows(task_id="read", rows=SqlRows(CONN_ID, "SELECT :v AS v", {"v": v}))

        group.expand(v=["a", "b"])

    run = bench.run(source_dag)

    assert [run.xcom("group.read", index) for index in (0, 1)] == [[{"v": "a"}], [{"v": "b"}]]


def test_function_of_a_task_gets_a_rendered_source(bench: Workbench) -> None:
    with dag(bench, "function") as source_dag:

        @task
        def read(source: SqlRows) -> list[Any]:
            return list(source.rows())

        read(SqlRows(CONN_ID, "SELECT '{{ ds }}' AS day"))

    run = bench.run(source_dag, logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.xcom("read") == [{"day": "2026-11-29"}]


def test_file_of_sql_is_a_template_below_the_search_path(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "queries").mkdir()
    (tmp_path / "queries" / "tickets.sql").write_text("SELECT '{{ ds }}' AS day,\n  :v AS v\n")
    with dag(bench, "files", template_searchpath=str(tmp_path)) as source_dag:
        read = ReadRows(task_id="read", rows=SqlRows(CONN_ID, "queries/tickets.sql", {"v": "{{ ds }}"}))
        ReadRows(task_id="absent", rows=SqlRows(CONN_ID, "queries/absent.sql"))

    run = bench.run(source_dag, logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.xcom("read") == [{"day": "2026-11-29", "v": "2026-11-29"}]
    assert "SELECT '2026-11-29' AS day" in shown_fields(run, "read")["rows"]
    assert read.rows.sql == "queries/tickets.sql"
    assert run.states["absent"] == "failed"
    assert run.error("absent").startswith("rows: there is no file 'queries/absent.sql' for SqlRows.")


def test_native_templates_leave_the_query_a_text(bench: Workbench) -> None:
    with dag(bench, "native", render_template_as_native_obj=True) as source_dag:
        ReadRows(
            task_id="read",
            rows=SqlRows("{{ params.conn }}", "SELECT '{{ ds }}' AS day, :v AS v", "{{ params.wanted }}"),  # type: ignore[arg-type]
            params={"conn": CONN_ID, "wanted": {"v": 7}},
        )

    run = bench.run(source_dag, logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.xcom("read") == [{"day": "2026-11-29", "v": 7}]


def test_parameters_as_a_text_are_refused_with_the_remedy(bench: Workbench) -> None:
    with dag(bench, "text_parameters") as source_dag:
        ReadRows(
            task_id="read",
            rows=SqlRows(CONN_ID, "SELECT :v AS v", "{{ params.wanted }}"),  # type: ignore[arg-type]
            params={"wanted": {"v": SECRET}},
        )

    run = bench.run(source_dag)

    assert run.error("read").startswith("rows: parameters of SqlRows is str, not a mapping or a list.")
    assert SECRET not in run.error("read")


def test_ui_shows_the_query_and_the_names_of_parameters(bench: Workbench) -> None:
    with dag(bench, "shown") as source_dag:

        @task
        def secret() -> str:
            return SECRET

        ReadRows(
            task_id="read",
            rows=SqlRows(CONN_ID, "SELECT '{{ ds }}' AS day,\n  :a AS a, :b AS b", {"a": SECRET, "b": secret()}),
        )
        ReadRows(task_id="listed", rows=SqlRows(CONN_ID, "SELECT ? AS a", [SECRET]))

    run = bench.run(source_dag, logical_date=datetime(2026, 11, 29, tzinfo=UTC))

    assert run.states["read"] == run.states["listed"] == "success"
    assert shown_fields(run, "read")["rows"] == (
        f"-- connection: {CONN_ID}, parameters: a, b\nSELECT '2026-11-29' AS day,\n  :a AS a, :b AS b"
    )
    assert shown_fields(run, "listed")["rows"] == f"-- connection: {CONN_ID}, parameters: 1\nSELECT ? AS a"


SERIALIZED = """
import json, sys
from datetime import timedelta
from airflow.sdk import DAG, BaseOperator, task
from airflow_claude_batch._airflow.compat import AIRFLOW_VERSION
from airflow_claude_batch.sources import SqlRows
if AIRFLOW_VERSION >= (3, 2):
    from airflow.serialization.serialized_objects import DagSerialization as Serialization
else:
    from airflow.serialization.serialized_objects import SerializedDAG as Serialization

class Read(BaseOperator):
    template_fields = ("rows", "other")
    def __init__(self, *, rows, other=None, **options):
        super().__init__(**options)
        self.rows, self.other = rows, other

with DAG("parsed", schedule=None) as dag:
    @task
    def value(): ...
    v = value()
    named = {"a": "SECRET", "b": v}
    Read(task_id="read", rows=SqlRows("warehouse", "SELECT 1 AS a WHERE day = '{{ ds }}'", named))
    Read(task_id="whole", rows=SqlRows("warehouse", "SELECT 2", v))
    Read.partial(task_id="shared", rows=SqlRows("warehouse", "SELECT 3", named)).expand(other=[1, 2])
    Read.partial(task_id="own").expand(rows=[SqlRows("warehouse", "SELECT 4", named), SqlRows(v, "SELECT 5")])

print("SERIALIZED", json.dumps(Serialization.to_dict(dag), sort_keys=True, default=str))
"""


def test_serialized_dag_is_the_same_in_each_process_and_holds_no_values(tmp_path: Path) -> None:
    script = tmp_path / "parsed.py"
    script.write_text(SERIALIZED.replace('"SECRET"', repr(SECRET)))

    def serialized(seed: str) -> str:
        environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-W", "ignore", str(script)]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)
        lines = [line for line in done.stdout.splitlines() if line.startswith("SERIALIZED ")]
        assert lines, done.stderr
        return lines[-1]

    first, second = serialized("1"), serialized("2")

    assert first == second
    assert SECRET not in first
    assert "0x" not in first
    for shown in ("day = '{{ ds }}'", "SELECT 2", "SELECT 3", "SELECT 4", "SELECT 5", "parameters: a, b"):
        assert shown in first


@pytest.mark.parametrize("arguments", [("", "SELECT 1"), (CONN_ID, ""), (CONN_ID, ["SELECT 1"]), (None, "SELECT 1")])
def test_what_is_no_query_is_refused_when_the_dag_is_parsed(arguments: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"SqlRows: (conn_id|sql) must be a text"):
        SqlRows(*arguments)


def test_template_that_renders_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="rows: sql of SqlRows is an empty text"):
        SqlRows(CONN_ID, "{{ params.sql }}").rendered(lambda value: value if value == CONN_ID else " ").rows()


def test_repr_names_no_value() -> None:
    assert repr(SqlRows(CONN_ID, "SELECT :a", {"a": SECRET})) == "SqlRows('warehouse', 'SELECT :a', parameters: a)"
