"""JSON lines as rows: an object a line, with the columns of the first one."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from batch.input.rows.row_files import read, refusal, source_of


@pytest.mark.parametrize("name", ["a__jsonl", "a__ndjson", "a__JSONL__GZ"])
@pytest.mark.parametrize("packed", [False, True])
def test_objects_are_rows(name: str, packed: bool) -> None:
    data = '\ufeff{"id": 1, "text": "ä\\u2028"}\n\n{"id": null, "text": {"a": [1.5, true]}}'.encode()

    rows = read(**{name: gzip.compress(data) if packed else data})

    assert rows == [{"id": 1, "text": "ä\u2028"}, {"id": None, "text": {"a": [1.5, True]}}]


def test_whole_numbers_keep_their_digits() -> None:
    (row,) = read(a__jsonl=b'{"id": 123456789012345678901234567890, "x": 1.0}')
    assert row == {"id": 123456789012345678901234567890, "x": 1.0}
    assert isinstance(row["x"], float)


def test_columns_stand_in_the_order_of_the_first_row() -> None:
    source = source_of(a__jsonl=b'{"b": 1, "a": 2}\n{"a": 3, "b": 4}')
    assert [list(row.items()) for row in source] == [[("b", 1), ("a", 2)], [("b", 4), ("a", 3)]]
    assert source.columns == ("b", "a")


def test_place_counts_blank_lines() -> None:
    source = source_of(a__jsonl=b'\n{"a": 1}\n\n{"a": 2}')
    assert [source.place for _ in source] == ["line 2 of /data/a.jsonl", "line 4 of /data/a.jsonl"]


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\xef\xbb\xbf"])
def test_file_without_lines_has_no_columns(data: bytes) -> None:
    source = source_of(a__jsonl=data)
    assert list(source) == []
    assert source.columns == ()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        pytest.param(b'{"a": 1}', ["lacks the column 'b'", "'a' and 'b'", "(None, null)"], id="missing column"),
        pytest.param(b'{"a": 1, "b": 2, "secre": 3}', ["has a column more: 'secre'"], id="another column"),
        pytest.param(b'{"a": 1, "c": 2}', ["lacks the column 'b'"], id="renamed column"),
        pytest.param(b'["secret"]', ["is an array, not an object", "jq -c"], id="array"),
        pytest.param(b'"secret"', ["is a text, not an object"], id="text"),
        pytest.param(b"null", ["is null, not an object"], id="null"),
        pytest.param(b"true", ["is a boolean, not an object"], id="boolean"),
        pytest.param(b"a,secret", ["looks like CSV", ".csv"], id="CSV"),
        pytest.param(b"This is secret", ["plain text", "json.dumps(row)"], id="plain text"),
        pytest.param(b"{'a': 'secret'}", ["as Python shows it", "json.dumps(row)"], id="repr"),
        pytest.param(b'{"a": NaN, "b": "secret"}', ["has NaN", "Write null", "json.dumps(row,"], id="NaN"),
        pytest.param(b'{"a": "secret', ["breaks off", "each row"], id="cut"),
        pytest.param('{"a": "secret ä"}'.encode("latin-1"), ["is not UTF-8", "iconv"], id="Latin-1"),
    ],
)
def test_bad_line_is_refused_with_its_number(line: bytes, says: list[str]) -> None:
    message = refusal(a__jsonl=b'\n{"a": 1, "b": 2}\n' + line)
    assert message.startswith("rows: line 3 of /data/a.jsonl ")
    assert "element" not in message
    for words in says:
        assert words in message


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[\n", "line 1 of /data/a.jsonl is not JSON: it breaks off"),
        (b"{}", "line 1 of /data/a.jsonl has no columns"),
        (b'{"": 1}', "has no name for its first column"),
        (gzip.compress(b'{"a": 1}\n' * 9999)[:-9], "breaks off after line"),
        (b"PAR1", "is a Parquet file, not JSON lines"),
        ('{"a": 1}\n'.encode("utf-16")[:-1], "line 1 of /data/a.jsonl is not UTF-16"),
    ],
)
def test_bad_file_is_refused(data: bytes, says: str) -> None:
    assert says in refusal(a__jsonl=data)


def test_long_value_is_a_row_like_others() -> None:
    long: Any = "x" * 10_000_000
    assert read(a__jsonl=f'{{"a": 1}}\n{{"a": "{long}"}}\n'.encode()) == [{"a": 1}, {"a": long}]
