"""Rows that are given as a value: any list of mappings or records, frames and tables. Else the type and the remedy."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import sqlalchemy
from jinja2 import Undefined

from airflow_claude_batch.batch.input.rows.given_rows import open_given_rows
from airflow_claude_batch.batch.input.rows.values import json_of
from airflow_claude_batch.exceptions import InputError

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

MIDNIGHT = datetime.fromisoformat("2026-11-29")
ROWS = [{"id": 1, "text": "a"}, {"id": 2, "text": None}]


class Named(NamedTuple):
    id: int
    text: str | None


@dataclass
class Data:
    id: int
    text: str | None


class Lazy(Sequence[Any]):
    """Sequence that gets its items one by one, as the outputs of a mapped task are."""

    def __len__(self) -> int:
        return len(ROWS)

    def __getitem__(self, index: Any) -> Any:
        return ROWS[index]


def of_package(package: str, name: str, *bases: type, **attributes: Any) -> Any:
    """Make an object of a class that looks as if another library had it."""
    return type(name, bases, {"__module__": f"{package}.core", **attributes})()


def sqlite_rows(sql: str = "SELECT 1 AS id, 'a' AS text UNION ALL SELECT 2, NULL") -> list[Any]:
    connection = sqlite3.connect(":memory:")
    connection.row_factory = sqlite3.Row
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def sqlalchemy_rows(*, mappings: bool) -> list[Any]:
    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        result = connection.execute(sqlalchemy.text("SELECT 1 AS id, 'a' AS text UNION ALL SELECT 2, NULL"))
        rows = list(result.mappings() if mappings else result)
    engine.dispose()
    return rows


def spark_row(**values: Any) -> Any:
    return of_package("pyspark", "Row", tuple, asDict=lambda _row: dict(values))


async def awaited() -> list[Any]:
    return ROWS


async def yielded() -> AsyncIterator[Any]:
    yield ROWS[0]


GIVEN: dict[str, Callable[[], Any]] = {
    "list": lambda: ROWS,
    "tuple": lambda: tuple(ROWS),
    "generator": lambda: (row for row in ROWS),
    "lazy sequence": Lazy,
    "values of a mapping": lambda: dict(enumerate(ROWS)).values(),
    "other order": lambda: [ROWS[0], {"text": None, "id": 2}],
    "other mappings": lambda: [MappingProxyType(row) for row in ROWS],
    "named tuples": lambda: [Named(**row) for row in ROWS],
    "dataclass": lambda: [Data(**row) for row in ROWS],
    "sqlite3": sqlite_rows,
    "SQLAlchemy": lambda: sqlalchemy_rows(mappings=False),
    "mappings of SQLAlchemy": lambda: sqlalchemy_rows(mappings=True),
    "pyspark": lambda: [spark_row(**row) for row in ROWS],
    "polars": lambda: pl.DataFrame(ROWS),
    "rows of polars": lambda: pl.DataFrame(ROWS).iter_rows(named=True),
    "pyarrow table": lambda: pa.Table.from_pylist(ROWS),
    "pyarrow record batch": lambda: pa.RecordBatch.from_pylist(ROWS),
}


@pytest.mark.parametrize("name", GIVEN)
def test_rows_are_taken_in_any_form(name: str) -> None:
    source = open_given_rows(GIVEN[name]())

    found = list(source)

    assert found == ROWS
    assert [list(row) for row in found] == [["id", "text"]] * 2
    assert source.columns == ("id", "text")
    assert source.place == ""


def test_no_rows_have_no_columns() -> None:
    source = open_given_rows([])
    assert list(source) == []
    assert source.columns == ()


def test_pandas_frame_is_read_without_its_index() -> None:
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "price": [1.5, None, 2.0],
            "kind": pd.Categorical(["a", "b", "a"]),
            "when": pd.to_datetime(["2026-11-29 09:30:00.000001", None, "2026-11-30 00:00:00.000000"]),
            "count": pd.array([1, None, 3], dtype="Int64"),
        },
        index=[7, 7, 9],
    )
    source = open_given_rows(frame)
    assert source.columns == ("id", "price", "kind", "when", "count")

    for _ in range(2):
        rows = [{name: json_of(value) for name, value in row.items()} for row in source]
        assert rows == [
            {"id": 1, "price": 1.5, "kind": "a", "when": "2026-11-29T09:30:00.000001", "count": 1},
            {"id": 2, "price": None, "kind": "b", "when": None, "count": None},
            {"id": 3, "price": 2.0, "kind": "a", "when": "2026-11-30T00:00:00", "count": 3},
        ]


def test_frames_are_read_in_slices_in_their_order() -> None:
    columns = {
        "id": list(range(1000)),
        "day": [date(2026, 11, 29)] * 1000,
        "at": [datetime.fromisoformat("2026-11-29")] * 1000,
    }
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    table = pa.table(columns)
    for frame in (pd.DataFrame(columns), pl.DataFrame(columns), table, table.to_batches()[0]):
        assert list(open_given_rows(frame)) == rows


def test_subclass_and_empty_frame_are_read() -> None:
    class GeoDataFrame(pd.DataFrame):  # type: ignore[misc]  # pandas has no types here
        pass

    assert list(open_given_rows(GeoDataFrame({"id": [1]}))) == [{"id": 1}]
    for frame in (pd.DataFrame({"id": []}), pl.DataFrame({"id": []}), pa.table({"id": []})):
        source = open_given_rows(frame)
        assert list(source) == []
        assert source.columns == ("id",)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(None, ["rows is None: the upstream task"], id="None"),
        pytest.param(Undefined(name="secret"), ["rows is not defined", "spelling"], id="undefined"),
        pytest.param("s3://bucket/secret.csv", ["a text or a path", "rows=FileRows(path)"], id="path as text"),
        pytest.param(Path("/data/secret.csv"), ["a text or a path", "rows=FileRows(path)"], id="path"),
        pytest.param("[{'id': 1, 'text': 'secret'}]", ["looks like rows", "rows=task.output"], id="rendered text"),
        pytest.param(b"secret", ["of type bytes"], id="bytes"),
        pytest.param(io.StringIO("secret"), ["an open file", "FileRows(path)"], id="open file"),
        pytest.param({"submission_id": "s", "batch_ids": []}, ["the manifest", "read_rows(manifest)"], id="manifest"),
        pytest.param({"id": [1], "text": ["secret"]}, ["lists by column", "zip(*columns.values())"], id="by column"),
        pytest.param({"id": 1, "text": "secret"}, ["a single row", "rows=[row]"], id="one mapping"),
        pytest.param(Named(1, "secret"), ["Named: one row", "rows=[row]"], id="one named tuple"),
        pytest.param(sqlite_rows()[0], ["sqlite3.Row: one row", "rows=[row]"], id="one record"),
        pytest.param({"a", "b"}, ["a set, whose order changes"], id="set"),
        pytest.param(awaited(), ["the function is async", "def instead of async def"], id="coroutine"),
        pytest.param(yielded(), ["the function is async"], id="asynchronous generator"),
        pytest.param(len, ["of type builtin_function_or_method", "Call it"], id="function"),
        pytest.param(list, ["of type type"], id="class"),
        pytest.param(7, ["of type int", "Give a list of mappings"], id="number"),
        pytest.param(
            of_package("airflow", "XComArg", iter_references=None, resolve=None), ["not resolved"], id="output"
        ),
        pytest.param(pl.DataFrame({"id": [1]}).lazy(), ["not computed yet", "rows=frame.collect()"], id="lazy frame"),
        pytest.param(
            of_package("pyspark", "DataFrame", columns=["id"], toLocalIterator=None), ["row.asDict()"], id="pyspark"
        ),
        pytest.param(
            of_package("sqlalchemy", "CursorResult", columns=None, mappings=None), ["result.mappings()"], id="result"
        ),
        pytest.param(pd.Series(["secret"]), ["values without the names of columns"], id="column"),
        pytest.param(pa.array(["secret"]), ["values without the names of columns"], id="array"),
        pytest.param(pd.DataFrame({0: ["secret"]}), ["a pandas frame, has a column whose name is no text: 0"], id="0"),
        pytest.param(pd.DataFrame([[1, 2]], columns=["a", "a"]), ["two columns of the name 'a'"], id="twice"),
        pytest.param(
            pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
            ["of 2 levels", '"_".join'],
            id="levels",
        ),
        pytest.param(pd.DataFrame(), ["a pandas frame, has no columns"], id="empty frame"),
        pytest.param(
            pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["a", "a"]),
            ["two columns of the name 'a'"],
            id="pa",
        ),
    ],
)
def test_value_without_rows_is_refused_with_the_remedy(value: Any, says: list[str]) -> None:
    check(lambda: open_given_rows(value), says)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        pytest.param("secret", ["is a text, not a mapping", "messages=[…]", "FileRows(path)"], id="text"),
        pytest.param(None, ["is a missing value"], id="None"),
        pytest.param((1, "secret"), ["is a tuple, not a mapping", "zip(columns, row)", "SqlRows"], id="tuple"),
        pytest.param([1, "secret"], ["is a list, not a mapping"], id="list"),
        pytest.param([{"id": 1}], ["is a list of rows", "for rows in lists"], id="list of rows"),
        pytest.param(pl.DataFrame({"id": [1]}), ["is a data frame", "concat"], id="frame"),
        pytest.param(7, ["is of type int"], id="number"),
        pytest.param(Data, ["is of type type", "Give a value"], id="class"),
        pytest.param({"id": 1}, ["lacks the column 'text'", "'id' and 'text'"], id="missing column"),
        pytest.param({"id": 1, "text": "a", "secre": 1}, ["has a column more: 'secre'"], id="another column"),
        pytest.param({"id": 1, 2: "secret"}, ["lacks the column 'text'"], id="number as a name"),
        pytest.param(
            sqlite_rows("SELECT 1 AS id, 'secret' AS id")[0], ["has two columns of the name 'id'"], id="name twice"
        ),
    ],
)
def test_bad_row_is_refused_with_its_number(row: Any, says: list[str]) -> None:
    message = check(lambda: list(open_given_rows(iter([*ROWS, row]))), says)
    assert message.startswith("rows[2] ")


@pytest.mark.parametrize(
    ("row", "says"), [({}, "has no columns"), ({1: "secret"}, "name is no text: 1"), ({"": 1}, "no name for its first")]
)
def test_first_row_must_name_its_columns(row: Any, says: str) -> None:
    assert check(lambda: list(open_given_rows([row])), [says]).startswith("rows[0] ")


def test_value_that_python_cannot_hold_is_refused_with_its_column() -> None:
    table = pa.table({"when": pa.array([2**40], pa.timestamp("s"))})
    check(
        lambda: list(open_given_rows(table)), ["rows, a table of pyarrow, has values that Python cannot hold", "'when'"]
    )


def test_failure_of_a_generator_is_its_own() -> None:
    def failing() -> Iterator[Any]:
        yield ROWS[0]
        raise KeyError("their own")

    with pytest.raises(KeyError, match="their own"):
        list(open_given_rows(failing()))


def check(read: Callable[[], Any], says: list[str]) -> str:
    """Return the message of the refusal, which has the right form and quotes no value."""
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    first, money, *remedy = message.split("\n")
    assert len(first) <= 120
    assert money.startswith("Nothing was sent.")
    assert remedy
    assert "secret" not in message
    for words in says:
        assert words in message
    return message
