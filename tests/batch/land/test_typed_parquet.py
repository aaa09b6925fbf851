"""Rows as Parquet with typed columns: whatever the rows hold, they come back as they were."""

from __future__ import annotations

import datetime
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from random_rows import layout_of_lines, line_of, rows_of, tables

from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.row_layout import RowLayout
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import ResultsError

LABEL = {
    "type": "object",
    "properties": {
        "note": {"type": "string"},
        "label": {"enum": ["bug", "question"]},
        "score": {"type": "number"},
        "count": {"type": "integer"},
        "sure": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {"anyOf": [{"$ref": "#/$defs/Place"}, {"type": "null"}]},
        "amount": {"anyOf": [{"type": "number"}, {"type": "string"}]},
    },
    "required": ["label", "score", "count", "sure", "day", "at", "tags", "place", "amount"],
    "$defs": {
        "Place": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
            "required": ["city", "zip"],
        }
    },
}
OUTPUT = {
    "label": "bug",
    "score": 0.1,
    "count": 7,
    "sure": True,
    "day": "2026-11-29",
    "at": "2026-11-29T09:30:00+02:00",
    "tags": ["a", "ü"],
    "place": {"city": "Ulm", "zip": None},
    "amount": "1.10",
}
KEPT = {
    "title": "text",
    "status": "integer",
    "price": "decimal",
    "day": "date",
    "at": "timestamp_tz",
    "seen": "timestamp",
    "hour": "time",
    "ok": "boolean",
    "part": "number",
    "more": "json",
}
INPUT = {
    "title": "Printer",
    "status": 3,
    "price": "12.50",
    "day": "2026-11-29",
    "at": "2026-11-29T07:30:00+00:00",
    "seen": "2026-11-29T07:30:00.000001",
    "hour": "07:30:00",
    "ok": True,
    "part": 0.5,
    "more": {"a": [1]},
}
USAGE = (
    b'{"input_tokens": 10, "cache_creation": {"ephemeral_5m_input_tokens": 5}, "output_tokens": 3, "service_tier": "x"}'
)


def write(lines: list[bytes], schema: Any = None, kept_types: dict[str, str] | None = None) -> tuple[Any, list[Row]]:
    """Write the lines, and return the table and the rows that are read."""
    layout = layout_of_lines(lines, schema, kept_types)
    with tempfile.TemporaryDirectory() as path:
        write_parquet(LocalFolder(Path(path)), lines, layout)
        with (Path(path) / "results.parquet").open("rb") as file:
            rows = list(read_parquet(file))
        return pyarrow.parquet.read_table(Path(path) / "results.parquet"), rows


def check_same(read: list[Row], lines: list[bytes]) -> None:
    """Compare in JSON too: there, 1 differs from 1.0, and the order of the properties counts."""
    expected = rows_of(lines)
    assert read == expected
    assert list(map(msgspec.json.encode, read)) == list(map(msgspec.json.encode, expected))


def test_ordinary_rows_have_typed_columns_and_nothing_else() -> None:
    message = msgspec.Raw(b'{"id": "m", "usage": ' + USAGE + b"}")
    ordinary = line_of(
        **{"kept": INPUT, "text": json.dumps(OUTPUT), "output": OUTPUT, "stop_reason": "end_turn", "model": "m"},
        **{"usage": msgspec.Raw(USAGE), "cost_usd": "0.0000528125", "message": message, "key": 17},
    )
    failed = line_of(
        1,
        **{"kept": INPUT, "status": "errored", "key": 18},
        error={"type": "api_error", "message": "Sorry.", "request_id": None},
    )
    invalid = line_of(
        2, kept=INPUT, status="invalid_output", error={"type": "invalid_output", "message": "No.", "path": None}
    )
    missing = line_of(3, kept=INPUT, status="missing", error={"type": "missing", "message": "None came."})
    lines = [ordinary, failed, invalid, missing]

    table, rows = write(lines, LABEL, KEPT)

    check_same(rows, lines)
    assert table["exact"].null_count == 4
    first = table.to_pylist()[0]
    assert first["key"] == 17
    assert first["output"] == {**OUTPUT, "day": datetime.date(2026, 11, 29), "amount": '"1.10"', "note": None}
    assert first["cost_usd"] == Decimal("0.000052812500")
    assert first["usage"]["cache_creation"]["ephemeral_5m_input_tokens"] == 5
    assert (first["title"], first["input_status"], first["status"]) == ("Printer", 3, "succeeded")
    assert first["price"] == Decimal("12.50")
    assert first["at"] == datetime.datetime(2026, 11, 29, 7, 30, tzinfo=datetime.UTC)
    assert first["more"] == '{"a":[1]}'
    assert str(table.schema.field("price").type) == "decimal128(18, 2)"
    assert table.schema.field("more").metadata == {b"content": b"json"}
    assert table["error"].to_pylist()[1]["type"] == "api_error"


def test_columns_do_not_depend_on_the_answers() -> None:
    nothing = line_of(status="missing", error={"type": "missing", "message": "None came."})
    odd = line_of(output={"label": 5, "more": []}, cost_usd="1e-30", error="none", usage=msgspec.Raw(b"[]"))

    schemas = {str(write([line], LABEL)[0].schema) for line in (nothing, line_of(output=OUTPUT))}

    assert len(schemas) == 1
    assert write([odd.replace(b'"error":"none"', b'"error":null').replace(b"[]}", b"null}")], LABEL)


