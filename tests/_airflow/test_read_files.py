"""Which files ``FileRows`` reads: on a disk, in a bucket, by a folder or a pattern, and what it says of none."""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from airflow.sdk.io.store import _STORE_CACHE
from stores import BlockStore, FailingStore

from airflow_claude_batch.exceptions import ConfigurationError, EmptyInputError, InputError, SourceError
from airflow_claude_batch.sources import FileRows
from benchmarks.s3_server import BUCKET, file_system, s3_server, traffic

pq = pytest.importorskip("pyarrow.parquet")
pa = pytest.importorskip("pyarrow")

#: A folder as Spark and warehouses write it, and its files as they are read.
TREE = {
    "day=2/part-10.csv": "id\nten\n",
    "day=2/part-2.csv": "id\ntwo\n",
    "day=1/part-0.csv.gz": "id\nzero\n",
    "day=1/_temporary/0/part-9.csv": "id\nhalf\n",
    "day=1/.part-0.csv.crc": "crc",
    "day=1/.hidden.csv": "id\nhidden\n",
    "_SUCCESS": "",
    "README.txt": "text",
}
ALL = ["zero", "ten", "two"]


def content(name: str, text: str) -> bytes:
    return gzip.compress(text.encode()) if name.endswith(".gz") else text.encode()


