"""Files of a submission: on a disk, or in an object store. A file appears as a whole or not at all.

Invariant: "could not read" is never "not there". ``read`` and ``open`` return None only if the storage said that there
is no such file. A storage that cannot be read raises: an unreadable ledger that counts as empty would pay twice.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
import tempfile
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

#: Size of the read and write buffers. Reading 100,000 rows one by one would spend most of its time in system calls.
BUFFER_BYTES = 256 * 1024
#: Prompts and answers are for the user alone that the worker runs as, unless the deployment says otherwise.
PRIVATE_MODE = 0o600
#: fsspec protocols of stores with atomic uploads: a file is there as a whole or not at all, and replaces the old one.
ATOMIC_UPLOAD_PROTOCOLS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})


class Folder(Protocol):
    """Folder of one submission. File names are single path segments."""

    def uri(self, name: str) -> str:
        """Return the location of a file, for people and for other tasks."""

    def names(self) -> list[str]:
        """List the files. Empty if the folder does not exist yet."""

    def sizes(self) -> dict[str, int]:
        """List the files with their sizes in bytes. Empty if the folder does not exist yet.

        :raises OSError: the storage cannot be read.
        """

    def open(self, name: str) -> IO[bytes] | None:
        """Open a file for reading, None if there is none.

        :raises OSError: the storage cannot be read.
        """

    def size(self, name: str) -> int | None:
        """Return the number of bytes of a file, None if there is none.

        :raises OSError: the storage cannot be read.
        """

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        """Read the bytes of a file from ``start`` up to ``end``, without the rest of it. None if there is no such file.

        :param end: at most the size of the file.
        :raises OSError: the storage cannot be read, or the file ends before ``end``.
        """

    def replace_file(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a new file that replaces ``name`` when the block ends without an error.

        :raises OSError: the storage cannot be written. The old file is untouched.
        """

    def remove(self, name: str) -> None:
        """Remove a file. Nothing happens if there is none.

        :raises OSError: the storage refuses.
        """

    def check_writable(self) -> None:
        """Write and remove a small file, so that an unwritable folder is found before money is spent.

        :raises OSError: the storage cannot be written.
        """

    def remove_temporary_files(self, prefix: str) -> None:
        """Remove temporary files that killed writers have left, by prefix of the final name.

        A writer that is still alive fails then.
        """


def buffered(file: Any) -> io.BufferedReader:
    """Buffer a file of fsspec's. By itself it copies a whole block, of megabytes, for each line that is read."""
    return io.BufferedReader(RawFile(file), BUFFER_BYTES)


class RawFile(io.RawIOBase):
    """Adapter of a file of fsspec's to ``io``: not all of them are ``io`` objects."""

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
    """Read a small file, None if there is none.

    :raises OSError: the storage cannot be read.
    """
    file = folder.open(name)
    if file is None:
        return None
    with file:
        return file.read()


