"""Elements of no accepted shape: each is named, and the error says how it becomes an element."""

from __future__ import annotations

import dataclasses
from collections import namedtuple
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from anthropic.types import TextBlock
from batch.input.test_containers import of_package, sqlite_row

from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.wrong_texts import TextCheck
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InvalidMessageError

pl = pytest.importorskip("polars")
USER = {"role": "user", "content": "secret"}
Row = namedtuple("Row", "id text")  # as database drivers make them


@dataclasses.dataclass
class Dataclass:
    prompt: str


def sqlalchemy_row() -> Any:
    import sqlalchemy

    engine = sqlalchemy.create_engine("sqlite://")
    with engine.connect() as connection:
        row = connection.execute(sqlalchemy.text("SELECT 1 AS id, 'secret' AS text")).fetchone()
    engine.dispose()
    return row


BY_POSITION = '[{"key": row[0], "prompt": row[1]} for row in rows]'
BY_NAME = '[{"key": row["id"], "prompt": row["text"]} for row in rows]'


@pytest.mark.parametrize(
    ("element", "says"),
    [
        pytest.param(None, ["not None.", "A value is missing"], id="None"),
        pytest.param(float("nan"), ["not float.", "A value is missing"], id="NaN"),
        pytest.param(of_package("pandas", "NAType"), ["not NAType.", "A value is missing"], id="NA of pandas"),
        pytest.param(7, ["not int.", "str()"], id="number"),
        pytest.param(b"secret", ["not bytes.", ".decode()"], id="bytes"),
        pytest.param(date(2026, 1, 2), ["not date.", ".isoformat()"], id="date"),
        pytest.param(Path("/data/a.txt"), ["the path of a file", "expand(messages=paths)", "read_text()"], id="Path"),
        pytest.param((1, "secret"), ["a tuple of values is a row", BY_POSITION, "rows.map(lambda"], id="tuple"),
        pytest.param(("secret",), ["a tuple of values is a row", "[row[0] for row in rows]"], id="one column"),
        pytest.param(("secret", "b"), ["a tuple of values is a row", BY_POSITION], id="tuple of texts"),
        pytest.param(Row(1, "secret"), ["Row is a row", '"key": row.id'], id="named tuple"),
        pytest.param(
            (0, of_package("pandas", "Series", __array__=None, ndim=1)), ["a row", 'to_dict("records")'], id="iterrows"
        ),
        pytest.param((0, pl.DataFrame({"a": ["secret"]})), ["a row", "iter_rows(named=True)"], id="groupby"),
        pytest.param(sqlite_row(), ["sqlite3.Row: a row", BY_POSITION], id="row of sqlite3"),
        pytest.param(sqlalchemy_row(), ["not sqlalchemy.", "Row: a row", BY_POSITION], id="row of SQLAlchemy"),
        pytest.param(["secret", "b"], ["a list of texts", "not a list in the list"], id="list of texts"),
        pytest.param([1, "secret"], ["not of int", BY_POSITION], id="list of values"),
        pytest.param([[USER]], ["a list of lists", "expand(messages=[…])"], id="list of conversations"),
        pytest.param([TextBlock(type="text", text="secret")], ["anthropic.TextBlock", ".model_dump("], id="SDK blocks"),
        pytest.param(TextBlock(type="text", text="secret"), ["not TextBlock.", ".model_dump("], id="SDK object"),
        pytest.param(Dataclass("secret"), ["not Dataclass.", "dataclasses.asdict("], id="dataclass"),
        pytest.param(
            pl.DataFrame({"a": ["secret"]}), ["polars.DataFrame: a data frame", "iter_rows(named=True)"], id="frame"
        ),
        pytest.param(pa.array(["secret"]), ["pyarrow.StringArray: an array", BY_NAME], id="array"),
        pytest.param(pa.scalar("secret"), ["not StringScalar.", ".as_py()"], id="scalar of pyarrow"),
        pytest.param({"a"}, ["not set.", "sorted("], id="set"),
        pytest.param(iter("a"), ["not str_ascii_iterator.", "list(…)"], id="iterator"),
        pytest.param(len, ["not builtin_function_or_method.", "Call it"], id="function"),
        pytest.param(
            of_package("airflow", "XComArg", iter_references=None, resolve=None),
            ["the output of a task, not resolved"],
            id="task output",
        ),
        pytest.param(
            {"ticket": 1, "title": "b", "body": "secret", "at": None},
            [
                "'ticket', 'title', 'body', …: a row",
                "Give them as rows=…, key='ticket' and prompt='… {body} …' (@task.claude_batch: ",
                '[{"key": row["ticket"], "prompt": row["body"]} for row in rows]',
            ],
            id="row as a mapping",
        ),
        pytest.param({"id": 1, "count": 2}, ["'id', 'count': a row", BY_NAME], id="row without texts"),
        pytest.param({"text": "secret"}, ["unknown field 'text'", "Did you mean 'prompt'?"], id="text for prompt"),
        pytest.param({"id": 1, "prompt": "secret"}, ["unknown field 'id'", "Did you mean 'key'?"], id="id for key"),
        pytest.param(
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"x": "secret"}},
            ["a line of an OpenAI batch file", '"params"'],
            id="OpenAI's line",
        ),
        pytest.param({"recordId": "a", "modelInput": {}}, ["a record of Bedrock's"], id="Bedrock's record"),
        pytest.param({"custom_id": "a", "result": {}}, ["a row of results", "read_rows"], id="result of the API"),
        pytest.param(
            {"index": 0, "key": 0, "status": "succeeded", "text": "secret"}, ["a row of results"], id="our row"
        ),
        pytest.param({"hash": "x", "key": 1, "params": {}}, ["a submission's requests.jsonl"], id="our request"),
        pytest.param({"requests": []}, ["the body of a create call"], id="body of a create call"),
        pytest.param({"type": "text", "text": "secret"}, ["a content block", '{"prompt": ['], id="content block"),
    ],
)
def test_element_of_no_known_shape_is_explained(element: Any, says: list[str]) -> None:
    with pytest.raises(InvalidMessageError) as error:
        read_request(element, 3, Defaults(model="claude-haiku-5-5", max_tokens=9))

    first, _, _ = str(error.value).partition("\n")
    assert first.startswith("messages[3]")
    assert len(first) <= 120
    assert "\nNothing was sent.\n" in str(error.value)
    assert "secret" not in str(error.value)
    for words in says:
        assert words in str(error.value)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        pytest.param(None, "A value is missing", id="None"),
        pytest.param(float("nan"), "A value is missing", id="NaN"),
        pytest.param(b"secret", ".decode()", id="bytes"),
        pytest.param(Path("/secret"), ".read_text()", id="path"),
        pytest.param({"type": "text", "text": "secret"}, "in a list", id="one block"),
        pytest.param(({"type": "text", "text": "secret"},), "list(blocks)", id="blocks in a tuple"),
        pytest.param(7, "Convert the prompt to a string", id="number"),
    ],
)
def test_prompt_of_the_wrong_type_is_refused_with_the_remedy(prompt: Any, says: str) -> None:
    with pytest.raises(
        InvalidMessageError, match="'prompt' must be a string or a list of content blocks, not "
    ) as error:
        read_request({"key": 1, "prompt": prompt}, 0, Defaults(model="claude-haiku-5-5", max_tokens=9))
    assert says in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "element",
    [
        pytest.param({"role": "user", "content": [TextBlock(type="text", text="secret")]}, id="block"),
        pytest.param([USER, TextBlock(type="text", text="secret")], id="message"),
    ],
)
def test_object_of_the_sdk_within_a_message_is_refused_with_the_remedy(element: Any) -> None:
    request = read_request(element, 0, Defaults(model="claude-haiku-5-5", max_tokens=9))
    with pytest.raises(InvalidMessageError, match=r"\.model_dump\(") as error:
        RequestChecker(PriceTable.load(), api_version="2026-10-21", betas=()).check(request)
    assert "secret" not in str(error.value)