@pytest.fixture
def tree(tmp_path: Path) -> str:
    for name, text in TREE.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(name, text))
    return str(tmp_path / "tree")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket with the tree, of a server that speaks the S3 protocol."""
    pytest.importorskip(
        "s3fs", reason="no s3fs here: tests/matrix leaves it out, because it needs an fsspec of its own version"
    )
    with s3_server() as endpoint:
        fs = file_system(endpoint)
        for name, text in TREE.items():
            fs.pipe_file(f"{BUCKET}/tree/{name}", content(name, text))
        fs.pipe_file(f"{BUCKET}/marked/", b"")
        attach("s3", conn_id="files", fs=fs)
        yield f"s3://files@{BUCKET}"
        _STORE_CACHE.pop("s3-files")


def ids(path: Any) -> list[str]:
    return [row["id"] for row in FileRows(path).rows()]


def refusal(path: Any) -> str:
    with pytest.raises((InputError, ConfigurationError)) as caught:
        ids(path)
    message = str(caught.value)
    first, money, *remedy = message.split("\n")
    assert first.startswith("rows: ")
    assert len(first) <= 120
    assert money.startswith("Nothing was sent.")
    assert remedy
    return message


PATTERNS = [
    ("", ALL),
    ("/", ALL),
    ("/day=2", ["ten", "two"]),
    ("/day=2/part-2.csv", ["two"]),
    ("/*", ALL),
    ("/**", ALL),
    ("/**/*.csv", ["ten", "two"]),
    ("/day=?/*.csv*", ALL),
    ("/day=[2-9]/", ["ten", "two"]),
    ("/*/part-1?.csv", ["ten"]),
    ("/day=1/_temporary/*/*.csv", ["half"]),
    ("/day=1/.hidden.csv", ["hidden"]),
]


@pytest.mark.parametrize(("below", "expected"), PATTERNS)
def test_folder_file_or_pattern_on_a_disk(below: str, expected: list[str], tree: str) -> None:
    assert ids(f"{tree}{below}") == expected
    assert ids(f"file://{tree}{below}") == expected


@pytest.mark.parametrize(("below", "expected"), PATTERNS)
def test_folder_file_or_pattern_in_a_bucket(below: str, expected: list[str], bucket: str) -> None:
    assert ids(f"{bucket}/tree{below}") == expected


def test_paths_of_other_types_are_taken(tree: str, bucket: str) -> None:
    assert ids(Path(tree)) == ids(ObjectStoragePath(tree)) == ids(ObjectStoragePath(f"{bucket}/tree")) == ALL


def test_whole_bucket_is_a_folder(bucket: str) -> None:
    assert ids(bucket) == ids(f"{bucket}/*") == ALL


def test_home_folder_is_expanded(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", tree)
    assert ids("~/day=2/*.csv") == ["ten", "two"]


def test_place_names_the_file_as_its_author_reaches_it(tree: str, bucket: str) -> None:
    for root in (tree, f"file://{tree}", f"{bucket}/tree"):
        for path in (f"{root}/day=2/part-2.csv", f"{root}/*/part-2.csv"):
            source = FileRows(path).rows()
            assert [source.place for _ in source] == [f"line 2 of {root}/day=2/part-2.csv"]


def test_files_left_out_are_in_the_log(tree: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        ids(tree)
    (message,) = (record.message for record in caplog.records if record.name.startswith("airflow_claude_batch"))
    assert message.startswith("Reading rows of 3 files in ")
    assert message.endswith("/tree. Left out: 1 file of other suffixes, such as README.txt.")


def test_each_iteration_finds_new_files(tree: str, bucket: str) -> None:
    fs = ObjectStoragePath(bucket).fs
    source = FileRows(f"{bucket}/growing/").rows()
    fs.pipe_file(f"{BUCKET}/growing/a.csv", b"id\n1\n")
    assert [row["id"] for row in source] == ["1"]
    other = type(fs)(**{**fs.storage_options, "skip_instance_cache": True})
    other.pipe_file(f"{BUCKET}/growing/b.csv", b"id\n2\n")
    assert [row["id"] for row in source] == ["1", "2"]
    assert source.columns == ("id",)


def test_name_with_brackets_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").write_text("id\nbrackets\n")
    (tmp_path / "a1.csv").write_text("id\none\n")
    assert ids(f"{tmp_path}/a[1].csv") == ["brackets"]
    assert ids(f"{tmp_path}/a[12].csv") == ["one"]


@pytest.mark.parametrize("below", ["/none/", "/none", "/none/*.csv", "/day=1/_temporary/1/", "/*.jsonl", "/x*/**"])
def test_place_without_a_file_is_empty_input(below: str, tree: str, bucket: str) -> None:
    for root in (tree, f"{bucket}/tree"):
        message = refusal(f"{root}{below}")
        assert message.startswith("rows: there is no file at ")
        assert below.rstrip("/") in message.partition("\n")[0]
        assert "on_empty='skip'" in message
        with pytest.raises(EmptyInputError):
            ids(f"{root}{below}")


def test_empty_folder_is_empty_input(tmp_path: Path, bucket: str) -> None:
    (tmp_path / "day").mkdir()
    (tmp_path / "day" / "_SUCCESS").touch()
    for path in (tmp_path / "day", f"{bucket}/marked/"):
        with pytest.raises(EmptyInputError):
            ids(path)


def test_missing_file_that_was_named_is_no_empty_input(tree: str, bucket: str) -> None:
    for root in (tree, f"{bucket}/tree"):
        message = refusal(f"{root}/day=3.csv")
        assert message.startswith("rows: there is no file ")
        assert "day=3.csv.\n" in message
        with pytest.raises(InputError) as caught:
            ids(f"{root}/day=3.csv")
        assert not isinstance(caught.value, EmptyInputError)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a.txt", "b.json"], ["no file in ", "2 other files, such as a.txt", ".parquet, .csv"]),
        (["a.csv", "b.jsonl"], ["files of two formats: CSV and JSON lines", "/a.csv and ", "/b.jsonl", "*.parquet"]),
        (["a.parquet", "b.csv"], ["files of two formats: Parquet and CSV"]),
    ],
)
def test_folder_of_other_or_mixed_formats_is_refused(names: list[str], says: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("id\n1\n")
    message = refusal(tmp_path)
    for words in says:
        assert words in message


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "path is an empty text"),
        ("  ", "path is an empty text"),
        ("data/a.csv", "it is a relative path"),
        ("C:\\data\\a.csv", "workers do not run on Windows"),
        ("s3:/bucket/a.csv", "after s3: there must be //"),
        (Path("s3://bucket/a.csv"), "after s3: there must be //"),
        ("s3://*/a.csv", "cannot stand for the bucket"),
        ("s3://", "there must be a bucket"),
        (None, "path is of type NoneType: it is not a text"),
        (["/a.csv", "/b.csv"], "path is of type list: it is not a text"),
        ("s3://user:hidden@/*.csv", "there must be a bucket"),
    ],
)
def test_path_that_names_nothing_is_refused(path: Any, says: str) -> None:
    message = refusal(path)
    assert says in message
    assert "hidden" not in message


def test_storage_without_a_provider_is_refused_with_the_package() -> None:
    with pytest.raises(ConfigurationError, match=r"(?s)gs://bucket/a\.csv cannot be reached.*providers-google"):
        ids("gs://bucket/a.csv")


def test_file_of_another_suffix_is_refused_with_those_that_are_read(tree: str) -> None:
    message = refusal(f"{tree}/README.txt")
    assert "README.txt has no suffix that names rows." in message
    assert ".parquet, .csv, .tsv, .jsonl and .ndjson" in message
    assert "PDFs and images go in with files=" in message


def test_folder_that_may_not_be_listed_is_not_empty(tree: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks of fsspec leave such folders out."""
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("day=2"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for below in ("", "/*", "/**"):
        assert "this worker may not read" in refusal(f"{tree}{below}")


@pytest.mark.parametrize("kind", ["open", "size", "list"])
def test_failing_store_is_named_and_never_empty(kind: str) -> None:
    failing = FailingStore(kind)
    store = failing.store()
    store.pipe("/bucket/day/a.csv", b"id\n1\n")
    failing.failing.update(range(1, 99))
    attach("s3", conn_id=f"failing-{kind}", fs=store)
    with pytest.raises(SourceError, match=r"could not be read: TheirError\.\nNothing was sent\..*\nA retry reads"):
        ids(f"s3://failing-{kind}@bucket/day/*.csv")


def test_text_in_a_bucket_is_streamed_once_in_little_memory() -> None:
    lines = b"".join(b'{"id": "%d", "text": "%s"}\n' % (number, b"x" * 1000) for number in range(20_000))
    store = BlockStore(lines)
    attach("s3", conn_id="blocks", fs=store)

    tracemalloc.start()
    assert len([None for _ in FileRows("s3://blocks@bucket/a.jsonl").rows()]) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert store.handed_out == len(lines)
    assert peak < 12_000_000


def test_parquet_in_a_bucket_is_read_once(bucket: str) -> None:
    """With the read-ahead of clients, each piece of a column would fetch a block of megabytes."""
    fs = ObjectStoragePath(bucket).fs
    columns = {f"c{number}": [f"{row} {number} {'x' * 300}" for row in range(8000)] for number in range(6)}
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, compression="none", use_dictionary=False)
    fs.pipe_file(f"{BUCKET}/wide.parquet", file.getvalue())
    endpoint = fs.client_kwargs["endpoint_url"] if fs.client_kwargs else fs.endpoint_url
    before = traffic(endpoint)["wide.parquet"][1]

    assert [row["c5"] for row in FileRows(f"{bucket}/wide.parquet").rows()] == columns["c5"]

    read = traffic(endpoint)["wide.parquet"][1] - before
    assert len(file.getvalue()) <= read < 1.2 * len(file.getvalue())


def test_source_is_a_template_and_stays_the_same_text() -> None:
    source = FileRows("s3://b/day={{ ds }}/")
    rendered = source.rendered(lambda value: value.replace("{{ ds }}", "2026-11-29"))

    assert (rendered.path, source.path) == ("s3://b/day=2026-11-29/", "s3://b/day={{ ds }}/")
    assert json.dumps(source.serialize()) == json.dumps(FileRows("s3://b/day={{ ds }}/").serialize())
