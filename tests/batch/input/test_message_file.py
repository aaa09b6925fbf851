"""Files of elements: taken where the meaning is certain, else refused with the cause, the line and the remedy."""

from __future__ import annotations

import bz2
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batch.input.file_format import check_path
from airflow_claude_batch.batch.input.message_file import MessageFile
from airflow_claude_batch.exceptions import InputError

ELEMENTS = [{"key": "ä", "prompt": "a"}, {"key": 2, "prompt": "b\u2028"}]
LINES = "".join(json.dumps(element, ensure_ascii=False) + "\n" for element in ELEMENTS)
PRETTY = json.dumps(ELEMENTS, indent=2, ensure_ascii=False)
CONVERSATION = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]


def file_of(data: bytes, name: str = "m.jsonl") -> MessageFile:
    return MessageFile(name, lambda: io.BufferedReader(io.BytesIO(data)))  # type: ignore[arg-type, return-value]


def read(data: bytes, name: str = "m.jsonl") -> list[Any]:
    return list(file_of(data, name))


@pytest.mark.parametrize(
    ("data", "name"),
    [
        pytest.param(LINES.encode(), "m.jsonl", id="lines"),
        pytest.param(LINES.encode(), "m.json", id="lines in .json"),
        pytest.param(b"\xef\xbb\xbf" + LINES.encode(), "m.jsonl", id="byte order mark"),
        pytest.param(LINES.replace("\n", "\n\ufeff").encode(), "m.jsonl", id="marks inside of joined files"),
        pytest.param(LINES.encode("utf-16"), "m.jsonl", id="UTF-16"),
        pytest.param(b"\xfe\xff" + LINES.encode("utf-16-be"), "m.jsonl", id="UTF-16, big-endian"),
        pytest.param(LINES.encode("utf-16-le"), "m.jsonl", id="UTF-16 without a mark"),
        pytest.param(LINES.encode("utf-16-be"), "m.jsonl", id="UTF-16 without a mark, big-endian"),
        pytest.param(LINES.encode("utf-32"), "m.jsonl", id="UTF-32"),
        pytest.param(gzip.compress(LINES.encode("utf-16")), "m.jsonl.gz", id="UTF-16, compressed"),
        pytest.param(PRETTY.encode("utf-16"), "m.json", id="UTF-16 array"),
        pytest.param(f"\n \n{LINES}\n".replace("\n", "\r\n").encode(), "m.jsonl", id="CRLF and blank lines"),
        pytest.param(LINES.encode(), "m.jsonl.gz", id="unpacked on the way"),
        pytest.param(gzip.compress(LINES.encode()), "m.jsonl", id="compressed without .gz"),
        pytest.param(json.dumps(ELEMENTS).encode(), "m.json", id="array on a line"),
        pytest.param(json.dumps(ELEMENTS).encode(), "m.jsonl", id="array on a line in .jsonl"),
        pytest.param(PRETTY.encode(), "m.json", id="array over several lines"),
        pytest.param(PRETTY.encode(), "m.jsonl", id="array over several lines in .jsonl"),
        pytest.param(
            "\n\n".join(json.dumps(e, indent=1) for e in ELEMENTS).encode(), "m.jsonl", id="values over lines"
        ),
        pytest.param(("[\n" + ",\n".join(map(json.dumps, ELEMENTS)) + "\n]").encode(), "m.json", id="array of lines"),
    ],
)
def test_file_whose_meaning_is_certain_is_taken(data: bytes, name: str) -> None:
    assert read(data, name) == ELEMENTS


@pytest.mark.parametrize(
    ("data", "name", "elements"),
    [
        pytest.param(json.dumps(CONVERSATION).encode(), "m.jsonl", [CONVERSATION], id="line of messages"),
        pytest.param(json.dumps(CONVERSATION, indent=1).encode(), "m.jsonl", [CONVERSATION], id="over several lines"),
        pytest.param(json.dumps(CONVERSATION).encode(), "m.json", CONVERSATION, id="array of messages"),
        pytest.param(json.dumps([CONVERSATION]).encode(), "m.jsonl", [CONVERSATION], id="array of conversations"),
        pytest.param(json.dumps(["a"]).encode() + b'\n"b"', "m.jsonl", [["a"], "b"], id="one line of several"),
        pytest.param(json.dumps({"prompt": "a"}, indent=1).encode(), "m.json", [{"prompt": "a"}], id="one element"),
        pytest.param(b"[]", "m.json", [], id="empty array"),
        pytest.param(b"\xef\xbb\xbf", "m.jsonl", [], id="byte order mark alone"),
        pytest.param(b"", "m.jsonl.gz", [], id="empty, called .gz"),
    ],
)
def test_list_in_a_file_is_one_element_or_all(data: bytes, name: str, elements: list[Any]) -> None:
    assert read(data, name) == elements


