"""Which folders the page reads: whatever an XCom says, only those of the task instance, and only the files in them."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fuzz.fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch._airflow.results_folder import folder_of_place
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.land.snapshot import Snapshot, SnapshotState
from airflow_claude_batch.web.results_folder import ReadableFolder, RefusedFolder, folder_of
from airflow_claude_batch.web.row_source import RowSource, open_rows
from airflow_claude_batch.web.rows_view import row_with_key, rows_of

KEY = TaskKey("dag", "run", "send")
OWN = Place("dag", "run", "send")
NOW = datetime(2026, 11, 30, tzinfo=UTC)
ROW = b'{"index":0,"key":"a","status":"succeeded","text":"%b"}\n'


def found(root: str = "/data", place: Place | None = OWN, key: TaskKey = KEY) -> FoundSubmission:
    snapshot = Snapshot(
        submission_id="s", state=SnapshotState.ENDED, updated_at=NOW, conn_id="c", root=root, place=place,
        request_count=1,
    )  # fmt: skip
    return FoundSubmission(key, "success", 1, NOW, snapshot, None)


def of_earlier_version(results_path: str | None, key: TaskKey = KEY) -> FoundSubmission:
    manifest = Manifest(
        submission_id="s", status="ended", batch_ids=[], request_count=1, counts={}, results_path=results_path
    )
    return FoundSubmission(key, "success", 1, NOW, None, manifest)


def path_of(submission: FoundSubmission, *dag_ids: str) -> str | None:
    folder = folder_of(submission, lambda dag_id: dag_id in (dag_ids or ("dag",)))
    return folder.path if isinstance(folder, ReadableFolder) else None


@pytest.mark.parametrize(
    ("root", "path"),
    [
        ("/data", "/data/dag/run/send"),
        ("/data/", "/data/dag/run/send"),
        ("s3://aws_default@bucket/claude", "s3://aws_default@bucket/claude/dag/run/send"),
        ("file:///data", "file:///data/dag/run/send"),
        ("/data/with space", "/data/with space/dag/run/send"),
    ],
)
def test_own_folder(root: str, path: str) -> None:
    assert path_of(found(root)) == path


@pytest.mark.parametrize(
    "root",
    [
        pytest.param("", id="empty"),
        pytest.param("data", id="relative"),
        pytest.param("..", id="above"),
        pytest.param("/data/..", id="dots"),
        pytest.param("/data/../etc", id="dots within"),
        pytest.param("~root", id="home"),
        pytest.param("/data\0", id="null"),
        pytest.param("/data\n", id="line feed"),
        pytest.param("/" + "x" * 5_000, id="long"),
        pytest.param("/x" * 1_000_000, id="huge"),
        pytest.param("zip://a::file:///etc/passwd", id="chained"),
        pytest.param("file://host/etc", id="host"),
        pytest.param("s3://", id="no bucket"),
        pytest.param("C:\\data", id="windows"),
        pytest.param("\ud800", id="surrogate"),
    ],
)
def test_odd_root_is_refused(root: str) -> None:
    assert path_of(found(root)) is None


def test_names_of_the_place_stay_below_the_root() -> None:
    key = TaskKey("..", "../../etc", "passwd")

    assert (
        path_of(found(place=Place(*("..", "../../etc", "passwd")), key=key), "..")
        == "/data/%2E%2E/..%2F..%2Fetc/passwd"
    )


@pytest.mark.parametrize(
    "place",
    [
        replace(OWN, dag_id="other"),
        replace(OWN, dag_id="other", run_id="another", task_id="send"),
        Place("other", "run", "send", 3),
    ],
)
def test_folder_of_another_dag_needs_the_rights_on_that_dag(place: Place) -> None:
    assert path_of(found(place=place)) is None
    assert path_of(found(place=place), "dag", "other") == folder_of_place("/data", place)
    assert path_of(found(place=place), "other") is None, "the task's own DAG counts, too"


def test_a_place_whose_names_no_task_instance_has() -> None:
    assert path_of(found(place=replace(OWN, task_id="\ud800"))) is None


def test_rows_need_the_right_to_read_xcoms() -> None:
    assert folder_of(found(), lambda _: False) == RefusedFolder(
        "Rows, prompts and answers are shown to those who may read the XComs of this DAG."
    )


@pytest.mark.parametrize(
    ("results_path", "path"),
    [
        ("/data/dag/run/send/results.jsonl", "/data/dag/run/send"),
        ("/data/dag/run/send/results.parquet", "/data/dag/run/send"),
        ("s3://bucket/dag/run/send/results.jsonl", "s3://bucket/dag/run/send"),
        ("/data/dag/run/send/0/results.jsonl", None),
        ("/data/other/run/send/results.jsonl", None),
        ("/data/../dag/run/send/results.jsonl", None),
        ("/etc/passwd", None),
        ("file:///etc/passwd", None),
        ("dag/run/send/results.jsonl", None),
        ("", None),
        (None, None),
        ("x" * 1_000_000, None),
    ],
)
def test_output_of_an_earlier_version(results_path: str | None, path: str | None) -> None:
    assert path_of(of_earlier_version(results_path)) == path


def test_output_of_a_mapped_task_of_an_earlier_version() -> None:
    mapped = replace(KEY, map_index=3)

    assert path_of(of_earlier_version("/data/dag/run/send/3/results.jsonl", mapped)) == "/data/dag/run/send/3"
    assert path_of(of_earlier_version("/data/dag/run/send/results.jsonl", mapped)) is None


def test_names_that_are_cut_are_compared_with_those_of_the_task() -> None:
    key = TaskKey("d" * 300, "run", "send")
    own = folder_of_place("/data", Place(key.dag_id, "run", "send"))

    assert path_of(found(own, None, key), key.dag_id) == own
    assert path_of(found("/data/other/run/send", None, key), key.dag_id) is None
    assert path_of(found(f"{own}/more", None, key), key.dag_id) is None


_PIECES = st.sampled_from(
    ["/data", "/", "..", ".", "dag/run/send", "/dag/run/send", "s3://b", "file://", "~", "\0", "::"]
)
_PLACES = st.builds(
    Place,
    st.sampled_from(["dag", "other", ".."]),
    st.sampled_from(["run", "..", "a/b"]),
    st.sampled_from(["send", "", "."]),
    st.integers(-2, 3),
    st.none() | st.sampled_from(["..", "../..", "/etc", "loop-1-a"]) | st.text(),
)


@fuzzed
@given(root=st.text() | st.lists(_PIECES, max_size=5).map("".join), place=st.none() | _PLACES)
def test_any_xcom_leads_below_its_own_names_or_nowhere(root: str, place: Place | None) -> None:
    path = path_of(found(root, place))

    assert path is None or "/dag/" in path
    assert path is None or not {"..", "."}.intersection(path.split("/"))
    assert path is None or place is None or path.startswith(folder_of_place(root, replace(place, loop=None)))


# ---------------------------------------------------------------- what is in the folder


def rows_below(root: Path, submission: FoundSubmission | None = None) -> RowSource:
    return open_rows(submission or found(str(root)), lambda _: True, lambda: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "results" / "dag" / "run" / "send"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret" / "results.jsonl"
    path.parent.mkdir()
    path.write_bytes(ROW % b"secret")
    return path


def shown(root: Path) -> str:
    """Return all that a page would show of the rows."""
    source = rows_below(root)
    return f"{source.sizes} {rows_of(source, failed=None)} {row_with_key(source, 'a', 0, 0)}"


def test_file_is_read(folder: Path, tmp_path: Path) -> None:
    (folder / "results.jsonl").write_bytes(ROW % b"open")

    assert "open" in shown(tmp_path / "results")


def test_link_to_a_file_is_not_followed(folder: Path, secret: Path, tmp_path: Path) -> None:
    (folder / "results.jsonl").symlink_to(secret)
    (folder / "requests.jsonl").symlink_to(secret)

    assert "secret" not in shown(tmp_path / "results").replace(str(secret), "")


def test_link_that_replaces_a_file_is_not_followed(folder: Path, secret: Path, tmp_path: Path) -> None:
    (folder / "results.jsonl").write_bytes(ROW % b"open")
    source = rows_below(tmp_path / "results")
    (folder / "results.jsonl").unlink()
    (folder / "results.jsonl").symlink_to(secret)

    view = rows_of(source, failed=0)
    assert view.first is None
    assert "Too many levels of symbolic links" in view.problem


@pytest.mark.parametrize("names", ["dag", "dag/run", "dag/run/send"])
def test_link_to_a_folder_is_not_followed(tmp_path: Path, secret: Path, names: str) -> None:
    link = tmp_path / "results" / names
    link.parent.mkdir(parents=True)
    target = secret.parent.joinpath(*("dag/run/send".removeprefix(names).strip("/").split("/")))
    target.mkdir(parents=True, exist_ok=True)
    (target / "results.jsonl").write_bytes(ROW % b"secret")
    link.symlink_to(secret.parent)
    source = rows_below(tmp_path / "results")

    assert source.landed is None
    assert "a link leads out of the results_path" in source.problem


def test_results_path_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "results.jsonl").write_bytes(ROW % b"open")
    (tmp_path / "linked").symlink_to(tmp_path / "results")

    assert "open" in shown(tmp_path / "linked")


def test_pipe_is_not_waited_for(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(folder / "results.jsonl")
    os.mkfifo(folder / "requests.jsonl")

    assert rows_below(tmp_path / "results").landed is None


def test_file_that_holds_no_rows_shows_nothing_of_it(folder: Path, tmp_path: Path) -> None:
    (folder / "results.jsonl").write_text("password = hunter2\n[core]\n")

    text = shown(tmp_path / "results")
    assert "hunter2" not in text
    assert "is_damaged=True" in text


@pytest.mark.parametrize(
    "root", ["http://127.0.0.1:1/x", "https://127.0.0.1:1", "ftp://127.0.0.1", "nowhere://bucket", "github://a:b@c/"]
)
def test_other_protocols_are_not_spoken(root: str) -> None:
    source = rows_below(Path("/"), found(root))

    assert source.landed is None
    assert source.problem


def test_store_whose_connection_is_missing_is_a_word(tmp_path: Path) -> None:
    source = rows_below(tmp_path, found("s3://not_there@bucket/claude"))

    assert source.problem.startswith("s3://not_there@bucket/claude")
    assert "The api-server needs the provider and the connection" in source.problem


def test_rows_in_the_xcom_are_shown_where_no_folder_is(tmp_path: Path) -> None:
    rows: list[Any] = [{"index": 0, "key": "a", "status": "succeeded", "text": "small"}]
    output = of_earlier_version("/data/dag/run/send/results.jsonl").manifest
    assert output is not None
    output = msgspec.structs.replace(output, responses=[*rows, "no row", None])
    source = open_rows(found(str(tmp_path)), lambda _: True, lambda: output)

    view = rows_of(source, failed=None)
    assert view.first is not None
    assert [row.is_damaged for row in view.first.rows] == [False, True, True]
    assert "small" in str(view)
