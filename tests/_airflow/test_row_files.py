"""Files that rows name, read by Airflow's object storage: of a disk, of stores, of S3."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from airflow.sdk.io.store import _STORE_CACHE
from hypothesis import given
from hypothesis import strategies as st
from media_files import jpeg, pdf, png
from stores import Store

from airflow_claude_batch._airflow.row_files import AirflowFileStore
from airflow_claude_batch.batch.input.rows.file_blocks import FileBlocks
from airflow_claude_batch.batch.input.rows.file_uris import RowFileError, check_uri
from airflow_claude_batch.exceptions import ConfigurationError, InvalidMessageError, SourceError


def types(template: str, **row: Any) -> list[str]:
    blocks = FileBlocks([template], AirflowFileStore()).bind(list(row))(row)
    return [block["source"]["media_type"] for block in blocks]


def test_files_of_a_disk_are_read_by_path_and_by_uri(tmp_path: Path) -> None:
    (tmp_path / "a ä#?%20.pdf").write_bytes(pdf())
    (tmp_path / "b.bin").write_bytes(png())

    assert types(f"{tmp_path}/{{name}}", name="a ä#?%20.pdf") == ["application/pdf"]
    assert types(f"file://{tmp_path}/{{name}}", name="a ä#?%20.pdf") == ["application/pdf"]
    assert types(f"{tmp_path}/b.bin", name="x") == ["image/png"]


def test_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    data = pdf(3, size=2_000_000)
    (tmp_path / "a.pdf").write_bytes(data)
    blocks = FileBlocks([f"{tmp_path}/{{name}}"], AirflowFileStore()).bind(["name"])({"name": "a.pdf"})

    assert base64.b64decode(blocks[0]["source"]["data"]) == data


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.pdf", "does not exist"),
        ("folder", "is a folder"),
        ("a.pdf/b.pdf", "does not exist"),
        ("x" * 300, "does not exist"),
        ("empty.pdf", "is empty"),
        ("secret.pdf", "may not be read by this worker"),
    ],
)
def test_files_of_a_disk_that_cannot_be_sent(name: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.pdf").write_bytes(pdf())
    (tmp_path / "empty.pdf").touch()
    (tmp_path / "secret.pdf").write_bytes(pdf())
    (tmp_path / "secret.pdf").chmod(0)
    if name == "secret.pdf" and _reads_everything(tmp_path / name):
        pytest.skip("this user may read every file")

    with pytest.raises(InvalidMessageError, match=problem):
        types(f"{tmp_path}/{{name}}", name=name)


def _reads_everything(path: Path) -> bool:
    try:
        path.read_bytes()
    except PermissionError:
        return False
    return True


def test_the_connection_of_the_template_is_used() -> None:
    ours, others = Store(), Store()
    ours.pipe_file("bucket/a.pdf", pdf())
    others.pipe_file("bucket/a.pdf", png())
    attach("memory", "ours", fs=ours)
    attach("memory", fs=others)

    assert types("memory://ours@bucket/{name}", name="a.pdf") == ["application/pdf"]
    assert types("{uri}", uri="memory://bucket/a.pdf") == ["image/png"]


def test_a_folder_of_a_store_is_no_file() -> None:
    store = Store()
    store.pipe_file("bucket/folder/a.pdf", pdf())
    attach("memory", fs=store)

    with pytest.raises(InvalidMessageError, match="is a folder"):
        types("{uri}", uri="memory://bucket/folder")


def test_a_storage_that_no_provider_serves_is_an_error_of_the_deployment() -> None:
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        types("{uri}", uri="strange://bucket/a.pdf")


_PIECES = st.sampled_from(
    ["..", "/", "//", "\\", "@", ":", "::", "s3", "file", "local", "other", "bucket", "a", ".", "%2e", "%2F", "%40",
     "~", "\0", "\n", " ", "#", "?", "[", "]", "é", "\uff0e", "\uff20", ";"]
)  # fmt: skip
_VALUES = st.one_of(st.text(max_size=30), st.lists(_PIECES, max_size=12).map("".join))


@given(st.sampled_from(["", "s3://conn@bucket/mine/", "s3://bucket/mine/", "s3://", "s3://conn@"]), _VALUES)
def test_airflow_reads_no_more_of_a_value_than_its_template_allows(written: str, value: str) -> None:
    uri = (written + value).strip()
    try:
        check_uri(uri, written)
    except RowFileError:
        return
    path = ObjectStoragePath(uri)

    assert path.protocol not in ("", "file", "local")
    conn_id = path.conn_id if hasattr(path, "conn_id") else path.storage_options.get("conn_id")  # of Airflow 3.0
    assert conn_id == (urlsplit(written).username if "@" in written else None)
    if "bucket/mine/" in written:
        assert path.path.startswith("bucket/mine/")
        assert ".." not in path.path.split("/")


@given(st.lists(_PIECES, max_size=12).map("".join))
def test_a_value_stays_in_the_folder_of_its_template(value: str) -> None:
    for written in ("/data/mine/", "file:///data/mine/"):
        uri = (written + value).strip()
        try:
            check_uri(uri, written)
        except RowFileError:
            continue
        path = Path(ObjectStoragePath(uri).path)
        assert path.is_relative_to("/data/mine")
        assert ".." not in path.parts


# ---------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    from benchmarks.s3_server import file_system, s3_server

    with s3_server() as endpoint:
        fs = file_system(endpoint)
        attach("s3", "rows", fs=fs)
        yield fs
        _STORE_CACHE.pop("s3-rows")


def test_files_of_s3_are_read(s3: Any) -> None:
    names = {"a b ä#?%20.pdf": pdf(), "a.jpg": jpeg(), "large.pdf": pdf(size=12_000_000)}
    for name, data in names.items():
        s3.pipe_file(f"bucket/scans/{name}", data)

        blocks = FileBlocks(["s3://rows@bucket/scans/{name}"], AirflowFileStore()).bind(["name"])({"name": name})
        assert base64.b64decode(blocks[0]["source"]["data"]) == data


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing.pdf", "does not exist"),
        ("folder", "is a folder"),
        ("empty.pdf", "is empty"),
        ("large.pdf", "has 40,000,000 bytes|has 40,0"),
    ],
)
def test_objects_of_s3_that_cannot_be_sent(name: str, problem: str, s3: Any) -> None:
    s3.pipe_file("bucket/bad/folder/a.pdf", pdf())
    s3.pipe_file("bucket/bad/empty.pdf", b"")
    if name == "large.pdf":
        s3.pipe_file("bucket/bad/large.pdf", pdf(size=40_000_000))

    with pytest.raises(InvalidMessageError, match=problem):
        types("s3://rows@bucket/bad/{name}", name=name)


def test_a_bucket_of_s3_that_is_not_there_is_an_error_of_the_input(s3: Any) -> None:
    with pytest.raises(InvalidMessageError, match="does not exist"):
        types("s3://rows@{bucket}/a.pdf", bucket="nobucket")


def test_a_server_that_does_not_answer_is_no_error_of_the_input() -> None:
    pytest.importorskip("s3fs")
    from s3fs import S3FileSystem

    options = {"config_kwargs": {"retries": {"max_attempts": 0}, "connect_timeout": 1}}
    fs = S3FileSystem(
        key="k",
        secret="s",
        endpoint_url="http://127.0.0.1:9",
        skip_instance_cache=True,
        **options,
    )
    fs.retries = 1
    attach("s3", "down", fs=fs)

    with pytest.raises(SourceError, match=r"files\[0\] \(name\): '.*n@bucket/a.pdf' could not be read: "):
        types("s3://down@bucket/{name}", name="a.pdf")
