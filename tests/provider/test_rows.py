from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, field_validator

from airflow_claude_batch._airflow.compat import ObjectStoragePath
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import OutputSchemaError, ResultsError
from airflow_claude_batch.rows import read_rows
from airflow_claude_batch.sensors import MessageBatchSensor

ROWS: list[dict[str, Any]] = [
    {"index": 0, "key": "a", "status": "succeeded", "text": "one\u2028two", "output": {"city": "Ulm"}},
    {"index": 1, "key": {"b": [1, None]}, "status": "errored", "error": {"type": "api_error", "message": "why"}},
    {"index": 2, "key": None, "status": "expired", "a_later_field": 1},
]


SENSOR = MessageBatchSensor(task_id="wait", batch="msgbatch_01AbCdEfGhJkLmNpQrStUvWx")


class City(BaseModel):
    city: str


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "results.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(str, id="path"),
        pytest.param(lambda path: f"file://{path}", id="URI"),
        pytest.param(lambda path: {"results_path": str(path), "responses": None}, id="manifest"),
    ],
)
def test_rows_are_read_in_their_order_wherever_the_file_is_named(source: Any, path: Path) -> None:
    rows = list(read_rows(source(path)))

    assert [row.index for row in rows] == [0, 1, 2]
    assert [row.key for row in rows] == ["a", {"b": [1, None]}, None]
    assert [row.status for row in rows] == ["succeeded", "errored", "expired"]
    assert rows[0].text == "one\u2028two"
    assert rows[1].error == {"type": "api_error", "message": "why"}
    assert all(isinstance(row, Row) for row in rows)


def test_rows_that_the_manifest_holds_need_no_storage() -> None:
    rows = list(read_rows({"results_path": "/on/another/machine.jsonl", "responses": ROWS}, schema=City))

    assert [row.key for row in rows] == ["a", {"b": [1, None]}, None]
    assert rows[0].output == City(city="Ulm")


def test_response_that_is_no_row_is_named_and_not_quoted() -> None:
    with pytest.raises(ResultsError, match=r"responses\[1\] of the manifest is not a row") as error:
        list(read_rows({"responses": [ROWS[0], {"index": "secret"}]}))
    assert "secret" not in str(error.value)


def test_rows_are_read_one_by_one(path: Path) -> None:
    with path.open("a") as file:
        file.write("damage\n")
    rows = read_rows(str(path))

    assert [next(rows).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ResultsError, match=rf"Line 4 of {path} is damaged"):
        next(rows)


def test_reader_that_stops_early_closes_the_file(path: Path) -> None:
    rows = read_rows(str(path))
    next(rows)
    rows.close()  # type: ignore[attr-defined]  # a generator

    assert list(rows) == []


def test_outputs_are_given_as_instances_of_a_model(path: Path) -> None:
    rows = list(read_rows(str(path), schema=City))

    assert rows[0].output == City(city="Ulm")
    assert [row.output for row in rows[1:]] == [None, None]


