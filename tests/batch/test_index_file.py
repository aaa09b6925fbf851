from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import Store

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.index_file import DamagedIndexError, IndexFile, IndexWriter
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder

COLUMNS = {"place": "I", "status": "B", "hash": "3s", "key": "bytes"}
Row = tuple[int, int, bytes, bytes]


class About(msgspec.Struct):
    name: str


class CountedFolder(LocalFolder):
    """Counts the reads."""

    reads = 0

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        self.reads += 1
        return super().read_range(name, start, end)


@pytest.fixture(params=["disk", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    return LocalFolder(tmp_path) if request.param == "disk" else ObjectFolder(Store(), "/b/run", uri="s3://b/run")


def write(folder: Folder, rows: list[Row], name: str = "about", kind: str = "test", version: int = 1) -> None:
    with folder.replace_file("a.index") as file:
        writer = IndexWriter(file, kind, version, COLUMNS, block_rows=4)
        for row in rows:
            writer.add(*row)
        writer.finish(About(name))


def write_with_copies(folder: Folder, rows: list[Row]) -> None:
    with folder.replace_file("a.index") as file:
        writer = IndexWriter(file, "test", 1, COLUMNS, copied=["place", "status"], block_rows=4)
        for row in rows:
            writer.add(*row)
        writer.finish(About(""))


def rows_of(count: int) -> list[Row]:
    return [(index * 1000, index % 7, b"%03d" % index, b"k" * (index % 5)) for index in range(count)]


def opened(folder: Folder) -> IndexFile | None:
    return IndexFile.open(folder, "a.index", "test", 1)


def read(index: IndexFile) -> list[Row]:
    found: list[Row] = []
    for number in range(index.block_count):
        block = index.block(number)
        hashes = block.joined("hash")
        found += (
            (
                block.numbers("place")[row],
                block.numbers("status")[row],
                hashes[3 * row : 3 * row + 3],
                block.value("key", row),
            )
            for row in range(len(block))
        )
    return found


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**32 - 1),
        st.integers(0, 255),
        st.binary(min_size=3, max_size=3),
        st.binary(max_size=20),
    ),
    max_size=30,
)


@given(ROWS)
def test_rows_come_back_as_they_were_written(rows: list[Row]) -> None:
    with tempfile.TemporaryDirectory() as path:
        write(LocalFolder(Path(path)), rows)
        index = opened(LocalFolder(Path(path)))
        assert index is not None
        assert (read(index), index.count) == (rows, len(rows))


def test_description_longer_than_the_first_read_is_read(folder: Folder) -> None:
    write(folder, rows_of(9), name="n" * 200_000)

    index = opened(folder)

    assert index is not None
    assert index.content(About).name == "n" * 200_000
    assert read(index) == rows_of(9)


def test_file_that_is_not_there_is_no_index(folder: Folder) -> None:
    assert opened(folder) is None


@pytest.mark.parametrize(("kind", "version"), [("other", 1), ("test", 2)])
def test_index_of_another_kind_or_version_is_none(folder: Folder, kind: str, version: int) -> None:
    write(folder, rows_of(9), kind=kind, version=version)

    assert opened(folder) is None


@pytest.mark.parametrize("kept", [0, 1, 40, -1])
def test_cut_index_is_none(folder: Folder, kept: int) -> None:
    write(folder, rows_of(9))
    storage.write(folder, "a.index", (storage.read(folder, "a.index") or b"")[:kept])

    assert opened(folder) is None


def test_changed_byte_anywhere_is_noticed(folder: Folder) -> None:
    write(folder, rows_of(9))
    data = storage.read(folder, "a.index") or b""
    for place in range(len(data)):
        storage.write(folder, "a.index", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        index = opened(folder)
        if index is not None:
            with pytest.raises(DamagedIndexError, match=r"a\.index is damaged"):
                read(index)


def test_index_that_was_removed_meanwhile_is_damaged(folder: Folder) -> None:
    write(folder, rows_of(9))
    index = opened(folder)
    folder.remove("a.index")

    assert index is not None
    with pytest.raises(DamagedIndexError):
        index.block(0)


def test_columns_that_a_reader_does_not_know_are_skipped(folder: Folder) -> None:
    with folder.replace_file("a.index") as file:
        writer = IndexWriter(file, "test", 1, {"new": "bytes", "newer": "5s", **COLUMNS}, block_rows=4)
        for row in rows_of(9):
            writer.add(b"anything", b"12345", *row)
        writer.finish(About(""))

    index = opened(folder)

    assert index is not None
    assert read(index) == rows_of(9)


@pytest.mark.parametrize("written", [write, write_with_copies], ids=["from the blocks", "from a copy"])
def test_column_of_all_rows_is_read(folder: Folder, written: Callable[[Folder, list[Row]], None]) -> None:
    written(folder, rows_of(9))

    index = opened(folder)

    assert index is not None
    assert index.column("place", 1).tolist() == [place for place, *_ in rows_of(9)]
    assert index.column("status", 1).tolist() == [status for _, status, *_ in rows_of(9)]
    assert read(index) == rows_of(9)


def test_changed_byte_of_a_copy_is_noticed_and_the_blocks_are_read(folder: Folder) -> None:
    write_with_copies(folder, rows_of(9))
    data = storage.read(folder, "a.index") or b""
    end = data.index(b'{"kind"')
    for place in range(end - 9 * 5, end):
        storage.write(folder, "a.index", data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        index = opened(folder)
        assert index is not None
        assert read(index) == rows_of(9)
        assert index.column("place", 1).tolist() == [place for place, *_ in rows_of(9)]
        assert index.column("status", 1).tolist() == [status for _, status, *_ in rows_of(9)]


@pytest.mark.parametrize(
    ("numbers", "calls"),
    [([], 0), ([2], 1), ([1, 2], 1), ([0, 1, 3], 2), ([0, 2, 4], 3), (None, 1)],
)
def test_neighboring_blocks_are_read_in_one_call(tmp_path: Path, numbers: list[int] | None, calls: int) -> None:
    folder = CountedFolder(tmp_path)
    write(folder, rows_of(20))
    index = opened(folder)
    assert index is not None
    folder.reads = 0

    blocks = list(index.blocks(1 << 20, numbers))

    read_numbers = range(5) if numbers is None else numbers
    assert [block.numbers("place")[0] for block in blocks] == [4000 * number for number in read_numbers]
    assert folder.reads == calls
