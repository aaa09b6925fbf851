"""Rows of reused answers: their lines, their columns, and what is made of a stored answer."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet
import pytest
from random_rows import line_of, rows_of

from airflow_claude_batch.batch.input.output_schema import read_schema
from airflow_claude_batch.batch.land.csv_results import read_csv, write_csv
from airflow_claude_batch.batch.land.landed_rows import read_landed_row
from airflow_claude_batch.batch.land.parquet_reader import read_parquet
from airflow_claude_batch.batch.land.parquet_writer import write_parquet
from airflow_claude_batch.batch.land.reused_rows import reusable_answer, reused_result
from airflow_claude_batch.batch.land.row_layout import RowLayout
from airflow_claude_batch.batch.land.rows import (
    ReusedFrom,
    RowBody,
    Status,
    body_of_duplicate,
    body_of_line,
)
from airflow_claude_batch.batch.land.validate_output import OutputValidator
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.storage import LocalFolder

PRICES = PriceTable.load()
MESSAGE = {
    "model": "claude-haiku-5-5",
    "content": [{"type": "text", "text": '{"n": 1.00000000000000000001}'}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 3},
}
ANSWERED: dict[str, Any] = {
    "text": '{"n": 1.00000000000000000001}',
    "stop_reason": "end_turn",
    "model": "claude-haiku-5-5",
    "cost_usd": "0.0041",
    "batch_id": "msgbatch_01",
    "custom_id": "0123456789ab-0-abcdefghijklmnopqrstuv",
    "message": MESSAGE,
}
REUSED_FROM = {
    "submission_id": "0123",
    "batch_id": "msgbatch_01",
    "custom_id": "0123456789ab-0-abcdefghijklmnopqrstuv",
    "answered_at": "2026-11-22T09:00:00Z",
    "cost_usd": "0.0041",
}
LINES = [
    line_of(0, **{**ANSWERED, "cost_usd": "0", "reused_from": REUSED_FROM}),
    line_of(1, **ANSWERED),
    line_of(2, **{**ANSWERED, "cost_usd": "0", "reused_from": {**REUSED_FROM, "cost_usd": None}}),
    line_of(3, **{**ANSWERED, "reused_from": {**REUSED_FROM, "answered_at": "2026-11-22T09:00:00.123456Z", "x": 1}}),
]


def reuse(body: bytes, schema: Any = None) -> Any:
    return reused_result(
        body,
        submission_id="0123",
        answered_at=datetime(2026, 11, 22, 9, tzinfo=UTC),
        custom_id="now-0",
        prices=PRICES,
        validator=None if schema is None else OutputValidator(read_schema(schema)),
    )


def test_parquet_has_a_column_of_structs_if_there_is_a_store(tmp_path: Path) -> None:
    write_parquet(LocalFolder(tmp_path), LINES, RowLayout(reused=True))
    with (tmp_path / "results.parquet").open("rb") as file:
        assert list(read_parquet(file)) == rows_of(LINES)
    table = pyarrow.parquet.read_table(tmp_path / "results.parquet")
    assert table.column_names[-2:] == ["reused_from", "exact"]
    values = table["reused_from"].to_pylist()
    assert values[0]["cost_usd"] == Decimal("0.0041")
    assert values[0]["answered_at"].isoformat() == "2026-11-22T09:00:00+00:00"
    assert values[1] is None
    assert [text is None for text in table["exact"].to_pylist()] == [True, True, True, False]


@pytest.mark.parametrize("lines", [[LINES[1]], []])
def test_files_without_a_store_are_as_they_were(lines: list[bytes], tmp_path: Path) -> None:
    write_parquet(LocalFolder(tmp_path), lines, RowLayout())
    write_csv(LocalFolder(tmp_path), lines, RowLayout())
    assert "reused_from" not in pyarrow.parquet.read_table(tmp_path / "results.parquet").column_names
    assert b"reused" not in (tmp_path / "results.csv").read_bytes()
    assert (
        msgspec.json.encode(RowLayout())
        == b'{"version":2,"key":{"type":"scalar","kind":"json"},"inputs":[],"output":null}'
    )
    with (tmp_path / "results.parquet").open("rb") as file:  # as those of earlier versions
        assert list(read_parquet(file)) == rows_of(lines)


def test_csv_tells_what_a_person_asks(tmp_path: Path) -> None:
    write_csv(LocalFolder(tmp_path), LINES, RowLayout(reused=True))
    data = (tmp_path / "results.csv").read_bytes()
    first, second, *_ = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
    assert (first["cost_usd"], first["reused_from.cost_usd"]) == ("0", "0.0041")
    assert first["reused_from.answered_at"] == "2026-11-22T09:00:00Z"
    assert (second["cost_usd"], second["reused_from.submission_id"]) == ("0.0041", "")
    rows = [msgspec.structs.replace(row, message=None) for row in rows_of(LINES)]
    assert list(read_csv(io.BytesIO(data))) == rows


def test_landed_row_counts_as_reused_and_names_no_batch_of_the_submission() -> None:
    row = read_landed_row(LINES[0], PRICES)
    assert row is not None
    assert (row.parsed.status, row.batch_ids, row.is_copy) == (Status.REUSED, set(), False)
    assert row.parsed.charge is None
    answered = read_landed_row(LINES[1], PRICES)
    assert answered is not None
    assert answered.batch_ids == {"msgbatch_01"}


def test_copy_for_a_duplicate_costs_nothing_and_has_cost_nothing() -> None:
    copy = RowBody.decode(body_of_duplicate(body_of_line(LINES[0])))
    assert copy.reused_from
    assert (copy.cost_usd, copy.reused_from.cost_usd) == ("0", "0")


def test_message_is_read_and_validated_anew() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}
    found = reuse(body_of_line(LINES[1]), schema)
    assert found.status is Status.REUSED
    assert b'"output":{"n":1.00000000000000000001},' in found.body, "the digits stay"
    assert RowBody.decode(found.body).reused_from == msgspec.convert(REUSED_FROM, ReusedFrom)
    assert reuse(body_of_line(LINES[1]), {**schema, "properties": {"n": {"type": "string"}}}) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'"status":"succeeded"}',
        b'"status":"succeeded","batch_id":"msgbatch_01","custom_id":"x"}',
        b'"status":"succeeded","batch_id":"msgbatch_01","custom_id":"x","message":{"model":1}}',
        body_of_line(line_of(0, **{**ANSWERED, "message": {**MESSAGE, "stop_reason": "max_tokens"}})),
    ],
)
def test_stored_answer_that_is_none_is_asked_anew(body: bytes) -> None:
    assert reuse(body) is None


def test_store_gets_complete_answers_without_those_that_they_replaced() -> None:
    plain = body_of_line(LINES[1])
    replacing = body_of_line(line_of(0, **ANSWERED, replaced=[{"batch_id": "msgbatch_00", "cost_usd": "1"}]))
    found, replaced = reusable_answer(plain), reusable_answer(replacing)
    assert found is not None
    assert (found.batch_id, found.model, found.body) == ("msgbatch_01", "claude-haiku-5-5", plain)
    assert replaced is not None
    assert b"msgbatch_00" not in replaced.body
    for fields in ({"raw": {"reason": "odd", "text": "…"}}, {"stop_reason": "refusal"}, {"stop_reason": None}):
        assert reusable_answer(body_of_line(line_of(0, **{**ANSWERED, **fields}))) is None
