"""Messages from literals, XComs, mapped arguments and files, on Airflow."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from airflow.sdk import XComArg, task
from workbench import Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.rows import read_rows

pytestmark = pytest.mark.airflow

DATA = ["one", {"key": "k", "prompt": "{{ 1 + 1 }}"}, [{"role": "user", "content": "three"}]]


def asked(manifest: dict[str, Any]) -> list[tuple[Any, str]]:
    """Keys and prompts, as the answers repeat them."""
    rows = list(read_rows(manifest))
    assert [row.index for row in rows] == list(range(len(rows)))
    return [(row.key, str(row.text).partition("“")[2].partition("”")[0]) for row in rows]


ASKED = [(0, "one"), ("k", "{{ 1 + 1 }}"), (2, "three")]


def ask(task_id: str = "ask", **arguments: Any) -> Any:
    return SendMessageBatchOperator(task_id=task_id, wait_for_completion=True, **arguments)


def ask_mapped(task_id: str, **arguments: Any) -> Any:
    return SendMessageBatchOperator.partial(task_id=task_id, wait_for_completion=True, **arguments)


def test_elements_of_each_shape_are_answered_under_their_keys(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    message = {"role": "user", "content": "a message"}
    with bench.dag("shapes") as dag:
        ask(
            messages=[
                "a prompt",
                "42",
                message,
                [message, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "a conversation"}],
                {"key": {"any": ["json", 1, None]}, "prompt": "a key"},
                {"key": "x" * 200 + "/ä", "messages": [message]},
                {"key": 1.5, "prompt": [{"type": "text", "text": "blocks"}]},
                {"key": True, "prompt": "on {{ run_id[:6] }}", "system": "s", "max_tokens": 90},
                {"custom_id": "theirs", "params": {"max_tokens": 80, "messages": [message]}},
            ]
        )
    run = bench.run(dag)

    assert run.states == {"ask": "success"}
    assert asked(run.xcom("ask")) == [
        (0, "a prompt"),
        (1, "42"),
        (2, "a message"),
        (3, "a conversation"),
        ({"any": ["json", 1, None]}, "a key"),
        ("x" * 200 + "/ä", "a message"),
        (1.5, "blocks"),
        (True, "on manual"),
        ("theirs", "a message"),
    ]
    assert simulator.books()["billed_requests"] == 9


@pytest.mark.parametrize("native", [False, True], ids=["text DAG", "native DAG"])
def test_upstream_data_is_answered_however_it_is_passed(native: bool, bench: Workbench, claude_default: str) -> None:
    with bench.dag(f"upstream_{native}", render_template_as_native_obj=native) as dag:

        @task
        def data() -> list[Any]:
            return DATA

        @task
        def one(element: Any) -> Any:
            return element

        upstream = data()
        ask("output", messages=XComArg(upstream.operator))
        ask("taskflow", messages=upstream)
        ask("template", messages="{{ ti.xcom_pull(task_ids='data') }}")
        upstream >> dag.task_dict["template"]
        ask("nested", messages=[one.override(task_id="first")("one"), {"key": "k", "prompt": "{{ 2 * 3 }}"}])
        ask("mapped_upstream", messages=one.expand(element=upstream))
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    assert asked(run.xcom("output")) == ASKED
    assert asked(run.xcom("taskflow")) == ASKED
    assert asked(run.xcom("template")) == ASKED
    assert asked(run.xcom("nested")) == [(0, "one"), ("k", "6")]
    assert asked(run.xcom("mapped_upstream")) == ASKED


def test_each_mapped_instance_is_its_own_submission(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("mapped") as dag:

        @task
        def lists() -> list[list[Any]]:
            return [["a {{ run_id }}"], ["b", "c"]]

        @task
        def kwargs() -> list[dict[str, Any]]:
            return [{"messages": ["a {{ run_id }}"], "max_tokens": 50}, {"messages": DATA, "model": "claude-haiku-5-5"}]

        ask_mapped("literal").expand(messages=[["a {{ run_id }}"], ["b"]])
        ask_mapped("expanded").expand(messages=lists())
        ask_mapped("by_kwargs").expand_kwargs(kwargs())
        ask_mapped("partial", messages=["on {{ run_id[:6] }}"]).expand(model=["claude-haiku-5-5", "claude-opus-5-5"])
    run = bench.run(dag)

    assert set(run.states.values()) == {"success"}
    manifests = {name: [run.xcom(name, index) for index in (0, 1)] for name in dag.task_ids if name.endswith("ed")}
    assert [asked(manifest) for manifest in manifests["expanded"]] == [[(0, "a {{ run_id }}")], [(0, "b"), (1, "c")]]
    assert [asked(run.xcom("literal", index)) for index in (0, 1)] == [[(0, "a {{ run_id }}")], [(0, "b")]]
    assert [asked(run.xcom("by_kwargs", index)) for index in (0, 1)] == [[(0, "a {{ run_id }}")], ASKED]
    assert [asked(run.xcom("partial", index)) for index in (0, 1)] == [[(0, "on manual")], [(0, "on manual")]]
    assert len({manifest["submission_id"] for pair in manifests.values() for manifest in pair}) == 2
    assert len({manifest["results_path"] for pair in manifests.values() for manifest in pair}) == 2
    assert run.xcom("expanded", 1)["results_path"].endswith("/expanded/1/results.jsonl")


def echo(params: dict[str, Any], position: int) -> str:
    """Answers with what was asked."""
    return json.dumps(params)


@pytest.mark.parametrize("simulator", [{"answer": echo}], indirect=True)
@pytest.mark.parametrize("native", [False, True], ids=["text DAG", "native DAG"])
def test_upstream_data_in_any_field_is_not_rendered(native: bool, bench: Workbench, claude_default: str) -> None:
    data = "{{ conn.claude_default.password }}"
    kwargs = {"messages": [data], "system": data, "request_params": {"metadata": {"user_id": data}}}
    with bench.dag(f"any_field_{native}", render_template_as_native_obj=native) as dag:

        @task
        def strings() -> list[str]:
            return [data]

        @task
        def mappings() -> list[dict[str, Any]]:
            return [kwargs]

        @task(multiple_outputs=True)
        def fields() -> dict[str, Any]:
            return kwargs

        @task.claude_batch(wait_for_completion=True, model="{{ 'claude-haiku-5-5' }}", system="{{ run_id[:6] }}")
        def function(given: Any, written: str = "") -> list[Any]:
            return [text for text in (given, written) if text]

        given = fields()
        ask("one_by_one", **{name: given[name] for name in kwargs})
        ask_mapped("expanded", messages=["x"]).expand(system=strings())
        ask_mapped("by_kwargs", model="{{ 'claude-haiku-5-5' }}").expand_kwargs(mappings())
        ask_mapped("literal").expand_kwargs([{"messages": ["x"], "system": "{{ run_id[:6] }}"}])
        function.override(task_id="function_expanded").expand(given=strings())
        function.override(task_id="function_by_kwargs").partial(written="{{ run_id[:6] }}").expand_kwargs(
            strings().map(lambda text: {"given": text})
        )
    run = bench.run(dag)

    assert {state for name, state in run.states.items() if name != "fields"} == {"success"}
    for task_id, index in {"one_by_one": -1, "by_kwargs": 0}.items():
        asked_for = json.loads(str(next(read_rows(run.xcom(task_id, index))).text))
        assert asked_for["system"] == data
        assert asked_for["messages"][0]["content"] == data
        assert asked_for["metadata"]["user_id"] == data
    assert asked_for["model"] == "claude-haiku-5-5"
    system = {
        task_id: json.loads(str(next(read_rows(run.xcom(task_id, 0))).text))["system"]
        for task_id in ("expanded", "literal", "function_expanded")
    }
    assert system == {"expanded": data, "literal": "manual", "function_expanded": "manual"}
    for task_id, texts in {"function_expanded": [data], "function_by_kwargs": [data, "manual"]}.items():
        rows = [json.loads(str(row.text)) for row in read_rows(run.xcom(task_id, 0)) if row.text]
        assert [row["messages"][0]["content"] for row in rows] == texts
        assert {row["model"] for row in rows} == {"claude-haiku-5-5"}


def test_files_are_answered_line_by_line(bench: Workbench, claude_default: str, tmp_path: Any) -> None:
    lines = b"".join(json.dumps(element).encode() + b"\n" for element in DATA)
    (tmp_path / "messages.jsonl").write_bytes(lines)
    (tmp_path / "manual.jsonl.gz").write_bytes(gzip.compress(lines))
    with bench.dag("files") as dag:

        @task
        def path() -> str:
            return str(tmp_path / "messages.jsonl")

        ask("path", messages=str(tmp_path / "messages.jsonl"))
        ask("template", messages=f"file://{tmp_path}/{{{{ run_id[:6] }}}}.jsonl.gz")
        ask("upstream", messages=path())
    run = bench.run(dag)

    assert asked(run.xcom("path")) == asked(run.xcom("template")) == asked(run.xcom("upstream")) == ASKED


@pytest.mark.parametrize("simulator", [{"answer": echo}], indirect=True)
def test_dag_params_are_not_sent_and_request_params_are(bench: Workbench, claude_default: str) -> None:
    with bench.dag("params", params={"country": "DE", "metadata": "theirs"}) as dag:
        ask(
            messages=["in {{ params.country }}", {"prompt": "b", "params": {"metadata": {"user_id": "own"}}}],
            params={"city": "Ulm"},
            request_params={"metadata": {"user_id": "{{ params.city }}"}},
        )
    run = bench.run(dag)
    first, second = [json.loads(str(row.text)) for row in read_rows(run.xcom("ask"))]

    assert first == {
        "model": "claude-opus-5-5",
        "max_tokens": 4096,
        "messages": [{"role": "user", "content": "in DE"}],
        "metadata": {"user_id": "Ulm"},
    }
    assert second == {**first, "messages": [{"role": "user", "content": "b"}], "metadata": {"user_id": "own"}}
