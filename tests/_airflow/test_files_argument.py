"""``files=`` on the operator: files of a folder go into requests, and bad ones are named by their rows."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from airflow_fixtures import KEY
from media_files import jpeg, pdf, png

from airflow_claude_batch._airflow.read_messages import write_input
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InputError, InvalidMessageError
from airflow_claude_batch.hooks import ClaudeHook
from airflow_claude_batch.operators import SendMessageBatchOperator


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ClaudeHook:
    connection = {"conn_type": "claude", "password": KEY, "extra": {"model": "claude-haiku-5-5"}}
    monkeypatch.setenv("AIRFLOW_CONN_CLAUDE_DEFAULT", json.dumps(connection))
    return ClaudeHook()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    files = {"a.pdf": pdf(), "b.png": png(), "wide.jpg": jpeg(9000, 10), "page.pdf": b"<html>404</html>"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def contents(hook: ClaudeHook, names: list[Any], **arguments: Any) -> list[Any]:
    """Return what the requests of rows with these names ask."""
    rows = [{"id": f"R{index}", "name": name} for index, name in enumerate(names)]
    task = SendMessageBatchOperator(task_id="label", rows=rows, key="id", prompt="What is {name}?", **arguments)
    file = io.BytesIO()
    write_input(task.options(), hook, PriceTable.load(), file)
    return [json.loads(line)["params"]["messages"][0]["content"] for line in file.getvalue().splitlines()]


def test_files_go_into_the_requests(hook: ClaudeHook, folder: Path) -> None:
    document, image, nothing = contents(hook, ["a.pdf", "b.png", None], files=[f"{folder}/{{name}}"])

    assert [block["type"] for block in document] == ["document", "text"]
    assert base64.b64decode(document[0]["source"]["data"]) == pdf()
    assert image[0]["source"]["media_type"] == "image/png"
    assert nothing == [{"type": "text", "text": "What is ?"}]


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.pdf", "does not exist"),
        ("page.pdf", "is an HTML page, not an image or a PDF"),
        ("../a.pdf", "goes to a folder above"),
        ("wide.jpg", "9000 x 10 pixels"),
    ],
)
def test_a_file_that_cannot_be_sent_is_named_by_its_row(
    name: str, problem: str, hook: ClaudeHook, folder: Path
) -> None:
    with pytest.raises(InvalidMessageError) as caught:
        contents(hook, ["a.pdf", name], files=[f"{folder}/{{name}}"])

    first = str(caught.value).split("\n")[0]
    assert first.startswith("rows[1]")
    assert problem in first
    assert len(first) <= 120


def test_a_column_that_the_rows_do_not_have_is_refused(hook: ClaudeHook, folder: Path) -> None:
    with pytest.raises(InputError, match=r"files\[0\]: \{nmae\} is no column of the rows"):
        contents(hook, ["a.pdf"], files=[f"{folder}/{{nmae}}"])


def test_a_row_reads_nothing_of_the_workers_disk(hook: ClaudeHook, folder: Path) -> None:
    for name in (f"{folder}/a.pdf", f"file://{folder}/a.pdf", "/etc/passwd"):
        with pytest.raises(InvalidMessageError, match=r"is no URI of storage|is on the worker's disk"):
            contents(hook, [name], files=["{name}"])
