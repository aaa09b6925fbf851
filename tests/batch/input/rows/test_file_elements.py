"""Elements of source rows with files: blocks before the prompt, and errors that name the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from batch.input.rows.test_file_blocks import Files
from media_files import pdf, png

from airflow_claude_batch.batch.input.rows.elements_of_rows import RowElements
from airflow_claude_batch.batch.input.rows.file_blocks import FileBlocks
from airflow_claude_batch.batch.input.rows.source import SourceRow
from airflow_claude_batch.exceptions import InvalidMessageError, SourceError

STORE = Files({"s3://b/a.pdf": pdf(), "s3://b/c.png": png(), "s3://b/page": b"<html>404</html>"})


class Rows:
    """A source of rows that are in memory."""

    columns = ("id", "uri")

    def __init__(self, *uris: Any) -> None:
        self._uris = uris
        self.place = ""

    def __iter__(self) -> Iterator[SourceRow]:
        for index, uri in enumerate(self._uris):
            self.place = f"line {index + 2} of s3://warehouse-exports/day=2026-11-29/invoices.csv"
            yield {"id": index, "uri": uri}


def elements(*uris: Any, prompt: str = "Invoice {id}: what is its total?") -> list[dict[str, Any]]:
    return list(RowElements(Rows(*uris), prompt=prompt, key="id", files=FileBlocks(["{uri}"], STORE)))


def test_files_go_before_the_prompt() -> None:
    first, second, third = elements("s3://b/a.pdf", None, ["s3://b/c.png", "s3://b/a.pdf"])

    assert [block["type"] for block in first["prompt"]] == ["document", "text"]
    assert second == {"key": 1, "prompt": [{"type": "text", "text": "Invoice 1: what is its total?"}]}
    assert [block["type"] for block in third["prompt"]] == ["image", "document", "text"]


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("s3://b/missing.pdf", "'s3://b/missing.pdf' does not exist."),
        ("s3://b/page", "'s3://b/page' is an HTML page, not an image or a PDF."),
        ("/etc/passwd", "no URI"),
        (b"%PDF", "column 'uri' holds bytes"),
        ("s3://evil@bucket/" + "a" * 300, "names a connection"),
    ],
)
def test_errors_name_the_row_its_place_and_the_file(uri: Any, problem: str) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        elements("s3://b/a.pdf", uri)

    first, money, *_ = str(caught.value).split("\n")
    assert first.startswith("rows[1] (line 3 of")
    assert problem in first
    assert len(first) <= 120
    assert money == "Nothing was sent."


def test_a_storage_that_fails_is_no_error_of_the_row() -> None:
    store = Files({"s3://b/a.pdf": ConnectionResetError("reset")})

    with pytest.raises(SourceError, match=r"^rows\[0\].*: files\[0\] \(uri\): 's3://b/a.pdf' could not be read: Conn"):
        list(RowElements(Rows("s3://b/a.pdf"), prompt="What?", files=FileBlocks(["{uri}"], store)))
