from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFile
from stores import BlockStore, FileServer, Store

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.storage import Folder, LocalFolder, ObjectFolder


def object_folder(store: Store | None = None) -> ObjectFolder:
    return ObjectFolder(store or Store(), "/bucket/run/", uri="s3://aws@bucket/run/")


def write_half(folder: Folder, error: BaseException) -> None:
    """Write more than the buffer holds, then fail."""
    with folder.replace_file("a.json") as file:
        file.write(b"half of" * 100_000)
        raise error


def served_folder(path: Path, server: FileServer | None = None) -> ObjectFolder:
    return ObjectFolder(server or FileServer(), str(path / "served" / "run"), uri="sftp://host/run")


@pytest.fixture(params=["disk", "object store", "file server"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    if request.param == "disk":
        return LocalFolder(tmp_path / "deep" / "run")
    return object_folder() if request.param == "object store" else served_folder(tmp_path)


# ---------------------------------------------------------------- both kinds


def test_file_that_was_never_written_is_not_there(folder: Folder) -> None:
    assert folder.open("a.json") is None
    assert storage.read(folder, "a.json") is None


def test_file_reads_as_it_was_written_last(folder: Folder) -> None:
    storage.write(folder, "a.json", b"first")
    storage.write(folder, "a.json", b"")
    assert storage.read(folder, "a.json") == b""

    storage.write(folder, "a.json", b"last")
    assert storage.read(folder, "a.json") == b"last"


def test_range_of_a_file_is_read_without_the_rest(folder: Folder) -> None:
    assert (folder.size("a.json"), folder.sizes(), folder.read_range("a.json", 0, 1)) == (None, {}, None)
    storage.write(folder, "a.json", b"0123456789")

    assert (folder.size("a.json"), folder.sizes()) == (10, {"a.json": 10})
    assert folder.read_range("a.json", 2, 5) == b"234"
    assert folder.read_range("a.json", 10, 10) == b""


def test_range_beyond_the_end_of_a_file_is_refused(folder: Folder) -> None:
    storage.write(folder, "a.json", b"0123456789")

    with pytest.raises(OSError, match=r"a\.json ends within the bytes"):
        folder.read_range("a.json", 5, 11)


def test_removed_file_is_gone_and_may_be_removed_again(folder: Folder) -> None:
    folder.remove("a.json")
    storage.write(folder, "a.json", b"0")
    folder.remove("a.json")
    folder.remove("a.json")

    assert storage.read(folder, "a.json") is None


def test_writer_that_fails_in_the_middle_leaves_no_file(folder: Folder) -> None:
    with pytest.raises(ZeroDivisionError):
        write_half(folder, ZeroDivisionError())

    assert storage.read(folder, "a.json") is None


def test_writer_that_fails_in_the_middle_leaves_the_old_file_whole(folder: Folder) -> None:
    storage.write(folder, "a.json", b"old")

    with pytest.raises(KeyboardInterrupt):
        write_half(folder, KeyboardInterrupt())

    assert storage.read(folder, "a.json") == b"old"


def test_file_is_not_there_before_its_writer_is_done(folder: Folder) -> None:
    with folder.replace_file("a.json") as file:
        file.write(b"all of it")
        file.flush()
        assert storage.read(folder, "a.json") is None

    assert storage.read(folder, "a.json") == b"all of it"


def test_check_of_a_writable_folder_leaves_nothing_behind(folder: Folder) -> None:
    folder.check_writable()

    assert storage.read(folder, ".writable") is None


def test_local_copy_can_be_read_as_a_file(folder: Folder, tmp_path: Path) -> None:
    assert storage.local_copy(folder, "a.json", tmp_path) is None

    storage.write(folder, "a.json", b"x" * 3_000_000)
    path = storage.local_copy(folder, "a.json", tmp_path)

    assert path is not None
    assert path.read_bytes() == b"x" * 3_000_000


# ---------------------------------------------------------------- a disk


def test_failed_writer_leaves_no_temporary_file(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write_half(folder, ZeroDivisionError())

    assert list(tmp_path.iterdir()) == []


def test_temporary_files_of_killed_writers_are_removed_and_those_of_other_files_are_not(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    (tmp_path / ".a.json.0123.tmp").write_bytes(b"half")
    (tmp_path / ".ab.json.0123.tmp").write_bytes(b"another's")

    storage.write(folder, "a.json", b"whole")

    assert sorted(path.name for path in tmp_path.iterdir()) == [".ab.json.0123.tmp", "a.json"]


def test_slower_writer_whose_temporary_file_was_removed_fails_and_changes_nothing(tmp_path: Path) -> None:
    folder = LocalFolder(tmp_path)
    slow = folder.replace_file("a.json")
    slow.__enter__().write(b"the slow one's")
    storage.write(folder, "a.json", b"the quick one's")

    with pytest.raises(FileNotFoundError):
        slow.__exit__(None, None, None)

    assert storage.read(folder, "a.json") == b"the quick one's"


def test_file_and_its_directory_are_synced_before_it_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        kind = "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append(f"{kind}, {'after' if (tmp_path / 'a.json').exists() else 'before'} the rename")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    storage.write(LocalFolder(tmp_path), "a.json", b"whole")

    assert synced == ["file, before the rename", "directory, after the rename"]


def modes(*paths: Path) -> list[str]:
    return [f"{stat.S_IMODE(path.stat().st_mode):o}" for path in paths]


@pytest.fixture(params=[0o000, 0o022, 0o077], ids="umask {:o}".format)
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_umask")
@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param(None, ["700", "700", "600"], id="default"),
        pytest.param(0o660, ["770", "770", "660"], id="group"),
        pytest.param(0o640, ["750", "750", "640"], id="group reads"),
        pytest.param(0o644, ["755", "755", "644"], id="all read"),
    ],
)
def test_files_and_new_folders_are_for_those_alone_whom_the_mode_names(
    tmp_path: Path, mode: int | None, expected: list[str]
) -> None:
    path = tmp_path / "dag" / "run"
    folder = LocalFolder(path) if mode is None else LocalFolder(path, mode=mode)
    for content in (b"first", b"last"):
        with folder.replace_file("a.json") as file:
            file.write(content)
            (temporary,) = path.glob(".a.json.*.tmp")
            assert modes(temporary) == expected[-1:]
        assert modes(path.parent, path, path / "a.json") == expected


@pytest.mark.usefixtures("_umask")
def test_file_system_that_has_no_room_for_folders_is_not_asked_again_and_again() -> None:
    with pytest.raises(FileNotFoundError):
        LocalFolder(Path("/proc/claude/submission")).check_writable()


def test_existing_folder_keeps_its_mode_and_what_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "old.json").write_bytes(b"old")
    (tmp_path / "old.json").chmod(0o644)
    folder = LocalFolder(tmp_path)

    assert storage.read(folder, "old.json") == b"old"
    storage.write(folder, "old.json", b"new")
    assert modes(tmp_path, tmp_path / "old.json") == ["755", "600"]


def test_new_folder_of_a_group_has_the_group_of_the_folder_above(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    storage.write(LocalFolder(tmp_path / "dag" / "run", mode=0o660), "a.json", b"x")

    assert modes(tmp_path / "dag", tmp_path / "dag" / "run") == ["2770", "2770"]


def test_local_copy_of_an_object_is_for_the_worker_alone(tmp_path: Path) -> None:
    folder = object_folder()
    storage.write(folder, "a.json", b"x")
    path = storage.local_copy(folder, "a.json", tmp_path)

    assert path is not None
    assert modes(path) == ["600"]


def test_folder_that_another_process_creates_at_the_same_time_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.mkdir

    def mkdir(path: Path, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        if path.name == "dag":
            real(path / "run")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    storage.write(LocalFolder(tmp_path / "dag" / "run"), "a.json", b"x")

    assert storage.read(LocalFolder(tmp_path / "dag" / "run"), "a.json") == b"x"


def test_check_finds_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(OSError, match="file"):
        LocalFolder(tmp_path / "file" / "run").check_writable()


def test_unreadable_file_never_counts_as_missing(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()

    with pytest.raises(IsADirectoryError):
        LocalFolder(tmp_path).open("a.json")


def test_uri_on_a_disk_is_the_path(tmp_path: Path) -> None:
    assert LocalFolder(tmp_path).uri("a.json") == f"{tmp_path}/a.json"


def test_local_copy_on_a_disk_is_the_file_itself(tmp_path: Path) -> None:
    storage.write(LocalFolder(tmp_path), "a.json", b"x")

    assert storage.local_copy(LocalFolder(tmp_path), "a.json", tmp_path / "scratch") == tmp_path / "a.json"


# ---------------------------------------------------------------- an object store


def test_uri_in_an_object_store_is_the_author_s() -> None:
    assert object_folder().uri("a.json") == "s3://aws@bucket/run/a.json"


def test_upload_that_is_refused_leaves_the_old_file() -> None:
    store = Store()
    folder = object_folder(store)
    storage.write(folder, "a.json", b"old")
    store.refusing = True

    with pytest.raises(PermissionError):
        storage.write(folder, "a.json", b"new")
    with pytest.raises(PermissionError):
        folder.check_writable()
    assert storage.read(folder, "a.json") == b"old"


def test_bucket_is_neither_listed_nor_created() -> None:
    """A credential for one prefix may do neither."""

    class Confined(Store):
        def makedirs(self, path: str, exist_ok: bool = False) -> None:
            raise PermissionError("no making of buckets")

        def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
            self.store[rpath] = MemoryFile(self, rpath, Path(lpath).read_bytes())

    folder = object_folder(Confined())
    folder.check_writable()
    storage.write(folder, "a.json", b"x")
    assert storage.read(folder, "a.json") == b"x"


def test_cached_listings_are_invalidated_before_a_file_is_opened() -> None:
    store = Store()
    object_folder(store).open("a.json")

    assert store.flushed == ["/bucket/run"]


def test_unreadable_store_never_counts_as_empty() -> None:
    class Broken(Store):
        def _open(self, *args: Any, **options: Any) -> Any:
            raise ConnectionError("no route")

    with pytest.raises(ConnectionError):
        object_folder(Broken()).open("a.json")


def test_error_of_a_store_s_library_is_an_os_error() -> None:
    """Callers handle OSError, but the libraries raise errors of their own."""

    class TheirError(Exception):
        pass

    class Broken(Store):
        def put_file(self, *args: Any, **options: Any) -> None:
            raise TheirError("slow down")

        def _open(self, *args: Any, **options: Any) -> Any:
            raise TheirError("slow down")

    folder = object_folder(Broken())
    for attempt in (lambda: storage.write(folder, "a.json", b""), lambda: folder.open("a.json")):
        with pytest.raises(OSError, match="TheirError: slow down"):
            attempt()


def test_lines_of_a_large_object_are_read_once() -> None:
    lines = [b"%d %s\n" % (number, b"x" * 1000) for number in range(10_000)]
    store = BlockStore(b"".join(lines))

    file = ObjectFolder(store, "bucket/run", uri="s3://bucket/run").open("results.jsonl")
    assert file is not None
    with file:
        assert list(file) == lines
    assert store.handed_out == len(store.data)


# ---------------------------------------------------------------- a file server


def test_interrupted_upload_leaves_the_old_file_and_no_temporary_file(tmp_path: Path) -> None:
    server = FileServer()
    folder = served_folder(tmp_path, server)
    storage.write(folder, "a.json", b"old")
    server.bytes_left = 2

    with pytest.raises(OSError, match="EOFError: the server has closed the connection"):
        storage.write(folder, "a.json", b"new and longer")
    assert storage.read(folder, "a.json") == b"old"
    assert folder.names() == ["a.json"]


def test_uploaded_temporary_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    folder = served_folder(tmp_path)
    storage.write(folder, "a.json", b"old")
    for name in (".a.json.0123.tmp", ".ab.json.0123.tmp"):
        Path(folder.root, name).write_bytes(b"half")

    storage.write(folder, "a.json", b"whole")
    assert sorted(folder.names()) == [".ab.json.0123.tmp", "a.json"]


def test_check_finds_a_file_system_that_cannot_move_over_a_file(tmp_path: Path) -> None:
    server = FileServer()
    server.moves_over_others = False

    with pytest.raises(OSError, match="written twice"):
        served_folder(tmp_path, server).check_writable()
    assert served_folder(tmp_path, server).names() == []