def test_line_numbers_count_blank_lines() -> None:
    file = file_of(b'\n"a"\n\n\n"b"\n"c"')
    assert [(file.place, element) for element in file] == [
        ("line 2 of m.jsonl", "a"),
        ("line 5 of m.jsonl", "b"),
        ("line 6 of m.jsonl", "c"),
    ]
    file = file_of(PRETTY.encode(), "m.json")
    assert {file.place for _ in file} == {"m.json"}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param('"secret ä"'.encode("latin-1"), ["line 1", "is not UTF-8: byte 9", "iconv"], id="Latin-1"),
        pytest.param(LINES.encode("utf-16")[:-1], ["line 2", "is not UTF-16", "in UTF-8"], id="UTF-16, cut"),
        pytest.param(b"\n1\n\0\0\0", ["line 3", "has NUL characters", "whole"], id="NUL characters"),
        pytest.param(b"id,text\n1,secret", ["line 1", "it looks like CSV", "csv.DictReader"], id="CSV"),
        pytest.param(b'"id","text"\n"1","secret"', ["line 1", "it looks like CSV"], id="CSV with quotes"),
        pytest.param(b"1;secret", ["line 1", "it looks like CSV"], id="CSV with semicolons"),
        pytest.param(b"What is the secret?", ["line 1", "it is plain text", "in quotes"], id="plain text"),
        pytest.param(b"<a>secret</a>", ["line 1", "XML or HTML"], id="XML"),
        pytest.param(b"1\n{'prompt': 'secret'}", ["line 2", "as Python shows it", "json.dumps"], id="single quotes"),
        pytest.param(b'1\n{"key": None}', ["line 2", "column 9", "as Python shows it"], id="None"),
        pytest.param(b'1\n{"prompt": "secret"},\n', ["line 2", "ends with a comma", "commas"], id="comma at the end"),
        pytest.param(b'1\n{"prompt": "secret",}', ["line 2", "a comma before the bracket"], id="comma inside"),
        pytest.param(b'1\n"secret" "b"', ["line 2", "another value begins at column 10"], id="two values"),
        pytest.param(b'1\n"secret', ["line 2", "breaks off", "whole"], id="cut text"),
        pytest.param(b'1\n{"prompt":', ["line 2", "breaks off", "whole"], id="cut mapping"),
        pytest.param(b'1\n"secret\t"', ["line 2", "a control character at column 8", "\\t"], id="tab"),
        pytest.param(b'1\n"C:\\secret"', ["line 2", "the backslash at column 4"], id="backslash"),
        pytest.param(b'1\n{"x": NaN}', ["line 2", "has NaN", "Write null"], id="NaN"),
        pytest.param(b'1\n[-Infinity, "secret"]', ["line 2", "has -Infinity", "Write null"], id="infinity"),
        pytest.param(
            b'1\n{"a": "secret \\ud83d"}', ["line 2", "value.a has a lone surrogate", "encode("], id="surrogate"
        ),
        pytest.param(b'1\n{"a": 1e999}', ["line 2", "value.a is inf"], id="number too large"),
        pytest.param(b'1\n"secret' + b" " * 5_000_000, ["line 2", "is not JSON."], id="long line"),
        pytest.param(b'"secret' + b" " * 5_000_000, ["line 1", "is not JSON."], id="long first line"),
        pytest.param(b"1\n" + b"9" * 5000, ["line 2", "too many digits"], id="too many digits"),
        pytest.param(b"1\n" + b"[" * 90000, ["line 2", "nested too deeply"], id="too deep"),
        pytest.param(b'[\n "secret",\n\n "b",\n]', ["line 5", "a comma before the bracket"], id="comma in an array"),
        pytest.param(b'[\n {"a":\n  NaN}]', ["line 3", "has NaN"], id="NaN in an array"),
        pytest.param(b'[\n "NaN",\n "secret"', ["line 3", "breaks off"], id="cut array"),
        pytest.param(bz2.compress(b"x"), ["m.jsonl is compressed with bzip2", "bz2.open"], id="bzip2"),
        pytest.param(gzip.compress(gzip.compress(b"1")), ["compressed twice"], id="compressed twice"),
        pytest.param(b"PAR1", ["a Parquet file", "iter_batches"], id="Parquet"),
        pytest.param(gzip.compress(b"PAR1"), ["a Parquet file"], id="Parquet, compressed"),
        pytest.param(b"PK\x03\x04", ["a zip or Excel file"], id="zip"),
        pytest.param(
            gzip.compress(LINES.encode() * 500, mtime=0)[:-9],
            ["breaks off after line", "cut or damaged"],
            id="gzip, cut",
        ),
    ],
)
def test_file_that_is_no_json_is_refused_with_the_cause(data: bytes, says: list[str]) -> None:
    with pytest.raises(InputError) as error:
        read(data)

    assert "m.jsonl" in str(error.value).partition("\n")[0]
    assert "\nNothing was sent.\n" in str(error.value)
    assert "secret" not in str(error.value)
    assert "Error" not in str(error.value)
    for words in says:
        assert words in str(error.value)


