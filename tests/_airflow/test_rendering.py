"""Rendering of ``messages`` and what the UI shows of them. Mostly without a database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import pytest
from airflow.sdk import DAG, ObjectStoragePath, Param, task

from airflow_claude_batch._airflow.rendering import HiddenValue, has_templates, unwrap
from airflow_claude_batch.operators import SendMessageBatchOperator

NATIVE = pytest.mark.parametrize("native", [False, True], ids=["text DAG", "native DAG"])
CONTEXT = {
    "ds": "2026-11-22",
    "number": 42,
    "text": "[1]",
    "items": ["a", "{{ 1 + 1 }}", {"key": "k", "prompt": "p"}],
    "blocks": [{"type": "text", "text": "hi"}],
}


class Upstream:
    """Stands for another task's output, as XComArgs do."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def iter_references(self) -> Iterator[Any]:
        return iter(())

    def resolve(self, context: Any) -> Any:
        return self.value


class CountingEnvironment(jinja2.Environment):
    """Counts the templates that are compiled."""

    compiled = 0

    def from_string(self, *args: Any, **options: Any) -> Any:
        type(self).compiled += 1
        return super().from_string(*args, **options)


@pytest.fixture
def compiled() -> type[CountingEnvironment]:
    CountingEnvironment.compiled = 0
    return CountingEnvironment


def rendered(messages: Any, *, native: bool = False, env: jinja2.Environment | None = None, **arguments: Any) -> Any:
    """The operator with its template fields rendered."""
    with DAG("rendering", render_template_as_native_obj=native, user_defined_macros={"shout": str.upper}):
        operator = SendMessageBatchOperator(task_id="t", messages=messages, **arguments)
    operator.render_template_fields(dict(CONTEXT), env)
    return operator


# ---------------------------------------------------------------- what is rendered


@NATIVE
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param(["on {{ ds }}"], ["on 2026-11-22"], id="prompt"),
        pytest.param(["42", "[1]", "{'a': 1}", "None"], ["42", "[1]", "{'a': 1}", "None"], id="prompts like objects"),
        pytest.param(["{{ number }}"], ["42"], id="prompt of a number"),
        pytest.param(["{{ text }}"], ["[1]"], id="prompt of a text that looks like a list"),
        pytest.param(["{{ number }}{{ number }}"], ["4242"], id="prompt of two numbers"),
        pytest.param([{"role": "user", "content": "{{ ds }}"}], [{"role": "user", "content": "2026-11-22"}], id="deep"),
        pytest.param(
            [({"role": "user", "content": "{{ ds }}"},)], [[{"role": "user", "content": "2026-11-22"}]], id="t"
        ),
        pytest.param(["{{ blocks }}"], [CONTEXT["blocks"]], id="object within a list"),
        pytest.param([{"key": 7, "prompt": "{{ ds }}"}], [{"key": 7, "prompt": "2026-11-22"}], id="number beside"),
        pytest.param(["{% if number %}yes{% endif %}"], ["yes"], id="statement"),
        pytest.param(["{# hidden #}shown"], ["shown"], id="comment"),
        pytest.param(["{{ shout('a') }} {{ ds | upper }}"], ["A 2026-11-22"], id="the DAG's macros"),
        pytest.param(["{{ '{{ ds }}' }}"], ["{{ ds }}"], id="once only"),
    ],
)
def test_literal_elements_are_rendered_as_text_in_any_dag(written: Any, expected: Any, native: bool) -> None:
    assert unwrap(rendered(written, native=native).messages) == expected


@NATIVE
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        pytest.param("{{ items }}", CONTEXT["items"], id="list"),
        pytest.param("{{ items[2:] }}", CONTEXT["items"][2:], id="part of a list"),
        pytest.param("['on {{ ds }}', '42']", ["on 2026-11-22", "42"], id="list written in the template"),
        pytest.param("/data/{{ ds }}.jsonl", "/data/2026-11-22.jsonl", id="path"),
    ],
)
def test_template_string_gives_the_native_object_in_any_dag(template: str, expected: Any, native: bool) -> None:
    assert unwrap(rendered(template, native=native).messages) == expected


@NATIVE
def test_data_from_a_template_string_is_not_rendered(native: bool) -> None:
    assert "{{ 1 + 1 }}" in unwrap(rendered("{{ items }}", native=native).messages)


