"""What may stand as ``messages``, and what is refused before its elements are looked at."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from jinja2 import Undefined

from airflow_claude_batch.batch.input.containers import check_container, elements_of_text
from airflow_claude_batch.exceptions import InputError

pl = pytest.importorskip("polars")


def of_package(package: str, name: str, *bases: type, **attributes: Any) -> Any:
    """Make an object of a class that looks as if another library had it."""
    return type(name, bases, {"__module__": f"{package}.core", **attributes})()


def generated() -> Iterator[str]:
    yield "a"


async def awaited() -> list[str]:
    return ["a"]


async def yielded() -> AsyncIterator[str]:
    yield "a"


class Pair(NamedTuple):
    key: int
    prompt: str


def sqlite_row() -> Any:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute("SELECT 1 AS id, 'a' AS text").fetchone()
    finally:
        connection.close()


FRAME = pl.DataFrame({"id": [1], "text": ["a"]})
#: Iterating one gives the names of its columns.
PANDAS_FRAME = of_package("pandas", "DataFrame", list, columns=["id", "text"], to_dict=None, __array__=None, ndim=2)
SPARK_FRAME = of_package("pyspark", "DataFrame", columns=["id"], toLocalIterator=None, collect=None)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        pytest.param(None, ["messages is None: the upstream task"], id="None"),
        pytest.param(PANDAS_FRAME, ["pandas.DataFrame: a data frame", 'frame.to_dict("records")'], id="pandas"),
        pytest.param(FRAME, ["polars.DataFrame: a data frame", "frame.iter_rows(named=True)"], id="polars"),
        pytest.param(FRAME.lazy(), ["polars.LazyFrame", ".collect().iter_rows(named=True)"], id="polars, lazy"),
        pytest.param(SPARK_FRAME, ["pyspark.DataFrame", "row.asDict()"], id="pyspark"),
        pytest.param(
            of_package("sqlalchemy", "CursorResult", columns=None, mappings=None, fetchall=None),
            ["the result of a query", "result.mappings()"],
            id="result of SQLAlchemy",
        ),
        pytest.param(pa.table({"a": ["x"]}), ["pyarrow.Table", "table.to_pylist()"], id="pyarrow table"),
        pytest.param(pa.array(["x"]), ["pyarrow.StringArray", ".to_pylist()"], id="pyarrow array"),
        pytest.param(
            of_package("pandas", "RangeIndex", list, __array__=None), ["labels", "frame['text']"], id="pandas labels"
        ),
        pytest.param(
            of_package("numpy", "ndarray", list, __array__=None, ndim=2),
            ["an array of 2 dimensions", "array.tolist()"],
            id="numpy, two dimensions",
        ),
        pytest.param({"a", "b"}, ["a set, whose order changes", "sorted("], id="set"),
        pytest.param(frozenset("ab"), ["a frozenset, whose order changes", "sorted("], id="frozenset"),
        pytest.param({"prompt": "a"}, ["a single element", "messages=[…]"], id="one element"),
        pytest.param({"role": "user", "content": "a"}, ["a single element", "messages=[…]"], id="one message"),
        pytest.param({"17": "secret", "18": "b"}, ["of type dict", "for key, text in prompts.items()"], id="by key"),
        pytest.param({"id": [1], "text": ["secret"]}, ["of type dict", 'frame.to_dict("records")'], id="by column"),
        pytest.param({"requests": []}, ["the body of a create call", 'body["requests"]'], id="body of a create call"),
        pytest.param({"submission_id": "s", "batch_ids": []}, ["the manifest", "read_rows"], id="manifest"),
        pytest.param({}, ["of type dict", "Give a list"], id="empty mapping"),
        pytest.param(b'["secret"]', ["of type bytes", "Give a list"], id="bytes"),
        pytest.param(io.StringIO("secret\n"), ["an open file", "Give the path"], id="open text file"),
        pytest.param(io.BytesIO(b"secret\n"), ["an open file", "Give the path"], id="open binary file"),
        pytest.param(sqlite_row(), ["sqlite3.Row: one row", 'row[0], "prompt"'], id="one row"),
        pytest.param(Pair(1, "secret"), ["Pair: one row", 'row[0], "prompt"'], id="one named tuple"),
        pytest.param(awaited(), ["the function is async", "def instead of async def"], id="coroutine"),
        pytest.param(yielded(), ["the function is async", "def instead of async def"], id="asynchronous generator"),
        pytest.param(generated, ["of type function", "Call it"], id="function"),
        pytest.param(list, ["of type type", "Give a list"], id="class"),
        pytest.param(Undefined(name="secret"), ["messages is not defined", "Check its spelling"], id="undefined name"),
        pytest.param(7, ["of type int", "Give a list"], id="number"),
        pytest.param(
            of_package("airflow", "XComArg", iter_references=None, resolve=None), ["not resolved"], id="task output"
        ),
    ],
)
def test_container_of_something_else_is_refused_with_the_remedy(messages: Any, says: list[str]) -> None:
    with pytest.raises(InputError) as error:
        check_container(messages)

    first, _, _ = str(error.value).partition("\n")
    assert len(first) <= 120
    assert "\nNothing was sent.\n" in str(error.value)
    assert "secret" not in str(error.value)
    for words in says:
        assert words in str(error.value)


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(["a"], id="list"),
        pytest.param(("a",), id="tuple"),
        pytest.param(generated(), id="generator"),
        pytest.param(map(str, ["a"]), id="map"),
        pytest.param({"a": 1}.keys(), id="keys"),
        pytest.param({1: "a"}.values(), id="values"),
        pytest.param(FRAME["text"], id="column of polars"),
        pytest.param(of_package("pandas", "Series", list, __array__=None, ndim=1), id="column of pandas"),
        pytest.param(FRAME.iter_rows(named=True), id="rows of polars"),
    ],
)
def test_container_of_elements_is_taken(messages: Any) -> None:
    assert check_container(messages) is messages


def test_what_a_function_returned_is_named() -> None:
    with pytest.raises(InputError, match=r"^what ask returned is None\.\nNothing was sent\.\nReturn or yield"):
        check_container(None, name="what ask returned")


@pytest.mark.parametrize(
    ("text", "elements"),
    [
        pytest.param('["a", {"prompt": "b"}]', ["a", {"prompt": "b"}], id="array"),
        pytest.param(' [\n "a"\n]\n', ["a"], id="array over several lines"),
        pytest.param("[]", [], id="empty array"),
        pytest.param('{"prompt": "a"}\n{"prompt": "b"}\n', [{"prompt": "a"}, {"prompt": "b"}], id="lines"),
        pytest.param('{"prompt": "a"}', {"prompt": "a"}, id="one element"),
        pytest.param("/data/[a].jsonl", None, id="path"),
        pytest.param("[INST] a prompt", None, id="prompt in brackets"),
        pytest.param("a prompt", None, id="prompt"),
    ],
)
def test_text_of_json_holds_elements(text: str, elements: Any) -> None:
    assert elements_of_text(text) == elements


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[{'prompt': 'secret'}]", "written as Python shows it", id="as Python shows it"),
        pytest.param('[{"prompt": "secret", "x": NaN}]', "has NaN", id="NaN"),
        pytest.param('["secret",\n {"prompt": "b"', "line 2 is not JSON: it breaks off", id="cut"),
    ],
)
def test_text_that_begins_like_elements_is_refused_with_the_cause(text: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        elements_of_text(text)

    assert says in str(error.value)
    assert "secret" not in str(error.value)
