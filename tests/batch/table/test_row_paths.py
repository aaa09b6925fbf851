from __future__ import annotations

from typing import Any

import msgspec
import pytest
from table_rows import answered, failed, plan

from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.table.inspect_rows import inspect_rows
from airflow_claude_batch.batch.table.paths import ROOTS, did_you_mean, parse_path
from airflow_claude_batch.exceptions import TableError

OUTPUT = {"address": {"city": "Ulm", "zip": None}, "tags": ["a", {"b": 2}], "a b": 1}


def test_paths_may_begin_with_every_field_of_a_row_that_is_no_record_of_its_history() -> None:
    fields = {*msgspec.structs.asdict(failed(1)), "input"}
    assert set(ROOTS) == fields - {"replaced", "raw"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("key", 17),
        ("index", 0),
        ("status", "succeeded"),
        ("output", OUTPUT),
        ("output.address.city", "Ulm"),
        ("output.tags[0]", "a"),
        ("output.tags[1].b", 2),
        ("output.tags[7]", None),
        ("output.a b", 1),
        ("output.nothing?", None),
        ("output.address.city.more?", None),
        ("output[0]?", None),
        ("error.message", None),
        ("input.title", None),
    ],
)
def test_path_gives_the_value_of_a_row(path: str, value: Any) -> None:
    assert parse_path(path).value(answered(17, output=OUTPUT)) == value


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("ouput.label", "A row has no field 'ouput'. Did you mean 'output'?"),
        ("", "A row has no field ''"),
        ("raw", "A row has no field 'raw'"),
        ("output..label", "there may be names and positions only"),
        ("output.", "there may be names and positions only"),
        ("output[-1]", "there may be names and positions only"),
        ("output[x]", "there may be names and positions only"),
        ("output[0", "there may be names and positions only"),
        ("text[0]", "'text' is a single value"),
        ("cost_usd.x", "'cost_usd' is a single value"),
    ],
)
def test_path_that_cannot_be_is_refused(path: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" + says.replace("?", r"\?") if says[0] != "t" else says):
        parse_path(path)


def test_path_below_a_reused_answer_is_empty_where_none_was_reused() -> None:
    path = parse_path("reused_from.cost_usd")
    reused = msgspec.structs.replace(answered(17), reused_from={"cost_usd": "0.0041"})
    assert (path.value(reused), path.value(answered(17)), path.is_checked) == ("0.0041", None, False)


def check(rows: list[Row], **columns: str) -> int:
    """Inspect rows; return how many were read."""
    read = 0

    def counted() -> Any:
        nonlocal read
        for row in rows:
            read += 1
            yield row

    inspect_rows(counted(), plan(columns={"id": "key", **columns}), find_types=False, kept_types={})
    return read


def test_rows_are_read_until_each_path_was_seen_once() -> None:
    rows = [failed(0), answered(1, output={"a": 1}), answered(2, output={"a": 1, "b": None}), answered(3), answered(4)]

    assert check(rows, a="output.a") == 2
    assert check(rows, b="output.b") == 3
    assert check(rows, message="error.message", text="text", usd="cost_usd") == 0


def test_path_is_let_pass_if_no_row_could_have_it() -> None:
    assert check([failed(1), failed(2)], a="output.a", b="error.b") == 2
    assert check([], a="output.a") == 0
    assert check([answered(1, output={"a": None})], a="output.a.b") == 1


def test_kept_column_of_rows_without_any_is_refused_with_the_argument_that_keeps_it() -> None:
    says = "is 'input.title', but the rows have no 'input': no column was kept.\n.*\nSet keep=\\['title'\\] where"
    with pytest.raises(TableError, match=says):
        check([failed(1), answered(2)], title="input.title")
    assert check([failed(1)], title="input.title?") == 0
    assert check([], title="input.title") == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        (
            "output.lable",
            "no row has 'output.lable'.\n.*\noutput has 'label', 'score', 'address'. Did you mean 'label'\\?\n",
        ),
        ("output.address.town", "no row has 'output.address.town'.\n.*\noutput.address has 'city'.\n"),
        ("output.label.x", "no row has 'output.label.x'.\n.*\noutput.label is no object.\n"),
        ("output.label[0]", "no row has 'output.label\\[0\\]'.\n.*\noutput.label is no list.\n"),
        ("key.id", "no row has 'key.id'.\n.*\nkey is no object.\n"),
    ],
)
def test_path_that_no_row_has_is_refused_with_the_names_that_there_are(path: str, says: str) -> None:
    rows = [
        failed(1),
        answered(2, output={"label": "x"}),
        answered(3, output={"score": 1, "address": {"city": "Ulm"}}),
    ]

    with pytest.raises(TableError, match=says):
        check(rows, column=path)
    check(rows, column=path + "?")


def test_many_names_are_not_all_told() -> None:
    rows = [answered(number, output={f"name {number}": 1}) for number in range(1000)]

    with pytest.raises(TableError) as error:
        check(rows, column="output.name")
    assert len(str(error.value)) < 3000


def test_near_misses_do_not_depend_on_case() -> None:
    assert did_you_mean("LABLE", ["label"]) == " Did you mean 'label'?"
    assert did_you_mean("xyz", ["label"]) == ""