def write(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file, or replace it as a whole.

    :raises OSError: the storage cannot be written. The old file is untouched.
    """
    with folder.replace_file(name) as file:
        file.write(data)


def appends(folder: Folder) -> TypeGuard[LocalFolder]:
    """Tell whether bytes can be added to the end of a file. Object stores replace files as a whole."""
    return isinstance(folder, LocalFolder)


class LocalFolder:
    """Folder on a disk. A file is written under a temporary name, synced, and renamed.

    Example::

        folder = LocalFolder(Path("/data/claude/my_dag/run_1/label"))
        with folder.replace_file("results.jsonl") as file:
            file.writelines(rows)

    :param mode: mode of the files that are written, whatever the umask. Folders that are created can also be entered
        by all who may read the files. What exists keeps its mode, until a file is replaced.
    """

    def __init__(self, path: Path, *, mode: int = PRIVATE_MODE) -> None:
        self.path = path
        self._mode = mode

    def uri(self, name: str) -> str:
        return str(self.path / name)

    def names(self) -> list[str]:
        try:
            return [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []

    def sizes(self) -> dict[str, int]:
        sizes = {name: self.size(name) for name in self.names()}
        return {name: size for name, size in sizes.items() if size is not None}

    def folders(self) -> list[str]:
        """List the names of the folders in this one, sorted. Empty if it does not exist."""
        try:
            return sorted(path.name for path in self.path.iterdir() if path.is_dir())
        except FileNotFoundError:
            return []

    def open(self, name: str) -> IO[bytes] | None:
        try:
            return (self.path / name).open("rb")
        except FileNotFoundError:
            return None

    def size(self, name: str) -> int | None:
        try:
            return (self.path / name).stat().st_size
        except FileNotFoundError:
            return None

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        try:
            with (self.path / name).open("rb", buffering=0) as file:
                return _whole(os.pread(file.fileno(), end - start, start), end - start, self.uri(name))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        self._make_folder(self.path)
        temporary = self.path / f".{name}.{uuid.uuid4().hex}.tmp"
        try:
            with _create_private(temporary) as file:
                if self._mode != PRIVATE_MODE:
                    os.fchmod(file.fileno(), self._mode)
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path / name)
        finally:
            temporary.unlink(missing_ok=True)
        self._sync()
        self.remove_temporary_files(f"{name}.")

    def append(self, name: str, data: bytes) -> None:
        """Add bytes to the end of a file, and sync it. It is created if it is missing.

        :raises OSError: the disk refuses. The file may end with a part of the bytes.
        """
        self._make_folder(self.path)
        is_new = not (self.path / name).exists()
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_MODE)
        try:
            if is_new and self._mode != PRIVATE_MODE:
                os.fchmod(descriptor, self._mode)
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            self._sync()

    def check_writable(self) -> None:
        with self.replace_file(".writable"):
            pass
        (self.path / ".writable").unlink(missing_ok=True)

    def remove_temporary_files(self, prefix: str) -> None:
        for temporary in self.path.glob(f".{prefix}*.tmp"):
            temporary.unlink(missing_ok=True)

    def _make_folder(self, path: Path) -> None:
        """Create a folder and those above it that are missing. ``Path.mkdir`` would let everybody into the latter."""
        try:
            path.mkdir(PRIVATE_MODE | stat.S_IXUSR)
        except FileNotFoundError:
            if path.parent.is_dir():  # a file system without room for folders, such as /proc
                raise
            self._make_folder(path.parent)
            return self._make_folder(path)
        except OSError:  # some file systems refuse before they see that the folder exists
            if path.is_dir():
                return None
            raise
        if self._mode != PRIVATE_MODE:
            # Who may read (0o444) may enter (0o111). The setgid bit comes from the folder above.
            may_enter = (self._mode & 0o444) >> 2
            path.chmod(self._mode | may_enter | (path.stat().st_mode & stat.S_ISGID))

    def _sync(self) -> None:
        """Make the rename durable: it is stored in the directory, not in the file."""
        directory = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class ObjectFolder:
    """Folder in an object store or on another file system of fsspec's.

    A file is written on the local disk and uploaded in one piece. If an interrupted upload would leave half a file, it
    goes under a temporary name first and is moved. Every error of a store's library becomes an ``OSError``.

    Example::

        folder = ObjectFolder(fsspec.filesystem("s3"), "bucket/claude/label", uri="s3://aws_default@bucket/claude/label")

    :param root: path of the folder within the file system.
    :param uri: the folder as the author wrote it. It may name a connection, which the file system does not know.
    """

    def __init__(self, fs: AbstractFileSystem, root: str, *, uri: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self._uri = uri.rstrip("/")
        protocol = fs.protocol
        self._has_atomic_uploads = not ATOMIC_UPLOAD_PROTOCOLS.isdisjoint(
            [protocol] if isinstance(protocol, str) else protocol
        )

    def uri(self, name: str) -> str:
        return f"{self._uri}/{name}"

    def names(self) -> list[str]:
        with self._os_errors():
            self.fs.invalidate_cache(self.root)
            try:
                return [str(path).rpartition("/")[2] for path in self.fs.ls(self.root, detail=False)]
            except FileNotFoundError:
                return []

    def sizes(self) -> dict[str, int]:
        return {file["name"].rpartition("/")[2]: int(file["size"]) for file in self._list() if file["type"] == "file"}

    def folders(self) -> list[str]:
        """List the names of the folders in this one, sorted. Empty if it does not exist.

        :raises OSError: the storage cannot be read.
        """
        names = (file["name"].rstrip("/").rpartition("/")[2] for file in self._list() if file["type"] == "directory")
        return sorted(names)

    def open(self, name: str) -> IO[bytes] | None:
        with self._os_errors():
            # Most stores' clients cache listings, and another process may have written since.
            self.fs.invalidate_cache(self.root)
            try:
                return buffered(self.fs.open(self._path(name), "rb"))
            except FileNotFoundError:
                return None

    def size(self, name: str) -> int | None:
        with self._os_errors():
            self.fs.invalidate_cache(self.root)
            try:
                return int(self.fs.info(self._path(name))["size"])
            except FileNotFoundError:
                return None

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        if start == end:  # many stores refuse an empty range
            return b""
        with self._os_errors():
            self.fs.invalidate_cache(self.root)
            try:
                data = bytes(self.fs.cat_file(self._path(name), start=start, end=end))
            except FileNotFoundError:
                return None
        return _whole(data, end - start, self.uri(name))

    def remove(self, name: str) -> None:
        with self._os_errors(), contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self._path(name))

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with tempfile.NamedTemporaryFile(buffering=BUFFER_BYTES) as temporary:
            yield temporary
            temporary.flush()
            with self._os_errors():
                self._upload(temporary.name, name)

    def check_writable(self) -> None:
        write(self, ".writable", b"first")
        write(self, ".writable", b"last")  # not every file system moves a file over another
        found = read(self, ".writable")
        with self._os_errors():
            self.fs.rm_file(self._path(".writable"))
        if found != b"last":
            raise OSError(f"{self.uri('.writable')} was written twice, but does not have the content written last")

    def remove_temporary_files(self, prefix: str) -> None:
        """Remove uploaded temporary files. Those on the local disk are in its own directory for such files."""
        if self._has_atomic_uploads:
            return
        for name in self.names():
            if name.startswith(f".{prefix}") and name.endswith(".tmp"):
                self._remove(self._path(name))

    def _upload(self, local: str, name: str) -> None:
        if self._has_atomic_uploads:
            # No ``makedirs``: an object store has no folders, and some clients would look for the bucket, or create it.
            self.fs.put_file(local, self._path(name))
            return
        temporary = self._path(f".{name}.{uuid.uuid4().hex}.tmp")
        self.fs.makedirs(self.root, exist_ok=True)
        try:
            self.fs.put_file(local, temporary)
            self.fs.mv(temporary, self._path(name))
        except BaseException:
            self._remove(temporary)
            raise
        self.remove_temporary_files(f"{name}.")

    def _remove(self, path: str) -> None:
        with contextlib.suppress(Exception):  # it was moved, or the storage that refused the write refuses this too
            self.fs.rm_file(path)

    def _list(self) -> list[dict[str, Any]]:
        with self._os_errors():
            self.fs.invalidate_cache(self.root)
            try:
                return list(self.fs.ls(self.root, detail=True))
            except FileNotFoundError:
                return []

    @contextlib.contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            raise OSError(f"{self._uri}: {type(error).__name__}: {error}") from error

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"


class GuardedFolder:
    """Folder that runs a check before each file is put in its place or removed, however long it took to write.

    :param check: raises if the file must not be changed.
    """

    def __init__(self, folder: Folder, check: Callable[[], None]) -> None:
        self._folder = folder
        self._check = check

    def uri(self, name: str) -> str:
        return self._folder.uri(name)

    def names(self) -> list[str]:
        return self._folder.names()

    def sizes(self) -> dict[str, int]:
        return self._folder.sizes()

    def open(self, name: str) -> IO[bytes] | None:
        return self._folder.open(name)

    def size(self, name: str) -> int | None:
        return self._folder.size(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        return self._folder.read_range(name, start, end)

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with self._folder.replace_file(name) as file:
            yield file
            self._check()

    def remove(self, name: str) -> None:
        self._check()
        self._folder.remove(name)

    def check_writable(self) -> None:
        self._folder.check_writable()

    def remove_temporary_files(self, prefix: str) -> None:
        self._folder.remove_temporary_files(prefix)


def _whole(data: bytes, length: int, uri: str) -> bytes:
    if len(data) < length:
        raise OSError(f"{uri} ends within the bytes that were asked for")
    return data


def _create_private(path: Path) -> IO[bytes]:
    """Create a file that only its owner can read, from its first moment on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_MODE)
    return os.fdopen(descriptor, "wb", buffering=BUFFER_BYTES)


def local_copy(folder: Folder, name: str, directory: Path) -> Path | None:
    """Return a local path of a file, so that it can be mapped into memory. None if there is no such file.

    :param directory: where a file of an object store is copied to.
    """
    if isinstance(folder, LocalFolder):
        path = folder.path / name
        return path if path.exists() else None
    file = folder.open(name)
    if file is None:
        return None
    copy = directory / f"{uuid.uuid4().hex}-{name}"
    with file, _create_private(copy) as out:
        shutil.copyfileobj(file, out, 1 << 20)
    return copy
