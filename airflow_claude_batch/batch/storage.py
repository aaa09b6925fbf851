"""A submission's folder: files that appear whole or not at all, on a disk or in an object store.

Invariant: ``read`` and ``open`` answer "not there" (None) only when the storage said so. A storage that
cannot be read raises, because taking an unreadable ledger for an empty one would pay twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

#: What is read or written at once: a hundred thousand rows one by one are mostly system calls.
BUFFER_BYTES = 256 * 1024
#: fsspec's protocols of stores in which an upload is there as a whole or not at all, and replaces what was there.
ATOMIC_UPLOAD_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})


class Folder(Protocol):
    """What a submission needs of a storage. Names are single path segments."""

    def uri(self, name: str) -> str:
        """Where ``name`` is, for people and for other tasks."""

    def names(self) -> list[str]:
        """The names of the files there are; none if there is no folder yet."""

    def open(self, name: str) -> IO[bytes] | None:
        """The file for reading from its start, None if there is none."""

    def replace_file(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """A file that replaces ``name`` when the block ends well, and leaves it alone otherwise."""

    def check_writable(self) -> None:
        """Raise OSError now rather than after the money is spent."""

    def remove_temporary_files(self, prefix: str) -> None:
        """Remove what killed writers have left of files whose names begin so; a living writer fails then."""


def buffered(file: Any) -> IO[bytes]:
    """Read a file of fsspec's in large pieces: by itself it copies a whole block, of megabytes, for each line."""
    return io.BufferedReader(_Bytes(file), BUFFER_BYTES)


class _Bytes(io.RawIOBase):
    """What file systems give as files: not all of them are ``io`` objects."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self.tell()

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def read(folder: Folder, name: str) -> bytes | None:
    """The whole of a small file, None if there is none."""
    file = folder.open(name)
    if file is None:
        return None
    with file:
        return file.read()


def write(folder: Folder, name: str, data: bytes) -> None:
    """Replace a small file as a whole."""
    with folder.replace_file(name) as file:
        file.write(data)


class LocalFolder:
    """A folder on a disk. A file is written beside its place, synced, and renamed into it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def uri(self, name: str) -> str:
        return str(self.path / name)

    def names(self) -> list[str]:
        try:
            return [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []

    def open(self, name: str) -> IO[bytes] | None:
        try:
            return (self.path / name).open("rb")
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        self.path.mkdir(parents=True, exist_ok=True)
        draft = self.path / f".{name}.{uuid.uuid4().hex}.tmp"
        try:
            with draft.open("xb", buffering=BUFFER_BYTES) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.path / name)
        finally:
            draft.unlink(missing_ok=True)
        self._sync()
        self.remove_temporary_files(f"{name}.")

    def check_writable(self) -> None:
        with self.replace_file(".writable"):
            pass
        (self.path / ".writable").unlink(missing_ok=True)

    def remove_temporary_files(self, prefix: str) -> None:
        for draft in self.path.glob(f".{prefix}*.tmp"):
            draft.unlink(missing_ok=True)

    def _sync(self) -> None:
        """Make the rename durable: it lives in the directory, not in the file."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class ObjectFolder:
    """A folder in an object store or on another of fsspec's file systems.

    A file is written on the local disk and uploaded in one piece. Where an upload that breaks off leaves half a file,
    it goes beside its place first, and is moved. Whatever a store's library raises is an ``OSError`` here.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, *, uri: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self._uri = uri.rstrip("/")  # as the author wrote it: it names the connection, which the file system does not
        protocol = fs.protocol
        self._is_whole = not ATOMIC_UPLOAD_PROTOCOLS.isdisjoint([protocol] if isinstance(protocol, str) else protocol)

    def uri(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def names(self) -> list[str]:
        with self._os_errors():
            self.fs.invalidate_cache(self.root)
            try:
                return [str(path).rpartition("/")[2] for path in self.fs.ls(self.root, detail=False)]
            except FileNotFoundError:
                return []

    def open(self, name: str) -> IO[bytes] | None:
        with self._os_errors():
            # Listings are cached by most stores' clients; another process may have written since.
            self.fs.invalidate_cache(self.root)
            try:
                return buffered(self.fs.open(self._at(name), "rb"))
            except FileNotFoundError:
                return None

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile(buffering=BUFFER_BYTES) as draft:
            yield draft
            draft.flush()
            with self._os_errors():
                self._upload(draft.name, name)

    def check_writable(self) -> None:
        write(self, ".writable", b"first")
        write(self, ".writable", b"last")  # not every file system moves a file over another
        found = read(self, ".writable")
        with self._os_errors():
            self.fs.rm_file(self._at(".writable"))
        if found != b"last":
            raise OSError(f"{self.uri('.writable')} was written twice, and what was written last is not what is there")

    def remove_temporary_files(self, prefix: str) -> None:
        """Those that were uploaded: the others are on the local disk, in its folder for temporary files."""
        if self._is_whole:
            return
        for name in self.names():
            if name.startswith(f".{prefix}") and name.endswith(".tmp"):
                self._remove(self._at(name))

    def _upload(self, local: str, name: str) -> None:
        if self._is_whole:  # nor are there folders: clients that are told to make one look for the bucket, or make it
            self.fs.put_file(local, self._at(name))
            return
        draft = self._at(f".{name}.{uuid.uuid4().hex}.tmp")
        self.fs.makedirs(self.root, exist_ok=True)
        try:
            self.fs.put_file(local, draft)
            self.fs.mv(draft, self._at(name))
        except BaseException:
            self._remove(draft)
            raise
        self.remove_temporary_files(f"{name}.")

    def _remove(self, path: str) -> None:
        with contextlib.suppress(Exception):  # it was moved; or whatever kept us from writing it keeps us from this
            self.fs.rm_file(path)

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self._uri}: {type(error).__name__}: {error}") from error

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}"


class GuardedFolder:
    """A folder that asks for leave each time before a file is put in its place, however long it took to write."""

    def __init__(self, folder: Folder, check: Callable[[], None]) -> None:
        self._folder = folder
        self._check = check

    def uri(self, name: str) -> str:
        return self._folder.uri(name)

    def names(self) -> list[str]:
        return self._folder.names()

    def open(self, name: str) -> IO[bytes] | None:
        return self._folder.open(name)

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with self._folder.replace_file(name) as file:
            yield file
            self._check()

    def check_writable(self) -> None:
        self._folder.check_writable()

    def remove_temporary_files(self, prefix: str) -> None:
        self._folder.remove_temporary_files(prefix)


def local_copy(folder: Folder, name: str, directory: Path) -> Path | None:
    """A path of ``name`` that can be mapped into memory: the file itself, or a copy in ``directory``."""
    if isinstance(folder, LocalFolder):
        path = folder.path / name
        return path if path.exists() else None
    file = folder.open(name)
    if file is None:
        return None
    copy = directory / f"{uuid.uuid4().hex}-{name}"
    with file, copy.open("xb") as out:
        shutil.copyfileobj(file, out, 1 << 20)
    return copy