def test_row_whose_output_the_schema_refuses_comes_with_the_reason_and_the_others_follow(path: Path) -> None:
    rows = [
        {**ROWS[0], "index": number, "output": {"city": city}} for number, city in enumerate(["Ulm", ["x"], "Bonn"])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    first, refused, last = read_rows(str(path), schema=City)

    assert (first.output, last.output) == (City(city="Ulm"), City(city="Bonn"))
    assert (refused.status, refused.output, refused.text) == ("invalid_output", None, ROWS[0]["text"])
    assert refused.error is not None
    assert refused.error["path"] == "$.city"
    assert "$.city is not valid for the schema of read_rows: string_type: " in refused.error["message"]


def test_validator_that_fails_hides_no_other_row(path: Path) -> None:
    class Odd(City):
        @field_validator("city")
        @classmethod
        def check(cls, city: str) -> str:
            return {"Ulm": city}[city]

    rows = [{**ROWS[0], "index": number, "output": {"city": city}} for number, city in enumerate(["Bonn", "Ulm"])]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    refused, last = read_rows(str(path), schema=Odd)

    assert (refused.error or {})["message"].endswith("KeyError")
    assert last.output.city == "Ulm"


@pytest.mark.parametrize("suffix", ["jsonl", "parquet", "responses"])
def test_decimals_have_the_digits_of_the_answer(tmp_path: Path, suffix: str) -> None:
    class Transfer(BaseModel):
        model_config = {"strict": True}
        amount: Decimal
        fee: float
        day: datetime.date

    text = '{"amount": 100000000000000000.01, "fee": 0.1, "day": "2026-01-02"}'
    row = {**ROWS[0], "text": text, "output": json.loads(text)}
    line = msgspec.json.encode(msgspec.convert(row, Row)) + b"\n"
    (tmp_path / "results.jsonl").write_bytes(line)
    write_parquet(LocalFolder(tmp_path), [line])
    source: Any = {"responses": [row]} if suffix == "responses" else str(tmp_path / f"results.{suffix}")

    (read,) = read_rows(source, schema=Transfer)

    assert read.output == Transfer(amount=Decimal("100000000000000000.01"), fee=0.1, day=datetime.date(2026, 1, 2))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(None, r"got None instead of a manifest\.\nNo row was read\.\nCheck that the upstream", id="None"),
        pytest.param({"results_path": None}, r"has no results_path\.\nNothing is landed yet", id="no path"),
        pytest.param({}, "an empty mapping instead of a manifest: it has no results_path", id="no manifest"),
        pytest.param({"a": 1, "b": 2}, r"a mapping with 'a', 'b' instead of a manifest", id="another mapping"),
        pytest.param(ROWS[0], "got a row instead of a manifest", id="row"),
        pytest.param("", "got an empty text instead of a manifest", id="empty path"),
        pytest.param(7, r"an object of type int instead of a manifest\.\nNo row was read\.\nIt takes", id="number"),
        pytest.param(b"results.jsonl", "an object of type bytes", id="bytes"),
        pytest.param("msgbatch_01AbCdEfGhJkLmNpQrStUvWx", r"(?s)id of a message batch.*MessageBatchSensor", id="id"),
        pytest.param("{'submission_id': 'a'}", r"(?s)neither a path nor a manifest's JSON.*native_obj", id="repr"),
        pytest.param("{{ ti.xcom_pull('wait') }}", "neither a path nor a manifest's JSON", id="template"),
        pytest.param("/data/requests.jsonl", r"(?s)has the requests that were sent.*results\.jsonl beside", id="input"),
        pytest.param("/nowhere", r"(?s)^/nowhere is no results file.*<dag_id>/<run_id>/<task_id>", id="no folder"),
        pytest.param([{"responses": ROWS}, None], r"got None at \[1\] instead of a manifest", id="None in a list"),
        pytest.param([[{}]], r"an empty mapping at \[0\]\[0\]", id="nested list"),
        pytest.param({"status": "dry_run", "results_path": None}, r"(?s)a dry run: nothing was sent", id="dry run"),
        pytest.param(
            SENSOR.output, r"(?s)output of a task that has not run yet \(PlainXComArg\).*inside a task", id="output"
        ),
        pytest.param(SENSOR, r"output of a task that has not run yet \(MessageBatchSensor\)", id="task"),
        pytest.param("/nowhere/results.jsonl", "/nowhere/results.jsonl is not there", id="no file"),
        pytest.param("results.jsonl", "results.jsonl is not there", id="relative"),
    ],
)
def test_rows_that_are_not_there_are_said_to_be(source: Any, says: str) -> None:
    with pytest.raises(ResultsError, match=says) as error:
        list(read_rows(source))
    assert max(map(len, str(error.value).splitlines()[:1])) <= 120


def in_progress(path: Path) -> dict[str, Any]:
    return {
        "submission_id": "s",
        "status": "in_progress",
        "batch_ids": ["msgbatch_1"],
        "request_count": 3,
        "counts": {"missing": 3},
        "results_path": str(path),
    }


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda path: [in_progress(path)], id="manifest"),
        pytest.param(lambda path: str(path.parent), id="folder"),
        pytest.param(lambda path: path.parent / "manifest.json", id="manifest file"),
    ],
)
def test_submission_in_progress_is_to_be_waited_for(source: Any, path: Path) -> None:
    (path.parent / "manifest.json").write_text(json.dumps(in_progress(path)))

    with pytest.raises(ResultsError, match=r"(?s)in progress.*1 message batch runs on.*MessageBatchSensor\("):
        list(read_rows(source(path)))


