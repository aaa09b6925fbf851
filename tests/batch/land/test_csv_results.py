"""Rows as CSV, for people and spreadsheets."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from random_rows import layout_of_lines, line_of, rows_of, tables
from submission_world import make_world

from airflow_claude_batch.batch.land.csv_results import read_csv, write_csv
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import ResultsError
from airflow_claude_batch.rows import read_rows

LABEL = {
    "type": "object",
    "properties": {
        "label": {"type": "string"},
        "sure": {"type": "boolean"},
        "place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["label", "sure", "place", "tags"],
}


def write(path: Path, lines: list[bytes], *layout: Any) -> tuple[list[dict[str, str]], list[Row]]:
    """Write the lines. Return the cells and the rows that are read."""
    write_csv(LocalFolder(path), lines, layout_of_lines(lines, *layout))
    data = (path / "results.csv").read_bytes()
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))), list(read_csv(io.BytesIO(data)))


def without_message(rows: list[Row]) -> list[Row]:
    return [msgspec.structs.replace(row, message=None, replaced=None, raw=None) for row in rows]


def test_columns_are_those_that_people_look_for(tmp_path: Path) -> None:
    output = {"label": "Fehler, groß", "sure": True, "place": {"city": "Ulm"}, "tags": ["a", "b"]}
    kept = {"title": "Drucker\nbrennt", "status": 3}
    lines = [
        line_of(key={"id": 7, "day": "a"}, kept=kept, text="…", output=output, cost_usd="0.00005", model="m"),
        line_of(1, key={"id": 8, "day": "b"}, kept=kept, status="errored", error={"type": "e", "message": "No."}),
    ]

    (first, failed), rows = write(tmp_path, lines, LABEL, {"title": "text", "status": "integer"})

    assert rows == rows_of(lines)
    assert json.loads(first.pop("exact"))["output"] == output
    assert first == {
        **{"key.id": "7", "key.day": "a", "title": "Drucker\nbrennt", "input_status": "3", "status": "succeeded"},
        **{"output.label": "Fehler, groß", "output.sure": "true", "output.place.city": "Ulm", "text": "…"},
        **{"output.tags": '["a","b"]', "error.type": "", "error.message": "", "cost_usd": "0.00005"},
        **{"stop_reason": "", "model": "m"},
    }
    assert (failed["status"], failed["output.label"], failed["error.message"]) == ("errored", "", "No.")


def test_spreadsheets_see_utf8_and_lines_of_rfc_4180(tmp_path: Path) -> None:
    write(tmp_path, [line_of(text="ü")])

    data = (tmp_path / "results.csv").read_bytes()

    assert data.startswith(b"\xef\xbb\xbfkey,status,")
    assert data.count(b"\r\n") == 2


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=HYPERLINK(\"http://x\",1)", "'=HYPERLINK(\"http://x\",1)"),
        ("+1+1", "'+1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("- a list", "'- a list"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("'=1", "''=1"),
        ("-12.50", "-12.50"),
        ("+49123", "+49123"),
        ("'tis", "'tis"),
        ("a=b", "a=b"),
        ("a\0b", "a\0b"),
        ("", ""),
        (None, ""),
    ],
)  # fmt: skip
def test_formulas_are_texts_to_a_spreadsheet(text: str | None, cell: str, tmp_path: Path) -> None:
    lines = [line_of(key=text, text=text, output=text)]

    (cells,), rows = write(tmp_path, lines, {"type": "string"})

    assert (cells["key"], cells["text"], cells["output"]) == (cell, cell, cell)
    assert rows == rows_of(lines)


def test_answers_of_any_length_are_read(tmp_path: Path) -> None:
    lines = [line_of(text="answer " * 100_000)]

    assert write(tmp_path, lines)[1] == rows_of(lines)


def test_names_of_columns_are_unique(tmp_path: Path) -> None:
    kept = {"output.label": "a", "key": "b", "error.type": "c", "=1": "d"}
    lines = [line_of(kept=kept)]

    write(tmp_path, lines, LABEL, dict.fromkeys(kept, "text"))

    header = next(csv.reader(io.StringIO((tmp_path / "results.csv").read_text("utf-8-sig"))))
    assert len(set(header)) == len(header)
    assert {"output.label", "output.label_2", "input_key", "error.type", "error.type_2", "'=1"} <= set(header)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(table=tables())
def test_every_row_comes_back(table: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    schema, words, lines = table

    _, rows = write(tmp_path_factory.mktemp("csv"), lines, schema, words)

    expected = without_message(rows_of(lines))
    assert list(map(msgspec.json.encode, rows)) == list(map(msgspec.json.encode, expected))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "Line 0 of x.csv is damaged"),
        (b"a,b\r\n1,2\r\n", "Line 1 of x.csv is damaged"),
        (b"text,exact\r\na\r\n", "Line 2 of x.csv is damaged"),
        (b"text,exact\r\na,{\r\n", "Line 2 of x.csv is damaged"),
        (b"text,exact\r\na,[]\r\n", "Line 2 of x.csv is damaged"),
        (b"text,exact\r\na,{}\r\n", "Line 2 of x.csv is damaged"),
        (b'text,exact\r\n"a\xff,{}\r\n', "is damaged"),
        (b'text,exact\r\n"a,{}\r\n', "is damaged"),
    ],
)
def test_damaged_file_is_refused_by_line(content: bytes, says: str) -> None:
    with pytest.raises(ResultsError, match=says):
        list(read_csv(io.BytesIO(content), path="x.csv"))


def test_manifest_names_the_file_that_was_asked_for(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    done = world.run(["Why?", "How?"], Policy(results_format="csv"))

    assert done.manifest.results_path == str(world.folder.path / "results.csv")
    rows = list(read_rows(done.manifest.results_path))
    assert rows == without_message(list(read_rows(str(world.folder.path / "results.jsonl"))))
    assert [row.key for row in rows] == [0, 1]
