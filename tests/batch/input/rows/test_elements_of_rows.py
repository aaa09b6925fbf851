"""Each source row becomes one element of ``messages``, or an error that names the row and the column."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from batch.input.rows.listed_rows import ListedRows

from airflow_claude_batch.batch.input.checks import check_params
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.rows.elements_of_rows import RowBlocks, RowElements
from airflow_claude_batch.batch.input.rows.row_errors import row_error
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import InputError, InvalidMessageError, SourceError

ROWS = [
    {"id": 7, "day": date(2026, 11, 29), "title": "Où ?", "body": "B{id}", "price": Decimal("1.50")},
    {"id": 8, "day": date(2026, 11, 30), "title": None, "body": "C", "price": None},
]
PROMPT = "<t>{title}</t> {body}"
URI = "s3://b/a.csv"


class PageFiles:
    """Gives a block that names the value of a column. ``broken`` cannot be sent, and ``lost`` cannot be read now."""

    def __init__(self, column: str) -> None:
        self._column = column

    def bind(self, columns: Sequence[str]) -> RowBlocks:
        """Return the function that makes the blocks of a row."""
        assert self._column in columns

        def blocks(row: SourceRow) -> list[dict[str, Any]]:
            if row[self._column] == "broken":
                raise InvalidMessageError("files[0]: the PDF is broken.", "Nothing was sent.", "Write it again.")
            if row[self._column] == "lost":
                raise SourceError("files[0]: the PDF is lost.", "Nothing was sent.", "Retry.") from TimeoutError()
            return [{"type": "text", "text": f"page {row[self._column]}"}]

        return blocks


def elements(rows: list[dict[str, Any]] | None = None, **arguments: Any) -> RowElements:
    arguments = {"prompt": PROMPT} | arguments
    return RowElements(ListedRows(ROWS if rows is None else rows, uri=URI), **arguments)


def refusal(rows: list[dict[str, Any]] | None = None, **arguments: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        list(elements(rows, **arguments))
    lines = str(caught.value).split("\n")
    assert len(lines[0]) <= 120
    assert lines[1] == "Nothing was sent."
    assert len(lines) > 2
    return lines


def test_row_becomes_an_element_with_its_key_and_prompt() -> None:
    assert list(elements(key="id")) == [
        {"key": 7, "prompt": "<t>Où ?</t> B{id}"},
        {"key": 8, "prompt": "<t></t> C"},
    ]


def test_position_is_the_key_of_a_row_without_one() -> None:
    requests = [
        read_request(element, index, Defaults(model="m", max_tokens=9)) for index, element in enumerate(elements())
    ]

    assert [request.key for request in requests] == [0, 1]
    assert requests[1].params["messages"] == [{"role": "user", "content": "<t></t> C"}]


@pytest.mark.parametrize(
    ("key", "first"),
    [
        ("id", 7),
        (["id"], 7),
        ("day", "2026-11-29"),
        (["day", "id"], {"day": "2026-11-29", "id": 7}),
        (["id", "id"], 7),
    ],
)
def test_key_is_the_value_of_a_column_or_a_mapping_of_several(key: Any, first: Any) -> None:
    assert next(iter(elements(key=key)))["key"] == first


def test_system_of_a_row_has_its_columns() -> None:
    with_column = elements(ROWS[:1], system="Be {price}.")
    same_for_all = elements(ROWS[:1], system='Write {"label": ""}.')

    assert list(with_column) == [{"prompt": "<t>Où ?</t> B{id}", "system": "Be 1.50."}]
    assert "system" not in next(iter(same_for_all))


def test_row_without_a_system_prompt_has_none_of_the_operator_either() -> None:
    request = read_request(list(elements(system="{title}"))[1], 1, Defaults(model="m", max_tokens=9, system="{title}"))

    assert "system" not in request.params


def test_kept_columns_are_those_of_the_last_row() -> None:
    source = elements(keep=["price", "title", "day"])

    kept = [json.loads(source.kept or b"null") for _ in source]

    assert kept == [
        {"price": "1.50", "title": "Où ?", "day": "2026-11-29"},
        {"price": None, "title": None, "day": "2026-11-30"},
    ]
    assert [list(row) for row in kept] == [["price", "title", "day"]] * 2
    assert source.types == {"price": "decimal", "title": "text", "day": "date"}


def test_kept_columns_are_compact_and_readable() -> None:
    source = elements(ROWS[:1], keep="title")

    assert [source.kept for _ in source] == ['{"title":"Où ?"}'.encode()]


def test_all_columns_are_kept_on_request() -> None:
    source = elements(keep="*")
    list(source)

    assert list(source.types) == ["id", "day", "title", "body", "price"]


def test_nothing_is_kept_unless_it_is_asked_for() -> None:
    source = elements()

    assert [source.kept for _ in source] == [None, None]
    assert source.types == {}


def test_second_iteration_reads_the_source_anew() -> None:
    source = elements(key="id", keep="*")

    assert list(source) == list(source)
    assert source.types["id"] == "integer"


def test_place_is_that_of_the_last_row() -> None:
    source = elements()

    assert [source.place for _ in source] == ["line 2 of s3://b/a.csv", "line 3 of s3://b/a.csv"]


def test_files_go_before_the_text() -> None:
    source = elements(ROWS[:1], prompt="Summarize.", files=PageFiles("id"))

    assert list(source) == [{"prompt": [{"type": "text", "text": "page 7"}, {"type": "text", "text": "Summarize."}]}]


def test_error_of_a_file_names_the_row() -> None:
    rows = [{"id": 1, "title": "a"}, {"id": "broken", "title": "b"}]

    assert refusal(rows, prompt="{title}", files=PageFiles("id")) == [
        "rows[1] (line 3 of s3://b/a.csv): files[0]: the PDF is broken.",
        "Nothing was sent.",
        "Write it again.",
    ]


def test_elements_of_rows_pass_the_checks_of_requests() -> None:
    for index, element in enumerate(elements(key=["id", "day"], system="{title}", files=PageFiles("id"))):
        request = read_request(element, index, Defaults(model="claude-haiku-5-5", max_tokens=9))
        check_params(request, api_version="2026-10-21")


@pytest.mark.parametrize("missing", [None, math.nan, Decimal("NaN")])
def test_row_without_a_value_in_the_key_is_refused(missing: Any) -> None:
    rows = [ROWS[0], {**ROWS[1], "day": missing}]

    lines = refusal(rows, key=["id", "day"])

    assert lines[0] == "rows[1] (line 3 of s3://b/a.csv): column 'day' of the key has no value."
    assert lines[2].startswith("Leave such rows out")


def test_value_without_a_form_is_refused_with_its_row_and_column() -> None:
    rows = [ROWS[0], {**ROWS[1], "body": b"%PDF-secret"}]

    for arguments in ({}, {"prompt": "{id}", "keep": "*"}, {"prompt": "{id}", "key": ["id", "body"]}):
        lines = refusal(rows, **arguments)
        assert lines[0] == "rows[1] (line 3 of s3://b/a.csv): column 'body' holds bytes."
        assert "files=" in lines[2]
        assert "secret" not in "".join(lines)


def test_kept_text_that_is_not_unicode_is_refused() -> None:
    rows = [{"id": 1, "title": "a", "body": ["\ud800"]}]

    assert refusal(rows, prompt="{title}", keep=["id", "body"])[0] == (
        "rows[0] (line 2 of s3://b/a.csv): column 'body' holds a lone surrogate, which is not UTF-8."
    )


def test_row_that_lacks_a_column_is_refused() -> None:
    rows = [{"id": 1, "title": "a", "body": "b"}, {"id": 2, "title": "a"}]

    for arguments in ({}, {"prompt": "{id}", "keep": "*"}, {"prompt": "{id}", "key": ["id", "body"]}):
        assert refusal(rows, **arguments)[0] == "rows[1] (line 3 of s3://b/a.csv): there is no column 'body'."


@pytest.mark.parametrize(
    ("arguments", "first", "hint"),
    [
        ({"prompt": "{titel}"}, "prompt: {titel} is no column of the rows.", "Did you mean {title}? "),
        ({"system": "{titel}"}, "system: {titel} is no column of the rows.", "Did you mean {title}? "),
        ({"key": "ID"}, "key: 'ID' is no column of the rows.", "Did you mean 'id'? "),
        ({"key": ["id", "dya"]}, "key: 'dya' is no column of the rows.", "Did you mean 'day'? "),
        ({"keep": ["customer"]}, "keep: 'customer' is no column of the rows.", ""),
        ({"prompt": "Go."}, "prompt names no column: the request of every row would be the same.", "Write the name"),
    ],
)
@pytest.mark.parametrize("has_rows", [True, False])
def test_wrong_column_is_refused_even_without_rows(
    arguments: dict[str, Any], first: str, hint: str, *, has_rows: bool
) -> None:
    source = ListedRows(ROWS if has_rows else [], columns=tuple(ROWS[0]))

    with pytest.raises(InputError) as caught:
        list(RowElements(source, **{"prompt": PROMPT, **arguments}))

    lines = str(caught.value).split("\n")
    assert lines[0] == first
    assert lines[2].startswith(hint)
    assert "'id', 'day', 'title', 'body' and 'price'" in lines[2]


def test_source_without_rows_and_columns_gives_no_elements() -> None:
    assert list(elements([], key="id", keep=["a"])) == []


def test_prompt_may_be_the_same_if_the_system_prompt_differs() -> None:
    assert next(iter(elements(prompt="Go.", system="{title}"))) == {"prompt": "Go.", "system": "Où ?"}


@pytest.mark.parametrize(
    ("prompt", "row", "problem"),
    [
        ("{body}", {"id": 1, "body": None}, "the prompt is blank, because 'body' is."),
        (" {body}\n", {"id": 1, "body": " "}, "the prompt is blank, because 'body' is."),
        ("{id}{body}", {"id": None, "body": math.nan}, "the prompt is blank, because all its columns are."),
    ],
)
def test_blank_prompt_is_refused(prompt: str, row: dict[str, Any], problem: str) -> None:
    lines = refusal([row], prompt=prompt)

    assert lines[0] == f"rows[0] (line 2 of s3://b/a.csv): {problem}"
    assert lines[2].startswith("Leave such rows out in the query")


def test_error_about_a_row_of_a_list_has_no_place() -> None:
    with pytest.raises(InvalidMessageError, match=r"^rows\[0\]: the prompt is blank"):
        list(RowElements(ListedRows([{"a": None}]), prompt="{a}"))


def test_long_place_is_cut_in_its_middle() -> None:
    first = str(row_error(3, f"line 19 of s3://bucket/{'folder/' * 40}a.csv", "x" * 40, "Nothing was sent.")).split(
        "\n"
    )[0]

    assert len(first) == 120
    assert first.startswith("rows[3] (line 19 of s3://")
    assert first.endswith(f"/a.csv): {'x' * 40}")


def test_long_problem_is_cut_at_its_end() -> None:
    first = str(row_error(3, "line 19 of s3://bucket/a.csv", "x" * 200, "Nothing was sent.")).split("\n")[0]

    assert len(first) <= 120
    assert first.startswith("rows[3] (line 19 of")
    assert first.endswith("x….")


def test_key_of_a_time_with_an_offset_is_text() -> None:
    rows = [{"at": datetime(2026, 11, 29, 10, tzinfo=UTC), "title": "a"}]

    assert next(iter(elements(rows, prompt="{title}", key="at")))["key"] == "2026-11-29T10:00:00+00:00"


def test_file_that_cannot_be_read_now_names_its_row_and_a_retry_helps() -> None:
    with pytest.raises(SourceError) as caught:
        list(elements([{"body": "a", "title": "b"}, {"body": "lost", "title": "b"}], files=PageFiles("body")))

    assert str(caught.value) == (f"rows[1] (line 3 of {URI}): files[0]: the PDF is lost.\nNothing was sent.\nRetry.")
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_refused_row_closes_the_source_while_its_error_is_held() -> None:
    open_readers = set()

    class Query(ListedRows):
        def __iter__(self) -> Iterator[SourceRow]:
            open_readers.add("reader")
            try:
                yield from super().__iter__()
            finally:
                open_readers.discard("reader")

    source = RowElements(Query([{"body": "a"}, {"body": b"x"}, {"body": "c"}]), prompt="{body}")

    with pytest.raises(InvalidMessageError) as caught:
        list(source)
    assert caught.value.__traceback__ is not None
    assert not open_readers
