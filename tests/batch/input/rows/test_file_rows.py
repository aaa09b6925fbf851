"""Several files as one source, and any rows through any format."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from typing import Any

import pytest
from batch.input.rows.row_files import read, refusal, source_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.row_file import format_of, suffix_of

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

Rows = list[dict[str, Any]]
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
#: A single name in CSV with a separator of another dialect is refused, and NUL near the beginning means UTF-16.
NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=";\t|\0"), min_size=1, max_size=8)
NAMES = st.lists(NAME, min_size=1, max_size=4, unique=True)
VALUES = (
    st.none(),
    TEXTS,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.integers(0, 9), max_size=3),
)


@st.composite
def tables(draw: st.DrawFn, *, texts_only: bool) -> tuple[list[str], Rows]:
    """Draw the names of columns and rows, whose values have one type a column."""
    names = draw(NAMES)
    kinds = [TEXTS if texts_only else draw(st.sampled_from(VALUES)) for _ in names]
    rows = draw(st.lists(st.tuples(*kinds), max_size=12))
    return names, [dict(zip(names, row, strict=True)) for row in rows]


def as_csv(names: Sequence[str], rows: Rows, *, delimiter: str = ",") -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([names, *([row[name] for name in names] for row in rows)])
    return file.getvalue().encode()


def as_json_lines(names: Sequence[str], rows: Rows) -> bytes:
    return b"".join(json.dumps({name: row[name] for name in names}).encode() + b"\n" for row in rows)


def as_parquet(names: Sequence[str], rows: Rows) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({name: pa.array([row[name] for row in rows]) for name in names}), file, row_group_size=5)
    return file.getvalue()


WRITERS = {"csv": as_csv, "jsonl": as_json_lines, "parquet": as_parquet}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other tests share the machine
@given(st.data(), st.sampled_from(sorted(WRITERS)))
def test_any_rows_are_read_back_in_their_order(data: st.DataObject, suffix: str) -> None:
    names, rows = data.draw(tables(texts_only=suffix == "csv"))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    parts = [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    files = {}
    for number, part in enumerate(parts):
        order = data.draw(st.permutations(names)) if number else names
        content = WRITERS[suffix](order, part)
        if suffix != "parquet" and data.draw(st.booleans()):
            content = gzip.compress(content)
        files[f"part-{number}__{suffix}"] = content
    source = source_of(**files)

    for _ in range(2):  # each iteration reads anew
        found = list(source)
        assert found == rows
        assert all(list(row) == list(source.columns) for row in found)
        assert [type(value) for row in found for value in row.values()] == [
            type(row[name]) for row in rows for name in source.columns
        ]


def test_files_without_lines_have_no_say_about_columns() -> None:
    source = source_of(a__csv=b"", b__csv=b"id,text\n1,a\n", c__csv=b"", d__csv=b"text,id\nb,2\n")
    assert [dict(row) for row in source] == [{"id": "1", "text": "a"}, {"id": "2", "text": "b"}]
    assert source.columns == ("id", "text")


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (
            b"id\n",
            ["/data/b.csv lacks the column 'text'.", "the columns of /data/a.csv. The columns are 'id' and 'text'."],
        ),
        (b"id,text,secre\n", ["/data/b.csv has a column more: 'secre'."]),
        (b"id,Text\n", ["/data/b.csv lacks the column 'text'."]),
    ],
    ids=["vanished", "appeared", "renamed"],
)
def test_column_that_changes_between_files_is_refused_with_file_and_column(header: bytes, says: list[str]) -> None:
    message = refusal(a__csv=b"id,text\n1,secret\n", b__csv=header)
    for words in says:
        assert words in message


def test_column_that_vanishes_from_a_file_without_rows_is_refused() -> None:
    without = as_parquet(["id"], [])
    assert "/data/b.parquet lacks" in refusal(
        a__parquet=as_parquet(["id", "x"], [{"id": 1, "x": 2}]), b__parquet=without
    )


def test_types_may_differ_between_files() -> None:
    assert read(a__parquet=as_parquet(["x"], [{"x": 1}]), b__parquet=as_parquet(["x"], [{"x": "a"}])) == [
        {"x": 1},
        {"x": "a"},
    ]


def test_message_about_a_long_path_shows_its_end() -> None:
    name = "n" * 200 + "__csv"
    message = refusal(**{name: b"id,id\n"})
    assert "nnn.csv has two columns" in message


@pytest.mark.parametrize(
    ("name", "suffix", "format_"),
    [
        ("/a/b.csv", "csv", "CSV"),
        ("B.TSV.GZ", "tsv", "CSV"),
        ("a.csv.jsonl", "jsonl", "JSON lines"),
        ("part-0.snappy.parquet", "parquet", "Parquet"),
        ("a.ndjson.gz", "ndjson", "JSON lines"),
        ("a.parquet.gz", "", ""),
        ("a.csv.bak", "", ""),
        ("a.json", "", ""),
        ("csv", "", ""),
        ("a.csv/b", "", ""),
        ("a.gz", "", ""),
        ("a.csv\n", "", ""),
    ],
)
def test_suffix_names_the_format(name: str, suffix: str, format_: str) -> None:
    assert (suffix_of(name), format_of(name)) == (suffix, format_)
