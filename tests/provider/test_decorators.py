"""The TaskFlow form: ``@task.claude_batch``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.sdk import DAG, task
from pydantic import BaseModel

from airflow_claude_batch.exceptions import ConfigurationError
from airflow_claude_batch.rows import read_rows

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_yielded_messages_are_sent_once_and_the_task_returns_the_manifest(
    deferrable: bool, run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any
) -> None:
    calls: list[str] = []
    with DAG("decorated") as dag:

        @task
        def topics() -> list[str]:
            return ["tea", "coffee"]

        @task.claude_batch(
            model="claude-haiku-5-5",
            results_path=str(tmp_path),
            wait_for_completion=True,
            deferrable=deferrable,
        )
        def questions(names: list[str], run_id: str | None = None) -> Iterator[dict[str, Any]]:
            calls.append(str(run_id))
            for name in names:
                yield {"key": name, "prompt": f"What is {name}?"}

        questions(topics())
    run = run_dag(dag)

    manifest = run.get_task_instance("questions").xcom_pull(task_ids="questions")
    assert [row["key"] for row in manifest["responses"]] == ["tea", "coffee"]
    assert simulator.books()["billed_requests"] == 2
    assert calls == [run.run_id]


SYSTEM = "You are brief."


class Fact(BaseModel):
    """The schema of an answer."""

    name: str
    year: int


def test_function_gets_its_arguments_unchanged(
    run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any
) -> None:
    """No argument is mistaken for a field of the operator that is the same object."""
    got: list[Any] = []
    with DAG("decorated_arguments") as dag:

        @task.claude_batch(results_path=str(tmp_path), system=SYSTEM)
        def question(*given: Any, **named: Any) -> list[str]:
            got.extend((*given, named))
            return ["What is tea?"]

        question("a {{ 1 + 1 }}", None, SYSTEM, ["{{ 1 + 1 }}", None, SYSTEM], named={"none": None, "system": SYSTEM})
    run = run_dag(dag)

    assert str(run.state) == "success"
    assert got[:4] == ["a 2", None, SYSTEM, ["2", None, SYSTEM]]
    assert got[4]["named"] == {"none": None, "system": SYSTEM}


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_mapped_decorated_task_uses_output_schema_and_templated_model(
    deferrable: bool, run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any
) -> None:
    with DAG("decorated_schema", params={"model": "claude-haiku-5-5"}) as dag:

        @task.claude_batch(
            model="{{ params.model }}",
            system=SYSTEM,
            output_schema=Fact,
            results_path=str(tmp_path),
            wait_for_completion=True,
            deferrable=deferrable,
        )
        def facts(names: list[str]) -> Iterator[dict[str, str]]:
            for name in names:
                yield {"key": name, "prompt": f"When was {name} found?"}

        facts.expand(names=[["tea"], ["coffee", "milk"]])
    run = run_dag(dag)

    assert str(run.state) == "success"
    manifests = [
        run.get_task_instance("facts", map_index=index).xcom_pull(task_ids="facts", map_indexes=index)
        for index in (0, 1)
    ]
    rows = [row for manifest in manifests for row in read_rows(manifest, schema=Fact)]
    assert [row.key for row in rows] == ["tea", "coffee", "milk"]
    assert {type(row.output) for row in rows} == {Fact}
    assert {row.model for row in rows} == {"claude-haiku-5-5"}


def test_decorated_task_can_be_mapped(run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any) -> None:
    with DAG("decorated_mapped") as dag:

        @task.claude_batch(results_path=str(tmp_path), wait_for_completion=True, deferrable=False)
        def question(name: str) -> list[str]:
            return [f"What is {name}?"]

        question.expand(name=["tea", "coffee", "milk"])
    run = run_dag(dag)

    assert {str(ti.state) for ti in run.get_task_instances()} == {"success"}
    assert simulator.books()["billed_requests"] == 3


def test_rendered_templates_hide_the_function_arguments(run_dag: Any, claude_default: str, tmp_path: Any) -> None:
    with DAG("decorated_shown") as dag:

        @task
        def texts() -> list[str]:
            return ["a secret", "another secret"]

        @task.claude_batch(results_path=str(tmp_path), model="claude-haiku-5-5")
        def question(*given: list[str], more: str = "") -> list[str]:
            return [*(text for texts in given for text in texts), more]

        question(texts(), more="a secret {{ run_id }}")
        question.override(task_id="mapped").expand(more=["a secret", "another secret"])
    run = run_dag(dag)

    assert str(run.state) == "success"
    shown = {
        (ti.task_id, ti.map_index): RenderedTaskInstanceFields.get_templated_fields(ti)
        for ti in run.get_task_instances()
        if ti.task_id != "texts"
    }
    assert shown["question", -1]["op_args"] == "1 element (given to the function)"
    assert shown["question", -1]["op_kwargs"] == "1 element (given to the function)"
    assert shown["mapped", 1]["op_kwargs"] == "1 element (given to the function)"
    assert "given" not in str(shown["mapped", 1]["op_args"])
    assert shown["question", -1]["model"] == "claude-haiku-5-5"
    assert "secret" not in json.dumps(list(shown.values()))


def test_messages_as_an_argument_are_refused() -> None:
    with DAG("decorated_wrongly"):

        @task.claude_batch(messages=["no"])
        def question() -> list[str]:
            return []

        with pytest.raises(TypeError, match="return or yield"):
            question()


@pytest.mark.parametrize("given", [{"key": "id"}, {"keep": ["id"]}, {"files": ["s3://bucket/{id}.pdf"]}], ids=str)
def test_arguments_of_rows_without_a_prompt_are_refused_when_the_dag_is_parsed(given: dict[str, Any]) -> None:
    with DAG("decorated_without_prompt"):

        @task.claude_batch(**given)
        def label() -> list[dict[str, Any]]:
            return [{"id": 1}]

        with pytest.raises(ConfigurationError, match=f"label: {next(iter(given))} is given without prompt") as raised:
            label()
    assert "prompt='Summarize: {body}'" in str(raised.value)