def test_operators_manifest_gives_the_rows_once_the_sensor_has_landed_them(path: Path) -> None:
    (path.parent / "manifest.json").write_text(json.dumps({**in_progress(path), "status": "ended"}))

    assert len(list(read_rows(in_progress(path)))) == len(ROWS)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda path: [{"results_path": str(path)}, str(path)], id="list"),
        pytest.param(lambda path: iter([{"responses": ROWS}, {"responses": ROWS}]), id="lazy outputs"),
        pytest.param(lambda path: [[str(path)], [path]], id="nested"),
    ],
)
def test_rows_of_a_list_of_manifests_come_one_after_the_other(source: Any, path: Path) -> None:
    assert [row.index for row in read_rows(source(path))] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda path: path, id="Path"),
        pytest.param(lambda path: path.parent, id="folder"),
        pytest.param(lambda path: f"{path.parent}/", id="folder with a slash"),
        pytest.param(lambda path: f"file://{path.parent}", id="URI of a folder"),
        pytest.param(lambda path: ObjectStoragePath(f"file://{path}"), id="ObjectStoragePath"),
        pytest.param(lambda path: json.dumps({"results_path": str(path)}), id="manifest as JSON"),
    ],
)
def test_rows_are_found_by_other_names_of_their_file(source: Any, path: Path) -> None:
    assert len(list(read_rows(source(path)))) == len(ROWS)


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"index": "a", "key": 1, "status": "succeeded"}', "\xff", "[" * 5000], ids=range(5)
)
def test_damaged_line_is_named_and_not_quoted(line: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(line.encode("latin-1") + b" secret\n")

    with pytest.raises(ResultsError, match=r"(?s)Line 1 of.*remove it and clear the task") as error:
        next(read_rows(str(path)))
    assert "secret" not in str(error.value)


def test_damaged_parquet_file_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "results.parquet"
    path.write_bytes(b"PAR1 this is none PAR1")

    with pytest.raises(ResultsError, match=r"results.parquet is damaged \(Arrow"):
        next(read_rows(str(path)))


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param({"type": "object", "properties": {"city": {"minLength": 3}}}, id="JSON Schema"),
        pytest.param('{"properties": {"city": {"minLength": 3}}}', id="text"),
        pytest.param(
            {"type": "json_schema", "schema": {"$ref": "#/$defs/A%20B", "$defs": {"A B": {"maxProperties": 1}}}},
            id="wrapper",
        ),
        pytest.param({"additionalProperties": {"type": "string"}}, id="one that is never sent"),
    ],
)
def test_schema_of_read_rows_may_be_json(schema: Any, path: Path) -> None:
    assert [row.output for row in read_rows(str(path), schema=schema)] == [{"city": "Ulm"}, None, None]


def test_output_that_a_json_schema_refuses_comes_with_the_reason(path: Path) -> None:
    refused, *others = read_rows(str(path), schema={"properties": {"city": {"type": "string", "maxLength": 2}}})

    assert (refused.status, refused.output, refused.text) == ("invalid_output", None, "one\u2028two")
    assert refused.error == {
        "type": "invalid_output",
        "message": "$.city does not satisfy maxLength: 2 (for the schema of read_rows)",
        "path": "$.city",
    }
    assert [row.status for row in others] == ["errored", "expired"]


def test_wrapper_of_a_type_gives_instances(path: Path) -> None:
    first = next(read_rows(str(path), schema={"type": "json_schema", "schema": City}))
    assert first.output == City(city="Ulm")


@pytest.mark.parametrize("schema", ["schema.json", {"type": "objekt"}, [City], 7], ids=str)
def test_what_is_no_schema_is_refused_at_once(schema: Any, path: Path) -> None:
    with pytest.raises(OutputSchemaError, match=r"^schema of read_rows"):
        read_rows(str(path), schema=schema)
