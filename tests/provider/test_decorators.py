"""The TaskFlow form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG, task

pytestmark = pytest.mark.airflow


@pytest.mark.parametrize("deferrable", [True, False], ids=["deferred", "in the worker"])
def test_what_a_function_yields_is_sent_once_and_the_task_gives_the_manifest(
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


def test_a_decorated_task_can_be_mapped(run_dag: Any, claude_default: str, simulator: Any, tmp_path: Any) -> None:
    with DAG("decorated_mapped") as dag:

        @task.claude_batch(results_path=str(tmp_path), wait_for_completion=True, deferrable=False)
        def question(name: str) -> list[str]:
            return [f"What is {name}?"]

        question.expand(name=["tea", "coffee", "milk"])
    run = run_dag(dag)

    assert {str(ti.state) for ti in run.get_task_instances()} == {"success"}
    assert simulator.books()["billed_requests"] == 3


def test_messages_as_an_argument_are_refused() -> None:
    with DAG("decorated_wrongly"):

        @task.claude_batch(messages=["no"])
        def question() -> list[str]:
            return []

        with pytest.raises(TypeError, match="return or yield"):
            question()
