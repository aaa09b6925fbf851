"""CSV: what any spreadsheet or database writes is read as it is, and what is ambiguous is refused with its line."""

from __future__ import annotations

import csv
import gzip
import io

import pytest
from batch.input.rows.row_files import read, refusal, source_of

from airflow_claude_batch.batch.input.rows import csv_rows


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        pytest.param(b"id,text\n1,a\n2,b\n", [("1", "a"), ("2", "b")], id="plain"),
        pytest.param(b"\xef\xbb\xbfid,text\r\n1,a\r\n", [("1", "a")], id="Excel: byte order mark, CRLF"),
        pytest.param(b'\xef\xbb\xbf"id","text"\n1,a', [("1", "a")], id="mark before quotes, no line end"),
        pytest.param(
            b'id,text\n1,"a\nb, ""c"""\n2,\n', [("1", 'a\nb, "c"'), ("2", "")], id="quoted lines, empty field"
        ),
        pytest.param(b'id,text\n1,"a\r\n\r\nb"\n', [("1", "a\r\n\r\nb")], id="blank line in quotes"),
        pytest.param(b"id,text\n\n1,a\n\r\n2,b\n\n", [("1", "a"), ("2", "b")], id="blank lines"),
        pytest.param(
            'id,text\n1,"ä\u2028\x85\x0b"'.encode(), [("1", "ä\u2028\x85\x0b")], id="other separators of lines"
        ),
        pytest.param("id,text\n1,ä\n".encode("utf-16"), [("1", "ä")], id="UTF-16"),
        pytest.param(gzip.compress(b"id,text\n1,a\n"), [("1", "a")], id="packed, without .gz"),
        pytest.param(b"id,text\n", [], id="header alone"),
        pytest.param(b"id,text\n 1 ,NULL\n", [(" 1 ", "NULL")], id="blanks and NULL are texts"),
    ],
)
def test_rows_are_read_as_they_are(data: bytes, rows: list[tuple[str, str]]) -> None:
    source = source_of(a__csv=data)

    assert [tuple(row.values()) for row in source] == rows
    assert source.columns == ("id", "text")


def test_tabs_separate_fields_in_tsv() -> None:
    assert read(a__tsv=b"id\ttext\n1\ta, b\n") == [{"id": "1", "text": "a, b"}]
    assert read(a__TSV__GZ=gzip.compress(b"id\ttext\n1\ta, b\n")) == [{"id": "1", "text": "a, b"}]


def test_empty_file_has_no_columns() -> None:
    source = source_of(a__csv=b"")
    assert list(source) == []
    assert source.columns == ()


def test_place_is_the_line_on_which_a_row_begins() -> None:
    source = source_of(a__csv=b'id,text\n\n1,"a\nb"\n2,c\n')
    assert [(row["id"], source.place) for row in source] == [
        ("1", "line 3 of /data/a.csv"),
        ("2", "line 5 of /data/a.csv"),
    ]


def test_field_longer_than_the_limit_of_csv_is_read() -> None:
    long = "x" * 1_000_000
    assert read(a__csv=f'id,text\n1,"{long}"\n'.encode()) == [{"id": "1", "text": long}]
    assert csv.field_size_limit() >= 64 * 1024 * 1024


def test_single_column_with_an_empty_text_is_read_back() -> None:
    file = io.StringIO()
    csv.writer(file).writerows([["text"], [""], ["a"]])
    assert read(a__csv=file.getvalue().encode()) == [{"text": ""}, {"text": "a"}]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(b"id,text\n1,a\n2,secret,c\n", ["line 3 of /data/a.csv has 3 fields, its header 2"], id="more"),
        pytest.param(b'id,text\n1,"a\nb"\nsecret\n', ["line 4", "has 1 field, its header 2"], id="fewer"),
        pytest.param(b"id,id\n1,2\n", ["the header of /data/a.csv has two columns of the name 'id'"], id="twice"),
        pytest.param(b"id,,text\n1,2,3\n", ["has a column without a name, after column 1"], id="no name"),
        pytest.param(b",id\n0,2\n", ["has no name for its first column"], id="the index of pandas"),
        pytest.param(b'id,text\n1,"secret\n2,b\n', ["line 2", "quotes that do not end"], id="quotes stay open"),
        pytest.param(b'id,text\n1,"secret" b\n', ["line 2", "a text after closing quotes"], id="text after quotes"),
        pytest.param(b"id,text\r1,secret\r", ["line 1", "carriage return"], id="lines of old Macs"),
        pytest.param(b"id;text\n1;secret\n", ["line 1", "another separator", ".tsv"], id="semicolons"),
        pytest.param(b"id\ttext\n1\tsecret\n", ["line 1", "has no comma", ".tsv"], id="tabs"),
        pytest.param('id,text\n1,a\n2,"secret ä"'.encode("latin-1"), ["line 3", "UTF-8", "iconv"], id="Latin-1"),
        pytest.param(
            gzip.compress(b"id,text\n1,a\n" * 9999)[:-9], ["breaks off after line", "cut or damaged"], id="cut"
        ),
        pytest.param(b"PAR1", ["is a Parquet file, not CSV"], id="Parquet"),
        pytest.param(b"PK\x03\x04", ["a zip or Excel file, not CSV"], id="Excel"),
        pytest.param(gzip.compress(gzip.compress(b"a")), ["compressed twice"], id="compressed twice"),
    ],
)
def test_bad_file_is_refused_with_its_line(data: bytes, says: list[str]) -> None:
    message = refusal(a__csv=data)
    for words in says:
        assert words in message


@pytest.mark.parametrize("data", [b'id,text\n1,"' + b"a,b\n" * 100, b"id,text\n1," + b"a" * 500], ids=["quote", "line"])
def test_row_without_an_end_is_refused_before_it_fills_the_memory(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_LONGEST_ROW", 200)
    assert "line 2 of /data/a.csv begins a row of more than 200 bytes" in refusal(a__csv=data)
