"""``rows=`` on the operator and on ``@task.claude_batch``: what goes together, and what becomes of each row."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import task as airflow_task
from airflow_fixtures import KEY

from airflow_claude_batch._airflow.read_messages import iter_elements, write_input
from airflow_claude_batch._airflow.read_rows import FunctionRows
from airflow_claude_batch.batch.input.request_writer import create_request_file
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ConfigurationError, EmptyInputError, InputError, InvalidMessageError
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator
from airflow_claude_batch.sources import FileRows, SqlRows

TABLE = PriceTable.load()
TICKETS = [{"id": 7, "title": "Late", "body": "Where is {it}?"}, {"id": 8, "title": None, "body": "{{ ds }}"}]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ClaudeHook:
    connection = {"conn_type": "claude", "password": KEY, "extra": {"model": "claude-haiku-5-5"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))
    return ClaudeHook()


def operator(**arguments: Any) -> SendMessageBatchOperator:
    return SendMessageBatchOperator(task_id="label", **arguments)


def lines(hook: ClaudeHook, **arguments: Any) -> list[dict[str, Any]]:
    """Return the requests that rows give."""
    file = io.BytesIO()
    write_input(operator(**arguments).options(), hook, TABLE, file)
    return [json.loads(line) for line in file.getvalue().splitlines()]


# ---------------------------------------------------------------- what goes together


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "messages is None"),
        ({"rows": TICKETS}, "rows needs a prompt"),
        ({"rows": TICKETS, "messages": ["a"], "prompt": "{body}"}, "both messages and rows are given"),
        ({"messages": ["a"], "prompt": "{body}"}, "prompt belongs to rows, and messages is given"),
        ({"messages": ["a"], "key": "id"}, "key belongs to rows"),
        ({"messages": SqlRows("warehouse", "SELECT 1")}, "messages is a source of rows"),
        ({"prompt": "{body}"}, "prompt is given without rows"),
        ({"rows": "s3://bucket/rows.csv", "prompt": "{body}"}, "rows is of type str"),
        ({"rows": Path("/data/rows.csv"), "prompt": "{body}"}, "rows is of type PosixPath"),
        ({"rows": TICKETS[0], "prompt": "{body}"}, "rows is a mapping"),
        ({"rows": iter(TICKETS), "prompt": "{body}"}, "rows is of type list_iterator, which gives its rows only once"),
        ({"rows": (row for row in TICKETS), "prompt": "{body}"}, "rows is of type generator"),
        ({"rows": lambda: TICKETS, "prompt": "{body}"}, r"rows is a function or a class \(function\)"),
        (
            {"rows": airflow_task(lambda: TICKETS), "prompt": "{body}"},
            r"rows is a function or a class \(_TaskDecorator\)",
        ),
        ({"rows": set(), "prompt": "{body}"}, "rows is a set, whose order changes"),
        ({"rows": TICKETS, "prompt": 3}, "prompt is of type int"),
        ({"rows": TICKETS, "prompt": [{"type": "text", "text": "{body}"}]}, "prompt is of type list"),
        ({"rows": TICKETS, "prompt": "prompts/label.txt"}, "prompt is 'prompts/label.txt', the path of a file"),
        ({"rows": TICKETS, "prompt": Path("label.md")}, "prompt is 'label.md', the path of a file"),
        ({"rows": TICKETS, "prompt": "{body}", "key": ""}, "key is an empty text"),
        ({"rows": TICKETS, "prompt": "{body}", "keep": " "}, "keep is an empty text"),
        ({"rows": TICKETS, "prompt": "{body}", "key": 3}, "key must be a column's name or a list"),
        ({"rows": TICKETS, "prompt": "{body}", "key": []}, "key is an empty list"),
        ({"rows": TICKETS, "prompt": "{body}", "keep": {"id"}}, "keep must be a column's name or a list"),
        ({"rows": TICKETS, "prompt": "{body}", "files": "{uri}"}, r"files must be a list of texts, not of type str"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_when_the_dag_is_parsed(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as raised:
        operator(**arguments)
    assert str(raised.value).startswith("label: ")


def test_source_that_a_function_returns_without_a_prompt_is_refused_with_the_argument_to_give() -> None:
    with pytest.raises(InputError, match="what label returned is a source of rows, and") as raised:
        iter_elements(SqlRows("warehouse", "SELECT 1"), name="what label returned")
    assert "Nothing was sent.\nGive the text of each request" in str(raised.value)


def test_what_mapped_arguments_and_functions_lack_is_refused_when_the_task_runs(hook: ClaudeHook) -> None:
    task = operator(rows=TICKETS, prompt="{body}")
    task.prompt = None
    with pytest.raises(ConfigurationError, match="rows needs a prompt"):
        write_input(task.options(), hook, TABLE, io.BytesIO())


# ---------------------------------------------------------------- what becomes of the rows


def test_each_row_is_a_request_with_its_values_in_the_prompt(hook: ClaudeHook) -> None:
    sent = lines(hook, rows=TICKETS, prompt='<t>{title}</t> {body} Answer {"label": …}', key="id", max_tokens=9)
    assert [line["key"] for line in sent] == [7, 8]
    assert [line["params"]["messages"] for line in sent] == [
        [{"role": "user", "content": '<t>Late</t> Where is {it}? Answer {"label": …}'}],
        [{"role": "user", "content": '<t></t> {{ ds }} Answer {"label": …}'}],
    ]
    assert {line["params"]["max_tokens"] for line in sent} == {9}


def test_system_prompt_may_have_columns(hook: ClaudeHook) -> None:
    sent = lines(hook, rows=TICKETS, prompt="{body}", system="Ticket {id}. Answer as {'a': 1}.")
    assert [line["params"]["system"] for line in sent] == [
        f"Ticket {number}. Answer as {{'a': 1}}." for number in (7, 8)
    ]
    assert [line["key"] for line in sent] == [0, 1]


def test_texts_of_system_blocks_may_have_columns(hook: ClaudeHook) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    blocks = [{"type": "text", "text": "Be short.", **mark}, {"type": "text", "text": "{title}"}]
    sent = lines(hook, rows=TICKETS, prompt="{body}", system=blocks)
    assert [line["params"]["system"] for line in sent] == [
        [blocks[0], {"type": "text", "text": "Late"}],
        [blocks[0]],  # the API refuses an empty text
    ]
    with pytest.raises(InputError, match=r"^system\[1\]\.text: \{titel\} is no column of the rows"):
        lines(hook, rows=TICKETS, prompt="{body}", system=[blocks[0], {"type": "text", "text": "{titel}"}])


def test_system_prompt_of_request_params_may_have_columns(hook: ClaudeHook) -> None:
    sent = lines(hook, rows=TICKETS, prompt="{body}", request_params={"system": "{title}"})
    assert [line["params"].get("system") for line in sent] == ["Late", None]


def test_system_prompt_that_each_row_changes_is_not_marked_for_the_cache(hook: ClaudeHook) -> None:
    with pytest.raises(InputError, match="cache_system=True, but system has the column 'id'"):
        lines(hook, rows=TICKETS, prompt="{body}", system="Ticket {id}", cache_system=True)


@pytest.mark.parametrize("arguments", [{"prompt": "{text}"}, {"prompt": "a", "system": "{text}"}, {"key": "text"}])
def test_lone_surrogate_is_named_by_its_row_and_its_column(hook: ClaudeHook, arguments: dict[str, Any]) -> None:
    rows = [{"body": "a", "text": "b"}, {"body": "a", "text": "c\ud800"}]
    with pytest.raises(InvalidMessageError) as raised:
        lines(hook, **{"rows": rows, "prompt": "{body}", **arguments})
    first = "rows[1]: column 'text' holds a lone surrogate, which is not UTF-8."
    assert str(raised.value).startswith(f"{first}\nNothing was sent.\nClean the text in the query")


def test_error_about_a_request_names_the_line_of_its_row_in_a_short_line(hook: ClaudeHook, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    (folder / "rows.csv").write_text("body\na\nb\n")
    with pytest.raises(InvalidMessageError) as raised:
        lines(hook, rows=FileRows(folder / "rows.csv"), prompt="{body}", request_params={"stop_sequences": [" "]})
    first = str(raised.value).split("\n")[0]
    assert first.startswith("line 2 of ")
    assert "rows.csv: rows[0]" in first
    assert len(first) <= 120


@pytest.mark.parametrize(("argument", "value"), [("prompt", 20261129), ("prompt", ["{body}"]), ("system", 5)])
def test_what_a_native_template_gives_is_refused_with_its_argument(hook: ClaudeHook, argument: str, value: Any) -> None:
    task = operator(rows=TICKETS, prompt="{body}")
    setattr(task, argument, value)
    with pytest.raises(InputError, match=argument) as raised:
        write_input(task.options(), hook, TABLE, io.BytesIO())
    assert "Nothing was sent." in str(raised.value)


def test_key_of_too_many_digits_is_refused_with_its_column(hook: ClaudeHook) -> None:
    with pytest.raises(
        InvalidMessageError, match=r"^rows\[0\]: column 'id' holds an integer of more than 4,000 digits"
    ):
        lines(hook, rows=[{"id": 10**5000, "body": "a"}], prompt="{body}", key="id")
    assert lines(hook, rows=[{"id": 2**70, "body": "a"}], prompt="{body}", key="id")[0]["key"] == 2**70


def test_system_prompt_without_columns_is_the_same_for_all(hook: ClaudeHook) -> None:
    sent = lines(hook, rows=TICKETS, prompt="{body}", system="Be short.", cache_system=True)
    assert {json.dumps(line["params"]["system"]) for line in sent} == {
        json.dumps([{"type": "text", "text": "Be short.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
    }


def test_several_columns_are_a_key(hook: ClaudeHook) -> None:
    sent = lines(hook, rows=TICKETS[:1], prompt="{body}", key=["id", "title"])
    assert [line["key"] for line in sent] == [{"id": 7, "title": "Late"}]


def test_kept_columns_are_stored_with_their_types(hook: ClaudeHook, tmp_path: Path) -> None:
    options = operator(rows=TICKETS, prompt="{body}", key="id", keep=["title", "id"]).options()
    with create_request_file(
        tmp_path / "requests.jsonl", lambda file, index: write_input(options, hook, TABLE, file, index)
    ) as requests:
        assert requests.kept is not None
        assert requests.kept.types == {"title": "text", "id": "integer"}
        assert [json.loads(requests.kept.of(number)) for number in (0, 1)] == [
            {"title": "Late", "id": 7},
            {"title": None, "id": 8},
        ]


# ---------------------------------------------------------------- what is refused, and how the row is named


def refused(hook: ClaudeHook, **arguments: Any) -> str:
    with pytest.raises(InputError) as raised:
        lines(hook, **arguments)
    return str(raised.value)


def test_unknown_column_is_refused_with_the_columns_that_there_are(hook: ClaudeHook) -> None:
    text = refused(hook, rows=TICKETS, prompt="{titel}")
    assert "{titel}" in text
    assert "title" in text
    assert "Nothing was sent." in text


def test_row_that_is_larger_than_a_batch_is_named_as_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"model": "claude-haiku-5-5", "max_batch_bytes": 1_000_000}
    monkeypatch.setenv(
        "AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps({"conn_type": "claude", "password": KEY, "extra": extra})
    )
    text = refused(
        ClaudeHook(), rows=[*TICKETS, {"id": 9, "title": "", "body": "a" * 2_000_000}], prompt="{body}", key="id"
    )
    assert text.startswith("rows[2] (key 9): the request has 2,000,")
    assert "messages[2]" not in text


def test_kept_column_that_is_too_large_is_refused(hook: ClaudeHook) -> None:
    text = refused(
        hook, rows=[*TICKETS, {"id": 9, "title": "a" * 1_100_000, "body": "x"}], prompt="{body}", keep="title"
    )
    assert text.startswith("rows[2]: the kept columns have 1,100,")


def test_row_whose_prompt_is_blank_is_named(hook: ClaudeHook) -> None:
    assert refused(hook, rows=[*TICKETS, {"id": 9, "title": "", "body": "  "}], prompt="{body}").startswith("rows[2]")


def test_rows_with_the_same_key_are_named(hook: ClaudeHook) -> None:
    text = refused(hook, rows=[*TICKETS, {**TICKETS[0], "body": "another"}], prompt="{body}", key="id")
    assert text.startswith("rows[0] and rows[2] have the same key.")
    assert "key=['id', " in text


def test_no_rows_are_no_requests(hook: ClaudeHook) -> None:
    with pytest.raises(EmptyInputError, match="rows has no row"):
        lines(hook, rows=[], prompt="{body}")
    assert lines(hook, rows=[], prompt="{body}", on_empty="succeed") == []


def test_empty_list_of_files_that_a_task_gave_is_refused(hook: ClaudeHook) -> None:
    task = operator(rows=TICKETS, prompt="{body}", files=["/data/{id}.pdf"])
    task.files = []
    with pytest.raises(InputError, match="files must be a list of texts, not an empty list"):
        write_input(task.options(), hook, TABLE, io.BytesIO())


def test_row_keeps_the_rule_that_it_breaks(hook: ClaudeHook) -> None:
    with pytest.raises(InvalidMessageError) as raised:
        lines(hook, rows=TICKETS, prompt="{body}", request_params={"stop_sequences": [" "]})
    assert raised.value.rule
    assert str(raised.value).startswith("rows[0]")


def test_source_that_is_shown_tells_its_query_and_no_values() -> None:
    shown = str(operator(rows=SqlRows("db", "SELECT 1", {"secret": "hidden-value"}), prompt="{a}").rows.serialize())
    assert "SELECT 1" in shown
    assert "hidden-value" not in shown


@pytest.mark.parametrize(
    ("row", "options", "problem"),
    [
        pytest.param({"id": 3, "body": b"x"}, {}, r"rows\[1\]: column 'body' holds bytes", id="refused as a row"),
        pytest.param({"id": 3, "body": "\ud800"}, {}, "lone surrogate", id="refused when it is written"),
        pytest.param({"id": 3, "body": "b"}, {"request_params": {"top": 1}}, "top", id="refused as a request"),
    ],
)
def test_refused_row_closes_what_its_function_has_open(hook: ClaudeHook, row: Any, options: Any, problem: str) -> None:
    is_open = []

    def rows() -> Any:
        is_open.append(True)
        try:
            yield from [{"id": 1, "body": "a"}, row, {"id": 4, "body": "c"}]
        finally:
            is_open.clear()

    arguments = operator(rows=FunctionRows(rows, "rows"), prompt="{body}", key="id", **options).options()
    with pytest.raises(InvalidMessageError, match=problem) as caught:
        write_input(arguments, hook, TABLE, io.BytesIO())
    assert caught.value.__traceback__ is not None
    assert not is_open
