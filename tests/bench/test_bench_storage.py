"""The benchmarks of a folder's traffic and of resumptions, with few requests: what they count, and what they check."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import resuming, storage_traffic
from benchmarks.counted_folder import CountedLocalFolder, Traffic, counting_reads
from benchmarks.s3_server import BUCKET, file_system, s3_server, traffic

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="benchmarks read /proc")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    pytest.importorskip("moto.server", reason="moto and s3fs are installed where object storage is tested")
    with s3_server() as endpoint:
        yield endpoint


@contextmanager
def counted(path: Path) -> Iterator[tuple[CountedLocalFolder, Traffic]]:
    counted = Traffic()
    with counting_reads(path, counted):
        yield CountedLocalFolder(path, counted), counted


def test_each_way_of_reading_a_local_file_is_counted(tmp_path: Path) -> None:
    with counted(tmp_path / "folder") as (folder, found):
        with folder.replace_file("rows.jsonl") as file:
            file.write(b"x" * 1000)
        path = folder.path / "rows.jsonl"
        with folder.open("rows.jsonl") as file:
            assert len(file.read()) == 1000
        with path.open("rb") as file:
            assert os.pread(file.fileno(), 10, 5) == b"x" * 10
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  # some code may
            assert len(file.read(100)) == 100
        assert len(path.read_bytes()) == 1000
    path.read_bytes()

    assert found.by_file == {"rows.jsonl": [1000, 2110, 5]}


def test_what_is_read_elsewhere_is_not_counted(tmp_path: Path) -> None:
    with counted(tmp_path / "folder") as (_, found):
        for name in ("folder-2", "other"):
            path = tmp_path / name
            path.write_bytes(b"1")
            with path.open("rb") as file:
                assert file.read() + os.pread(file.fileno(), 1, 0) == b"11"
    assert not found.by_file


def test_files_are_counted_by_their_kind() -> None:
    found = Traffic()
    for name in ("ledger-1-0123456789ab.json", "ledger-2-ab0123456789.json", "part-17.jsonl", "results.jsonl"):
        found.add(name, written=1, calls=1)
    assert found.by_file == {
        "ledger-*-*.json": [2, 0, 2],
        "part-*.jsonl": [1, 0, 1],
        "results.jsonl": [1, 0, 1],
    }


def test_the_s3_server_counts_bodies_by_object(endpoint: str) -> None:
    files = file_system(endpoint)
    files.pipe_file(f"{BUCKET}/a/rows.jsonl", b"x" * 1000)
    assert files.cat_file(f"{BUCKET}/a/rows.jsonl", start=10, end=110) == b"x" * 100
    assert files.ls(f"{BUCKET}/a", detail=False) == [f"{BUCKET}/a/rows.jsonl"]

    written, read, _ = traffic(endpoint)["rows.jsonl"]
    assert (written, read) == (1000, 100)
    assert traffic(endpoint)["(listing)"][1] > 0


def test_traffic_on_a_disk_counts_the_whole_folder(tmp_path: Path) -> None:
    counts = storage_traffic.run_parts(3, 30, tmp_path / "run", None)

    folder = tmp_path / "run" / "submission"
    assert counts["rows_bytes"] == (folder / "results.jsonl").stat().st_size > 30 * 1000
    assert set(counts["traffic"]) >= {"requests.jsonl", "results.jsonl", "manifest.json", "ledger-*-*.json"}
    assert counts["traffic"]["requests.jsonl"][0] >= (folder / "requests.jsonl").stat().st_size
    assert counts["traffic"]["results.jsonl"][0] >= counts["rows_bytes"]


def test_traffic_over_s3_counts_the_same_files(endpoint: str, tmp_path: Path) -> None:
    counts = storage_traffic.run_parts(2, 30, tmp_path / "run", endpoint)

    assert counts["traffic"]["results.jsonl"][0] >= counts["rows_bytes"] > 30 * 1000
    written, read, calls = storage_traffic.figures_of("S3", 2, counts)
    assert [figure.what for figure in (written, read, calls)] == [
        "written, S3, 2 parts",
        "read, S3, 2 parts",
        "calls, S3, 2 parts",
    ]
    assert written.ours > 1
    assert calls.ours > 10


def test_resuming_writes_nothing_on_either_storage(endpoint: str, tmp_path: Path) -> None:
    costs = resuming.resume_often(tmp_path / "run", 40, endpoint, parts=4, rounds=1)

    assert list(costs) == ["disk", "S3"]
    for storage, cost in costs.items():
        cpu, read, written, *_ = resuming.figures_of(storage, cost)
        assert cpu.ours > 0
        assert read.ours > 0
        assert written.ours == 0, "nothing has changed"