@NATIVE
def test_upstream_output_is_not_rendered(native: bool) -> None:
    data = ["{{ 1 + 1 }}", {"prompt": "{% raise %}"}, "42"]

    assert unwrap(rendered(Upstream(data), native=native).messages) is data


def test_upstream_output_in_a_literal_list_is_not_rendered_but_literals_are() -> None:
    data = {"key": "x", "prompt": "{{ 1 + 1 }}"}

    assert unwrap(rendered([Upstream(data), "on {{ ds }}"]).messages) == [data, "on 2026-11-22"]


def test_undefined_name_fails_the_rendering() -> None:
    with pytest.raises(jinja2.UndefinedError, match="missing"):
        rendered(["{{ missing }}"])


def test_rendering_does_not_change_the_dag_literal() -> None:
    written = [{"prompt": "{{ ds }}"}]
    rendered(written)

    assert written == [{"prompt": "{{ ds }}"}]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("/data/messages.jsonl", id="text"),
        pytest.param(Path("/data/messages.jsonl"), id="Path"),
        pytest.param(ObjectStoragePath("file:///data/messages.jsonl"), id="ObjectStoragePath"),
    ],
)
def test_path_stays_a_path_whether_or_not_the_file_exists(path: Any) -> None:
    assert unwrap(rendered(path).messages) == path


def test_other_fields_are_rendered_as_airflow_does() -> None:
    operator = rendered(
        ["x"],
        model="{{ 'claude' }}-haiku-5-5",
        max_tokens="{{ number }}",
        system="It is {{ ds }}.",
        request_params={"metadata": {"user_id": "{{ ds }}"}},
        results_path="/data/{{ ds }}",
    )

    assert operator.model == "claude-haiku-5-5"
    assert operator.max_tokens == "42"
    assert unwrap(operator.system) == "It is 2026-11-22."
    assert operator.request_params == {"metadata": {"user_id": "2026-11-22"}}
    assert operator.results_path == "/data/2026-11-22"


@NATIVE
def test_text_without_templates_stays_text_in_every_field(native: bool) -> None:
    operator = rendered(["x"], native=native, system="[1]", request_params={"stop_sequences": ["42", "None"]})

    assert unwrap(operator.system) == "[1]"
    assert operator.request_params == {"stop_sequences": ["42", "None"]}


@pytest.mark.parametrize(
    ("content", "marked"),
    [
        ("a", False),
        ("{a}", False),
        ("{{ a }}", True),
        ("{% a %}", True),
        ("{# a #}", True),
        (7, False),
        (None, False),
        (["a", {"b": ("c", "{{ d }}")}], True),
        ({"{{ key }}": "a"}, False),
        (Upstream(1), True),
        (Path("a"), False),
    ],
)
def test_templates_are_found_wherever_they_are_rendered(content: Any, marked: bool) -> None:
    assert has_templates(content) is marked


# ---------------------------------------------------------------- templates of the author's that use a field


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ task.messages|length }}", "2"),
        ("{{ task.messages[0] }}", "on 2026-11-22"),
        ("{{ task.messages[1].key }}", "k"),
        ("{{ task.messages|last }}", "{'key': 'k', 'prompt': 'p'}"),
        ("{% for each in task.messages %}{{ loop.index }}{% endfor %}", "12"),
        ("{{ 'some' if task.messages else 'none' }}", "some"),
        ("{{ 'on 2026-11-22' in task.messages }}", "True"),
        ("{{ task.system[:2] }}, {{ task.system|length }} characters", "Be, 8 characters"),
        ("{{ task.messages }}", "2 elements (written in the DAG)"),
        ("{{ task.model }} {{ task.max_tokens }}", "None 4096"),
    ],
)
def test_templates_may_use_rendered_fields(template: str, expected: str) -> None:
    operator = rendered(["on {{ ds }}", {"key": "k", "prompt": "p"}], system="Be brief")

    assert operator.get_template_env().from_string(template).render({"task": operator}) == expected


@pytest.mark.parametrize("empty", [[], ""], ids=["list", "text"])
def test_an_empty_value_is_hidden_and_false(empty: Any) -> None:
    hidden = HiddenValue(empty, "given")

    assert not hidden
    assert hidden.serialize().startswith("0 ")


# ---------------------------------------------------------------- what it costs


MANY = [{"key": number, "prompt": "{{ 1 + 1 }}"} for number in range(100_000)]