def test_long_value_over_several_lines_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_claude_batch.batch.input.message_file._LONGEST_DOCUMENT", 100)
    with pytest.raises(InputError, match=r"line 2 of m\.json begins JSON over several lines(?s:.*)jq -c"):
        read(b"\n[\n" + b'"a",\n' * 100, "m.json")


@pytest.mark.parametrize(
    "path",
    ["m.jsonl", "M.JSONL", "m.ndjson", "m.json", "m.jsonl.gz", "m.NDJSON.GZ", "s3://bucket/m.json.gz", "~/a b/m.jsonl"],
)
def test_path_of_a_file_of_elements_is_taken(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("", ["an empty text", "it gave nothing"], id="empty"),
        pytest.param(str(Path("s3://bucket/m.jsonl")), ["lost a slash", "ObjectStoragePath"], id="URI as a Path"),
        pytest.param("/data/*.jsonl", ["not a pattern: '/data/*.jsonl'", "expand(messages=paths)"], id="pattern"),
        pytest.param("s3://bucket/day=?/m.jsonl", ["not a pattern", "expand(messages=paths)"], id="pattern in a URI"),
        pytest.param("s3://bucket/day=1/", ["of a folder: 's3://bucket/day=1/'", "expand("], id="folder in a URI"),
        pytest.param("/data/m.csv", ["'/data/m.csv'", "csv.DictReader"], id="CSV"),
        pytest.param("/data/m.csv.gz", ["'/data/m.csv.gz'", "csv.DictReader"], id="CSV, compressed"),
        pytest.param("s3://bucket/m.parquet", ["'s3://bucket/m.parquet'", "iter_batches"], id="Parquet"),
        pytest.param("/data/m.xlsx", ["read_excel"], id="Excel"),
        pytest.param("/data/m.txt", ["each line of the file"], id="text"),
        pytest.param("/data/m.pdf", ["'/data/m.pdf'", "'prompt'"], id="document"),
        pytest.param("/data/part-0000", ["'/data/part-0000'", "ends in .jsonl"], id="no extension"),
        pytest.param("Read this:\n/data/m.jsonl", ["not a text", "messages=['…']"], id="lines"),
        pytest.param("a\0.jsonl", ["not a text"], id="NUL"),
        pytest.param("What is tea?", ["not a text", "messages=['…']"], id="prompt"),
        pytest.param("What is *tea*?", ["not a text", "messages=['…']"], id="prompt with stars"),
    ],
)
def test_path_of_something_else_is_refused_with_the_remedy(path: str, says: list[str]) -> None:
    with pytest.raises(InputError) as error:
        check_path(path)
    assert "\nNothing was sent.\n" in str(error.value)
    for words in says:
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        pytest.param("/etc/hostname/m.jsonl", "there is no file /etc/hostname/m.jsonl.", id="below a file"),
        pytest.param("/my folder/m.jsonl", "there is no file /my folder/m.jsonl.", id="with blanks"),
        pytest.param("/" + "m" * 300 + ".jsonl", "mmm.jsonl.", id="longer than any name"),
        pytest.param("Sum up the secret data.json", "ends like a path, and there is no such file", id="prompt"),
    ],
)
def test_path_of_no_file_is_named_unless_it_may_be_a_prompt(path: str, says: str) -> None:
    with pytest.raises(InputError) as error:
        list(MessageFile(path, lambda: open(path, "rb")))  # noqa: PTH123, SIM115  # MessageFile closes it

    assert says in str(error.value)
    assert "secret" not in str(error.value)


def test_folder_and_name_with_brackets_on_a_disk_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a[1].jsonl").touch()
    check_path(str(tmp_path / "a[1].jsonl"))

    (tmp_path / "spark.jsonl").mkdir()
    with pytest.raises(InputError, match="not of a folder"):
        check_path(str(tmp_path / "spark.jsonl"))