@pytest.mark.parametrize(
    ("output", "typed"),
    [
        pytest.param({**OUTPUT, "count": 2**63}, None, id="integer beyond 64 bits"),
        pytest.param({**OUTPUT, "count": 10**40}, None, id="integer of 41 digits"),
        pytest.param({**OUTPUT, "count": 7.0}, 7, id="integer written as a decimal"),
        pytest.param({**OUTPUT, "score": 1}, 7, id="number written as an integer"),
        pytest.param({**OUTPUT, "score": msgspec.Raw(b"100000000000000000.01")}, 7, id="more digits than a double"),
        pytest.param({**OUTPUT, "note": None}, 7, id="null instead of absent"),
        pytest.param({**OUTPUT, "tags": ["a", 1]}, 7, id="number in a list of texts"),
        pytest.param({**OUTPUT, "other": 1}, 7, id="unknown property"),
        pytest.param(dict(reversed(OUTPUT.items())), 7, id="another order"),
    ],
)
def test_value_that_its_column_does_not_hold_exactly_is_kept_beside_it(output: Any, typed: int | None) -> None:
    lines = [line_of(output=output), line_of(1, output=OUTPUT)]

    table, rows = write(lines, LABEL)

    check_same(rows, lines)
    assert table["exact"].null_count == 1
    assert table["output"].to_pylist()[0]["count"] == typed
    exact = json.loads(table["exact"][0].as_py(), parse_float=Decimal)
    assert list(exact) == ["output"]
    if isinstance(output["score"], msgspec.Raw):
        assert exact["output"]["score"] == Decimal("100000000000000000.01")


@pytest.mark.parametrize(
    ("keys", "type_"),
    [
        ([1, 2, None], "int64"),
        (["a", "ü\0"], "string"),
        ([True, False], "bool"),
        ([1.5], "double"),
        ([{"id": 1, "day": "a"}, {"id": 2, "day": "b"}], "struct<id: int64, day: string>"),
        ([1, "a"], "string"),
        ([1, True], "string"),
        ([1, 2.5], "string"),
        ([2**63], "string"),
        ([{"id": 1}, {"no": 1}], "string"),
        ([{"a": 1, "A": 2}], "string"),
        ([{}], "string"),
        ([{"id": None}], "string"),
        ([[1], None], "string"),
        ([None], "string"),
    ],
)
def test_keys_have_their_own_type_if_all_are_of_one(keys: list[Any], type_: str) -> None:
    lines = [line_of(index, key=key) for index, key in enumerate(keys)]

    table, rows = write(lines)

    check_same(rows, lines)
    assert str(table.schema.field("key").type) == type_
    assert table["exact"].null_count == len(keys)
    assert "output" not in table.column_names


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({"type": "integer"}, "int64"),
        ({"type": ["integer", "number"]}, "double"),
        ({"enum": ["a", None]}, "string"),
        ({"enum": [1, 2]}, "int64"),
        ({"const": True}, "bool"),
        ({"enum": ["a", 1]}, "string"),
        ({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}, None),
        ({"type": "object", "properties": {}, "additionalProperties": False}, "string"),
        ({"type": "object", "properties": {"a": {"type": "string"}, "A": {"type": "string"}}}, "string"),
        ({"type": "object", "properties": {"": {"type": "string"}}}, "string"),
        ({"type": "object", "properties": {"a.b": {"type": "string"}}}, "struct<a.b: string>"),
        ({"anyOf": [{"type": "string", "format": "date"}, {"type": "string"}]}, "string"),
    ],
)
def test_output_has_the_type_of_its_schema(schema: dict[str, Any], type_: str | None) -> None:
    field = write([line_of()], schema)[0].schema.field("output")

    assert str(field.type) == (type_ or "list<element: list<element: string>>")


def test_kept_columns_never_share_a_name() -> None:
    kept = {name: index for index, name in enumerate(["Status", "input_status", "STATUS", "exact", "", "t", "T"])}
    line = line_of(kept=kept)

    table, rows = write([line], None, dict.fromkeys(kept, "integer"))

    check_same(rows, [line])
    names = [name.casefold() for name in table.column_names]
    assert len(set(names)) == len(names)
    assert {"input_Status", "input_exact", "input_", "t"} <= set(table.column_names)


@pytest.mark.parametrize(
    ("digits", "type_"),
    [
        (["1.50", "-22.25"], "decimal128(18, 2)"),
        (["1", "1e3", None], "decimal128(18, 0)"),
        (["123456789012345678901.5"], "decimal128(38, 1)"),
        (["1." + "0" * 40], "string"),
        (["NaN", "1.5"], "decimal128(18, 1)"),
    ],
)
def test_decimals_have_the_digits_that_they_need(digits: list[str | None], type_: str) -> None:
    lines = [line_of(index, kept={"price": text}) for index, text in enumerate(digits)]

    table, rows = write(lines, None, {"price": "decimal"})

    check_same(rows, lines)
    assert str(table.schema.field("price").type) == type_


def test_file_of_a_later_release_is_refused_by_name(tmp_path: Path) -> None:
    write_parquet(LocalFolder(tmp_path), [line_of()], RowLayout(version=99))

    with (tmp_path / "results.parquet").open("rb") as file, pytest.raises(ResultsError, match="has the format 99"):
        list(read_parquet(file))


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_every_row_comes_back_as_it_was(table: Any) -> None:
    schema, words, lines = table

    _, rows = write(lines, schema, words)

    check_same(rows, lines)