def test_100_000_elements_from_upstream_compile_no_template(compiled: type[CountingEnvironment]) -> None:
    assert unwrap(rendered(Upstream(MANY), env=CountingEnvironment()).messages) is MANY
    assert compiled.compiled == 0


def test_100_000_literal_elements_without_templates_compile_none(compiled: type[CountingEnvironment]) -> None:
    literal = [{"key": number, "prompt": "hello"} for number in range(100_000)]

    assert unwrap(rendered(literal, env=CountingEnvironment()).messages) is literal
    assert compiled.compiled == 0


def test_only_literal_elements_with_templates_are_compiled(compiled: type[CountingEnvironment]) -> None:
    rendered(["a", "{{ ds }}", "b", {"prompt": "{{ ds }}"}], env=CountingEnvironment())

    assert compiled.compiled == 2


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        pytest.param(["a"] * 1234, "1,234 elements (from upstream)", id="list"),
        pytest.param("secret", "6 characters (from upstream)", id="text"),
        pytest.param(iter(["a"]), "an unknown number of elements (from upstream)", id="iterator"),
    ],
)
def test_hidden_value_shows_its_size_and_origin(value: Any, shown: str) -> None:
    unshown = HiddenValue(value, "from upstream")

    assert unshown.serialize() == str(unshown) == shown
    assert unwrap(unshown) is value
    assert "secret" not in repr(unshown)


def shown(run: Any, task_id: str, map_index: int = -1) -> dict[str, Any]:
    """The Rendered Templates of a task instance."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields

    fields = RenderedTaskInstanceFields.get_templated_fields(run.get_task_instance(task_id, map_index=map_index))
    assert fields is not None
    return dict(fields)


@pytest.mark.airflow
def test_rendered_templates_show_summaries_and_never_a_prompt(run_dag: Any, claude_default: str, tmp_path: Any) -> None:
    path = tmp_path / "secret.jsonl"
    path.write_text('"a secret"\n')
    ways = {
        "literal": ["a secret"],
        "rendered": ["a secret {{ run_id }}"],
        "template": "{{ ['a secret'] * 3 }}",
        "file": str(path),
    }
    with DAG("shown", params={"system": Param("a secret {{ 7 }}")}) as dag:

        @task
        def prompts() -> list[str]:
            return ["a secret", "another secret"]

        def send(task_id: str, **arguments: Any) -> None:
            SendMessageBatchOperator(
                task_id=task_id,
                results_path=str(tmp_path),
                model="claude-haiku-5-5",
                request_params={"metadata": {"user_id": "shown {{ 2 + 2 }}"}},
                **arguments,
            )

        for name, messages in ways.items():
            send(name, messages=messages, system="secret")
        send("upstream", messages=prompts(), system="{{ params.system }}")
        send("blocks", messages=["a secret"], system=[{"type": "text", "text": "secret {{ ds }}"}])
        SendMessageBatchOperator.partial(task_id="mapped", results_path=str(tmp_path), system="secret").expand(
            messages=[["a secret"], ["a secret", "{{ secret }}"]]
        )
    run = run_dag(dag)

    assert str(run.state) == "success"
    expected = {
        "literal": "1 element (written in the DAG)",
        "rendered": "1 element (written in the DAG)",
        "template": "3 elements (from a template)",
        "file": str(path),
        "upstream": "2 elements (from an upstream task)",
        "blocks": "1 element (written in the DAG)",
    }
    for task_id, summary in expected.items():
        fields = shown(run, task_id)
        assert fields["messages"] == summary
        assert "the system prompt" in fields["system"]
        assert fields["model"] == "claude-haiku-5-5"
        assert fields["request_params"] == {"metadata": {"user_id": "shown 4"}}
        assert "secret" not in json.dumps(fields).replace(str(path), "")
    assert [shown(run, "mapped", index)["messages"] for index in (0, 1)] == [
        "1 element (a mapped argument)",
        "2 elements (a mapped argument)",
    ]
    assert "secret" not in json.dumps(shown(run, "mapped", 1))
    assert shown(run, "upstream")["request_summary"] == (
        "2 requests, model claude-haiku-5-5 (the task's argument), max_tokens 4,096 (the default), "
        "0.05 USD per million input tokens, 0.25 output"
    )
    assert shown(run, "file")["request_summary"].startswith("requests, model claude-haiku-5-5 ")
    assert shown(run, "mapped", 1)["request_summary"].startswith("2 requests, model claude-opus-5-5 (the default), ")
