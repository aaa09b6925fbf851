"""Rows through whole tasks: what is paid, read and shown, whatever happens between the tries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task
from workbench import Run, Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor
from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.sources import FileRows, SqlRows

pytestmark = pytest.mark.airflow

CONN_ID = "tickets_db"
SECRET = "S3CRET-{{ ds }}-{id}-{% raw %}"
WAITING: dict[str, Any] = {"wait_for_completion": True, "poll_interval": 1}


@pytest.fixture
def tickets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[sqlite3.Connection]:
    pytest.importorskip("airflow.providers.sqlite")
    path = tmp_path / "tickets.db"
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE tickets (id INTEGER, title TEXT)")
    connection.executemany("INSERT INTO tickets VALUES (?, ?)", [(number, f"t{number}") for number in range(6)])
    yield connection
    connection.close()


def label(**options: Any) -> SendMessageBatchOperator:
    rows = SqlRows(CONN_ID, "SELECT id, title FROM tickets ORDER BY id")
    defaults = {"task_id": "label", "rows": rows, "key": "id", "prompt": "<t>{title}</t>", **WAITING}
    return SendMessageBatchOperator(**{**defaults, **options})


def rows_of(run: Run, task_id: str = "label", map_index: int = -1) -> list[Any]:
    return list(read_rows(run.xcom(task_id, map_index)))


def billed(simulator: Simulator) -> int:
    """Return how many requests were paid for. None was paid for twice."""
    count: int = simulator.books()["billed_requests"]
    assert set(simulator.books()["billed"].values()) <= {1}
    return count


def shown(run: Run, task_id: str, map_index: int = -1) -> str:
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    fields = RenderedTaskInstanceFields.get_templated_fields(run.run.get_task_instance(task_id, map_index=map_index))
    return json.dumps(fields)


def test_clear_pays_only_for_what_changed(
    tickets: sqlite3.Connection, bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    with bench.dag("changed") as dag:
        label(keep=["title"])
    run = bench.run(dag)
    assert billed(simulator) == 6

    tickets.execute("UPDATE tickets SET title = 'changed' WHERE id = 3")
    run = run.again(dag, "label")
    assert billed(simulator) == 7
    assert rows_of(run)[3].input == {"title": "changed"}

    with bench.dag("changed") as dag:
        label(keep="*")
    run = run.again(dag, "label")
    assert billed(simulator) == 7
    assert rows_of(run)[3].input == {"id": 3, "title": "changed"}

    tickets.execute("DELETE FROM tickets WHERE id = 0")
    run = run.again(dag, "label")
    assert billed(simulator) == 7
    assert [row.key for row in rows_of(run)] == [1, 2, 3, 4, 5]

    with bench.dag("changed") as dag:
        label(prompt="{title}?")
    run = run.again(dag, "label")
    assert billed(simulator) == 12
    assert rows_of(run)[3].input is None


def test_resuming_after_a_deferral_does_not_read_the_source_again(
    bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    readings = []
    with bench.dag("deferred") as dag:

        @task.claude_batch(prompt="{body}", key="id", keep=["body"], deferrable=True, warm_cache=True, **WAITING)
        def label():  # type: ignore[no-untyped-def]
            readings.append(1)
            yield from ({"id": number, "body": f"b{number}"} for number in range(4))

        label()

    run = bench.run(dag)

    assert run.states["label"] == "success", bench.errors
    assert readings == [1]
    assert billed(simulator) == 4
    assert [row.input for row in rows_of(run)] == [{"body": f"b{number}"} for number in range(4)]


def test_rows_and_sources_of_mapped_tasks(
    tickets: sqlite3.Connection, bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    mine = SqlRows(CONN_ID, "SELECT id, title FROM tickets WHERE id = {{ ti.map_index }}")
    with bench.dag("mapped") as dag:
        options: dict[str, Any] = {"prompt": "{title}", "key": "title", "keep": "*", **WAITING}
        given = SendMessageBatchOperator.partial(task_id="given", **options)
        given.expand(rows=[[{"title": "{{ ds }} {title}"}], [{"title": 2}, {"title": 3}]])
        one = SendMessageBatchOperator.partial(task_id="one", rows=mine, **options)
        one.expand(max_tokens=[10, 20])
        both = SendMessageBatchOperator.partial(task_id="both", on_empty="skip", **WAITING)
        both.expand_kwargs([{"rows": [{"a": 1}], "prompt": "{a}"}, {"rows": FileRows("/absent/"), "prompt": "{a}"}])

    run = bench.run(dag)

    states = dict.fromkeys(("given[0]", "given[1]", "one[0]", "one[1]", "both[0]"), "success")
    assert run.states == {**states, "both[1]": "skipped"}, bench.errors
    assert rows_of(run, "given", 0)[0].key == "{{ ds }} {title}"
    assert [rows_of(run, "one", number)[0].input for number in (0, 1)] == [
        {"id": 0, "title": "t0"},
        {"id": 1, "title": "t1"},
    ]


def test_money_is_estimated_and_limited_before_anything_is_sent(
    tickets: sqlite3.Connection, bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    with bench.dag("money") as dag:
        label(task_id="dry", dry_run=True, keep="*")
        label(task_id="dear", max_cost=0.000001, keep="*")
    run = bench.run(dag)

    assert run.states == {"dry": "success", "dear": "failed"}
    assert run.xcom("dry")["status"] == "dry_run"
    assert "max_cost" in run.error("dear")
    assert simulator.books()["batches"] == []


@pytest.mark.parametrize("option", ["canary", "warm_cache", "deduplicate"])
def test_kept_columns_stay_with_their_rows(
    tickets: sqlite3.Connection, bench: Workbench, claude_default: str, simulator: Simulator, option: str
) -> None:
    tickets.execute("UPDATE tickets SET title = 'same' WHERE id > 2")
    with bench.dag(option) as dag:
        label(keep="*", results_format="parquet", **{option: True})
    run = bench.run(dag)

    assert run.states["label"] == "success", bench.errors
    assert [row.input["id"] for row in rows_of(run)] == list(range(6))
    assert simulator.books()["billed_requests"] == (4 if option == "deduplicate" else 6)


def test_outputs_of_tasks_and_frames_as_rows(bench: Workbench, claude_default: str, simulator: Simulator) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    values = {"id": [1, 2], "body": ["a", SECRET], "n": [1.5, None]}
    with bench.dag("outputs") as dag:

        @task
        def frame() -> Any:
            return pandas.DataFrame(values)

        @task
        def one(number: int) -> Any:
            return {column: values[number] for column, values in values.items()}

        options: dict[str, Any] = {"prompt": "<b>{body}</b> {id}", "key": "id", "keep": "*", **WAITING}
        SendMessageBatchOperator(task_id="returned", rows=frame(), **options)
        SendMessageBatchOperator(task_id="mapped", rows=one.expand(number=[0, 1]), **options)
        SendMessageBatchOperator(task_id="in_file", rows=pandas.DataFrame(values), **options)

        @task.claude_batch(**options)
        def function() -> Any:
            return polars.DataFrame(values)

        function()

    run = bench.run(dag)

    if any("cannot serialize object" in str(error) for error in bench.errors["frame"]):
        pytest.skip("This Airflow stores no frame of this version of pandas.")
    assert set(run.states.values()) == {"success"}, bench.errors
    for name in ("returned", "mapped", "in_file", "function"):
        assert [row.input for row in rows_of(run, name)] == [
            {"id": 1, "body": "a", "n": 1.5},
            {"id": 2, "body": SECRET, "n": None},
        ]
        assert "S3CRET" not in shown(run, name)


def test_lists_and_frames_that_are_not_rows_are_refused_with_the_remedy(
    bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    polars = pytest.importorskip("polars")
    with bench.dag("no_rows") as dag:

        @task
        def listed(number: int) -> Any:
            return [{"body": number}]

        SendMessageBatchOperator(task_id="lists", rows=listed.expand(number=[1, 2]), prompt="{body}", **WAITING)

        @task.claude_batch(prompt="{body}", **WAITING)
        def lazy() -> Any:
            return polars.LazyFrame({"body": ["a"]})

        lazy()

    run = bench.run(dag)

    assert run.error("lists").startswith(
        "lists: rows[0] is a list of rows, not a mapping.\nNothing was sent.\nGive one"
    )
    assert "polars.LazyFrame, which is not computed yet.\nNothing was sent.\nCompute it" in run.error("lazy")
    assert simulator.books()["batches"] == []


def test_nothing_of_the_rows_is_shown_or_logged(
    tickets: sqlite3.Connection, bench: Workbench, claude_default: str, simulator: Simulator, caplog: Any
) -> None:
    tickets.execute("UPDATE tickets SET title = ?", [SECRET])
    prompt = "On {{ ds }}: <t>{title}</t> {% raw %}{{ x }}{% endraw %}"
    with bench.dag("hidden") as dag:
        send = label(task_id="send", wait_for_completion=False, keep="*", prompt=prompt, system="S3CRET {id}")
        MessageBatchSensor(task_id="wait", batch=send.output, poke_interval=1, poll_interval=1)

    run = bench.run(dag)

    assert run.states["wait"] == "success", bench.errors
    assert [row.input for row in rows_of(run, "wait")] == [{"id": number, "title": SECRET} for number in range(6)]
    fields = shown(run, "send")
    assert "<t>{title}</t> {{ x }}" in fields
    # Airflow 3.0 itself logs each XCom that it stores, if it logs on the level DEBUG.
    records = [record for record in caplog.records if record.name.startswith("airflow_claude_batch")]
    said = "\n".join(record.getMessage() for record in records)
    assert "Read 6 requests" in said
    assert not [text for text in (fields, said) if "S3CRET" in text]


def test_prompt_is_a_text_in_a_dag_that_renders_native_objects(
    bench: Workbench, claude_default: str, simulator: Simulator
) -> None:
    with bench.dag("native", render_template_as_native_obj=True) as dag:
        label(rows=[{"id": 1, "body": "{{ ds }}"}], prompt='{"day": "{{ ds_nodash }}", "text": "{body}"}')
        label(task_id="mapped_from", rows="{{ [{'id': 1}] }}", prompt="['{id}', {{ 1 }}]")

    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}, bench.errors
    assert '"prompt": "[\'{id}\', 1]"' in shown(run, "mapped_from")
