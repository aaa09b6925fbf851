"""Kept columns: they go into the rows, belong to their requests, and never cost an answer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from submission_world import TEN, World, make_world

from airflow_claude_batch._airflow.read_batch import SensedBatches, requests_reader
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.kept_columns import KeptColumns, KeptColumnsWriter
from airflow_claude_batch.batch.input.request_file import RequestFile, open_requests
from airflow_claude_batch.batch.input.request_index import RequestIndexWriter
from airflow_claude_batch.batch.input.request_writer import create_request_file, write_requests
from airflow_claude_batch.batch.land.rows import body_of_line, line_of
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.steps import DoneStep, WaitStep
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import SubmissionRecordError
from airflow_claude_batch.rows import read_rows

WAIT = Policy(wait_for_completion=True)
COLUMNS = [{"title": f"Ticket {number} ü", "score": number / 4, "tags": [None, {"a": 1}]} for number in range(10)]
OTHER = [{**columns, "title": "other"} for columns in COLUMNS]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def names(world: World) -> list[str]:
    return sorted(path.name.split("-")[0] for path in world.folder.path.iterdir())


def test_each_row_carries_the_columns_of_its_source_row(world: World) -> None:
    done = world.run(TEN, WAIT, kept=COLUMNS)
    assert isinstance(done, DoneStep)

    rows = list(read_rows(str(world.folder.path)))
    assert [row.input for row in rows] == COLUMNS
    assert done.manifest.responses is not None
    assert [row["input"] for row in done.manifest.responses] == COLUMNS
    assert list(world.rows[0])[:4] == ["index", "key", "input", "status"]


def test_rows_of_messages_have_no_input(world: World) -> None:
    world.run(TEN, WAIT)
    assert "input" not in world.rows[0]
    assert next(read_rows(str(world.folder.path))).input is None
    assert not [name for name in names(world) if name == "kept"]


def test_row_without_an_answer_carries_them_too(tmp_path: Path) -> None:
    world = make_world(tmp_path, outcome=lambda custom_id, params, attempt: "errored")
    world.run(TEN, Policy(wait_for_completion=True, allow_failed="100%"), kept=COLUMNS)
    assert [row["input"] for row in world.rows] == COLUMNS
    assert {row["status"] for row in world.rows} == {"errored"}


@pytest.mark.parametrize("between", ["retry", "clear"])
def test_changed_columns_come_into_the_rows_and_cost_nothing(world: World, between: str) -> None:
    world.run(TEN, WAIT, kept=COLUMNS)
    world.run(TEN, WAIT, kept=OTHER, clear=between == "clear")

    assert [row["input"] for row in world.rows] == OTHER
    assert world.billed == 10
    assert names(world).count("kept") == 1


@pytest.mark.parametrize(("before", "after"), [(None, COLUMNS), (COLUMNS, None)])
def test_columns_that_are_kept_from_now_on_or_no_more(world: World, before: Any, after: Any) -> None:
    world.run(TEN, WAIT, kept=before)
    world.run(TEN, WAIT, kept=after, clear=True)

    assert [row.get("input") for row in world.rows] == (after or [None] * 10)
    assert world.billed == 10
    assert names(world).count("kept") == (after is not None)


def test_changed_columns_reach_rows_of_parts_that_were_landed_before(tmp_path: Path) -> None:
    world = make_world(tmp_path, queue_limit=4)
    by_four = Policy(wait_for_completion=True, max_requests=4)
    with world.attempt(TEN, by_four, kept=COLUMNS) as submission:
        for _ in range(3):
            step = submission.advance()
            assert isinstance(step, WaitStep)
            world.clock.advance(100)
        assert 0 < len(world.rows) < 10

    world.run(TEN, by_four, kept=OTHER)
    assert [row["input"] for row in world.rows] == OTHER
    assert world.billed == 10


def test_changed_question_is_asked_anew_with_its_own_columns(world: World) -> None:
    world.run(TEN, WAIT, kept=COLUMNS)
    changed = ["another question", *TEN[1:]]
    world.run(changed, WAIT, kept=[OTHER[0], *COLUMNS[1:]], clear=True)

    assert [row["input"] for row in world.rows] == [OTHER[0], *COLUMNS[1:]]
    assert world.billed == 11


def test_duplicates_keep_their_own_columns(world: World) -> None:
    world.run(["same"] * 10, WAIT, kept=COLUMNS, deduplicate=True)
    assert [row["input"] for row in world.rows] == COLUMNS
    assert world.billed == 1


def requests_with(path: Path, columns: list[Any], *, size: int = 10) -> RequestFile:
    """Write requests of so many bytes with these kept columns."""

    def write(file: Any, index: RequestIndexWriter) -> int:
        requests = (
            Request(number, number, {"content": "x" * size}, kept=json.dumps(each).encode())
            for number, each in enumerate(columns)
        )
        count = write_requests(requests, file, index)
        assert index.kept is not None
        index.kept.types = {"n": "integer"}
        return count

    return create_request_file(path / "requests.jsonl", write)


@pytest.mark.parametrize("size", [10, 10_000], ids=["read as a whole", "read by its index"])
def test_requests_that_are_opened_again_have_their_columns_and_the_same_digest(tmp_path: Path, size: int) -> None:
    folder = LocalFolder(tmp_path / "submission")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    columns = [{"n": number} for number in range(300)]
    with requests_with(scratch, columns, size=size) as written:
        assert written.kept is not None
        written.kept.publish(folder, written.index.content.digest)
        with folder.replace_file("requests.jsonl") as file:
            file.write((scratch / "requests.jsonl").read_bytes())
        written.index.copy_to(folder)
        again = open_requests(folder, scratch, digest=written.digest)
        assert again is not None
        with again:
            assert again.digest == written.digest != written.index.content.digest
            assert again.kept is not None
            assert again.kept.types == {"n": "integer"}
            assert [json.loads(again.kept.of(number)) for number in (299, 0, 128, 127)] == [
                columns[number] for number in (299, 0, 128, 127)
            ]


def test_digest_tells_other_columns_and_other_types_apart(tmp_path: Path) -> None:
    digests = set()
    for number, (columns, types) in enumerate(
        [([{"n": 1}], {"n": "integer"}), ([{"n": 2}], {"n": "integer"}), ([{"n": 1}], {"n": "number"})]
    ):
        path = tmp_path / str(number)
        path.mkdir()
        kept = KeptColumnsWriter(path)
        for each in columns:
            kept.add(json.dumps(each).encode())
        kept.types = types
        kept.finish()
        written = KeptColumns.written(path)
        assert written is not None
        digests.add(written.digest)
    assert len(digests) == 3


@pytest.mark.parametrize("position", [20, -40], ids=["a value", "the description"])
def test_damaged_columns_are_an_error_that_says_what_to_do(world: World, position: int) -> None:
    world.run(TEN, WAIT, kept=COLUMNS)
    (path,) = world.folder.path.glob("kept-*")
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with RequestFile(world.folder.path / "requests.jsonl") as requests:
        digest = requests.index.content.digest

    def read_all() -> list[bytes]:
        kept = KeptColumns.open(world.folder, digest)
        assert kept is not None
        return [kept.of(number) for number in range(10)]

    with pytest.raises(SubmissionRecordError, match="kept columns") as raised:
        read_all()
    assert "clear the task that sent the requests" in str(raised.value)


def test_body_of_a_line_is_without_the_columns() -> None:
    body = b'"status":"succeeded","text":"\\u00fc"}'
    for kept in (b"", b'{"a": 1, "b": {"c": "}"}}'):
        assert body_of_line(line_of(3, b'{"k":1}', body, kept)) == body


def test_nothing_is_written_without_columns(tmp_path: Path) -> None:
    with create_request_file(
        tmp_path / "requests.jsonl", lambda file, index: write_requests([Request(0, 0, {"x": 1})], file, index)
    ) as requests:
        assert requests.kept is None
        assert requests.digest == requests.index.content.digest
    assert not list(tmp_path.glob("kept*"))
    assert write_requests([Request(0, 0, {"x": 1}, kept=b"{}")], io.BytesIO()) == 1


def test_manifest_names_the_columns(world: World) -> None:
    done = world.run(TEN, WAIT, kept=COLUMNS)
    assert isinstance(done, DoneStep)
    assert done.manifest.to_xcom()["kept_columns"] == ["title", "score", "tags"]

    done = world.run(TEN, WAIT, clear=True)
    assert isinstance(done, DoneStep)
    assert "kept_columns" not in done.manifest.to_xcom()


def test_sensor_lands_no_row_without_its_columns(world: World) -> None:
    world.run(TEN, WAIT, kept=COLUMNS)
    batches = SensedBatches(["msgbatch_1"], "s", world.folder, 10, None, has_kept_columns=True)
    read = requests_reader(batches, world.path)
    assert read is not None
    with read() as requests:
        assert requests.kept is not None
    (path,) = world.folder.path.glob("kept-*")
    path.unlink()
    with pytest.raises(SubmissionRecordError, match="has no kept columns that belong to its requests") as raised:
        read()
    assert "clear the operator's task" in str(raised.value)
    assert str(raised.value).count("Nothing was landed.") == 1
