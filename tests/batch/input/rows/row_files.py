"""Row files in memory, and what reads them."""

from __future__ import annotations

import io
from typing import Any

import pytest

from airflow_claude_batch.batch.input.rows.file_rows import FileRowSource
from airflow_claude_batch.batch.input.rows.row_file import RowFile
from airflow_claude_batch.exceptions import InputError


def source_of(**files: bytes) -> FileRowSource:
    """Return the rows of files, by name. A double underscore stands for the dot."""
    row_files = [
        RowFile(f"/data/{name.replace('__', '.')}", lambda data=data: io.BytesIO(data)) for name, data in files.items()
    ]
    return FileRowSource(lambda: row_files)


def read(**files: bytes) -> list[dict[str, Any]]:
    return [dict(row) for row in source_of(**files)]


def refusal(**files: bytes) -> str:
    """Return the message of the error about the files. Its lines have the right form, and it quotes no secret."""
    with pytest.raises(InputError) as caught:
        read(**files)
    message = str(caught.value)
    first, money, *remedy = message.split("\n")
    assert first.startswith("rows: ")
    assert first.endswith(".")
    assert len(first) <= 120
    assert money.startswith("Nothing was sent.")
    assert remedy
    assert "secret" not in message
    return message