# ---------------------------------------------------------------- texts that are no prompts


def check_texts(elements: list[Any]) -> None:
    texts = TextCheck()
    for element in elements:
        texts.see(element)
    texts.check()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with a few files."""
    for name in ("there.txt", "with blanks.txt", "no_extension"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param(["/data/a.txt", "/data/b.pdf"], id="paths"),
        pytest.param(["s3://bucket/a.txt", "gs://bucket/folder/b"], id="URIs"),
        pytest.param(["s3://bucket/my file.txt"], id="URI with blanks"),
        pytest.param(["~/a.md", "../b.html", "./c.json"], id="relative paths"),
        pytest.param(["C:\\data\\a.docx"], id="path on Windows"),
        pytest.param(["tickets-01.jsonl", "day=1/tickets.ndjson.gz"], id="files of elements"),
        pytest.param(["there.txt"], id="name of a file that is there"),
        pytest.param(["./with blanks.txt", "./no_extension"], id="files that are there"),
    ],
)
def test_list_of_paths_is_refused(elements: list[str], folder: Path) -> None:
    with pytest.raises(InvalidMessageError, match=r"is the path of a file\.(?s:.*)expand\(messages=paths\)"):
        check_texts(elements)


@pytest.mark.parametrize(
    "elements",
    [
        pytest.param(["/etc/passwd", "a prompt"], id="a path among prompts"),
        pytest.param(["a prompt", "/data/a.txt"], id="a path after a prompt"),
        pytest.param(["/help", "/start"], id="commands"),
        pytest.param(["https://example.com/a.html"], id="addresses of the web"),
        pytest.param(["report.pdf", "invoice.docx"], id="names to judge"),
        pytest.param(["Summarise s3://bucket/a.txt, please", "Explain /data/a.csv"], id="sentences"),
        pytest.param(["s3://bucket/a.txt is missing. Why?"], id="sentence that begins with a URI"),
        pytest.param(["/help me with report.pdf"], id="sentence that begins with a slash"),
        pytest.param(["and/or"], id="slash"),
        pytest.param([{"prompt": "/data/a.txt"}], id="path as a prompt by name"),
        pytest.param(["{a}", "{}", '{"question": "a"}', "{"], id="braces"),
        pytest.param(['{"prompt": "a"}', "/data/a.txt"], id="of different kinds"),
        pytest.param(["/data/a.txt\n/data/b.txt"], id="several lines"),
        pytest.param([], id="none"),
    ],
)
def test_prompts_are_taken(elements: list[Any], folder: Path) -> None:
    check_texts(elements)


@pytest.mark.parametrize(
    "elements",
    [
        ['{"prompt": "secret"}', '{"key": 1, "messages": []}'],
        ['{"role": "user", "content": "secret"}'],
        ['{"custom_id": "a", "params": {}}'],
    ],
    ids=["elements", "message", "API shape"],
)
def test_list_of_elements_as_json_is_refused(elements: list[str]) -> None:
    with pytest.raises(InvalidMessageError, match=r"the JSON of an element\.(?s:.*)json\.loads") as error:
        check_texts(elements)
    assert "secret" not in str(error.value)
