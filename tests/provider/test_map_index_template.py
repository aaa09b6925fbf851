"""Labels of mapped tasks: they show what the author asks for, or the task is refused before it pays."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk import get_current_context, task
from workbench import Workbench

from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sensors import MessageBatchSensor

pytestmark = pytest.mark.airflow

LISTS = [["a", "b"], [{"key": "k", "prompt": "c"}]]


def labels(run: Any, task_id: str) -> list[str]:
    return sorted(ti.rendered_map_index for ti in run.run.get_task_instances() if ti.task_id == task_id)


def mapped(task_id: str, template: str) -> Any:
    how: dict[str, Any] = {"wait_for_completion": True, "deferrable": False, "poll_interval": 0.05}
    partial = SendMessageBatchOperator.partial(task_id=task_id, map_index_template=template, system="Be brief", **how)
    return partial.expand(messages=LISTS)


def test_label_uses_rendered_fields_or_nothing_is_sent(bench: Workbench, claude_default: str, simulator: Any) -> None:
    with bench.dag("labels") as dag:
        mapped("length", "{{ task.messages|length }} of {{ task.system[:2] }}")
        mapped("broken", "{{ task.messages[0].no_such_field + 1 }}")
    run = bench.run(dag)

    assert labels(run, "length") == ["1 of Be", "2 of Be"]
    assert {run.states[f"broken[{index}]"] for index in (0, 1)} == {"failed"}
    assert run.error("broken").startswith("broken: map_index_template cannot be rendered.\nUndefinedError: ")
    assert "Nothing was sent" in run.error("broken")
    assert simulator.books()["billed_requests"] == 3


def test_label_that_a_resumed_task_cannot_render_costs_no_answer(
    bench: Workbench, claude_default: str, simulator: Any
) -> None:
    """The function sets what the label shows, and is not called again after the deferral."""
    with bench.dag("set_by_the_function") as dag:

        @task.claude_batch(
            wait_for_completion=True, deferrable=True, poll_interval=0.05, map_index_template="{{ topic.name }}"
        )
        def ask(name: str) -> list[str]:
            get_current_context()["topic"] = {"name": name}  # type: ignore[typeddict-unknown-key]
            return [f"What is {name}?"]

        first = "{{ ti.xcom_pull(task_ids='ask', map_indexes=0) }}"
        sense: dict[str, Any] = {"deferrable": False, "poke_interval": 0.05}
        wait = MessageBatchSensor(task_id="wait", batch=first, map_index_template="{{ nothing.at_all }}", **sense)
        ask.expand(name=["a tide"]) >> wait
    run = bench.run(dag)

    assert run.states == {"ask[0]": "success", "wait": "success"}
    assert simulator.books()["billed_requests"] == 1
