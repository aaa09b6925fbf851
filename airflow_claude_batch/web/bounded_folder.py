"""Read a submission's folder for the page: within bounds of bytes and time, and nothing but the files in it.

Workers write the folder, and code of DAG authors runs there. On a disk it could hold links to files of the api-server,
and pipes that never end. So only regular files are read, and no link is followed below the ``results_path``.
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Final

from airflow_claude_batch.batch.storage import Folder, LocalFolder

#: What one read fetches. An object store takes as long to answer a small read.
CHUNK_BYTES: Final = 4 << 20
#: Most bytes of one page from a disk, whose cache gives a GB/s. Most of an object store: 100 MB/s.
MAX_LOCAL_BYTES: Final = 1 << 30
MAX_REMOTE_BYTES: Final = 64 << 20
MAX_SECONDS: Final = 0.6
#: What is not file contents, such as the end of an index, is read in one piece.
_MAX_READ_BYTES: Final = 16 << 20
#: However slow a storage is, so much is read that a search comes further: more than the longest line.
_LEAST_BYTES: Final = 4 << 20
_NOTHING_IS_WRITTEN: Final = "the page writes nothing"


class Budget:
    """How much a page may still read.

    Example::

        budget = Budget(64 << 20)
        while not budget.is_spent: ...

    :param clock: returns seconds.
    """

    def __init__(
        self, max_bytes: int, max_seconds: float = MAX_SECONDS, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.left = max_bytes
        self._spent = 0
        self._clock = clock
        self._end = clock() + max_seconds

    @property
    def is_spent(self) -> bool:
        return self.left <= 0 or (self._spent >= _LEAST_BYTES and self._clock() >= self._end)

    def spend(self, count: int) -> None:
        self.left -= count
        self._spent += count


class _ReadOnly:
    """The methods of a folder that write. They refuse."""

    def replace_file(self, name: str) -> AbstractContextManager[IO[bytes]]:
        raise OSError(errno.EROFS, _NOTHING_IS_WRITTEN, name)

    def remove(self, name: str) -> None:
        raise OSError(errno.EROFS, _NOTHING_IS_WRITTEN, name)

    def check_writable(self) -> None:
        raise OSError(errno.EROFS, _NOTHING_IS_WRITTEN)

    def remove_temporary_files(self, prefix: str) -> None:
        raise OSError(errno.EROFS, _NOTHING_IS_WRITTEN, prefix)


class BoundedFolder(_ReadOnly):
    """A folder that is read within a budget, and never written.

    :param folder: the folder itself. On a disk, a :class:`PlainFolder`.
    """

    def __init__(self, folder: Folder, budget: Budget, *, max_bytes: int | None = None) -> None:
        self._folder = folder
        self.budget = budget
        #: What a budget for this storage may have.
        self.max_bytes = budget.left if max_bytes is None else max_bytes

    def with_budget(self, budget: Budget) -> BoundedFolder:
        """Return the same folder with another budget."""
        return BoundedFolder(self._folder, budget, max_bytes=self.max_bytes)

    def uri(self, name: str) -> str:
        return self._folder.uri(name)

    def names(self) -> list[str]:
        return list(self.sizes())

    def sizes(self) -> dict[str, int]:
        return self._folder.sizes()

    def size(self, name: str) -> int | None:
        return self._folder.size(name)

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        """Read a range, of at most 16 MiB.

        :raises OSError: the storage cannot be read, or the range is longer.
        """
        if not 0 <= start <= end <= start + _MAX_READ_BYTES:
            raise OSError(errno.EFBIG, "more bytes are asked for than the page reads", self.uri(name))
        self.budget.spend(end - start)
        return self._folder.read_range(name, start, end)

    def open(self, name: str) -> IO[bytes] | None:
        raise OSError(errno.EFBIG, "the page reads no file as a whole", self.uri(name))


class PlainFolder(LocalFolder):
    """A folder on a disk of which only regular files are read.

    :param root: the folder above all submissions. No link is followed below it.
    :raises OSError: the folder is reached by a link below the root, or cannot be looked at.
    """

    def __init__(self, path: Path, *, root: Path) -> None:
        names = path.relative_to(root).parts
        if path.resolve() != root.resolve().joinpath(*names):
            raise OSError(errno.ELOOP, "a link leads out of the results_path", str(path))
        super().__init__(path)

    def size(self, name: str) -> int | None:
        try:
            found = (self.path / name).lstat()
        except FileNotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        try:
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is not a file", str(self.path / name))
            data = os.pread(descriptor, end - start, start)
        finally:
            os.close(descriptor)
        if len(data) < end - start:
            raise OSError(errno.EIO, "it ends within the bytes that were asked for", str(self.path / name))
        return data


class GivenFolder(_ReadOnly):
    """Files in memory.

    :param files: contents by name.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def uri(self, name: str) -> str:
        return name

    def names(self) -> list[str]:
        return list(self._files)

    def sizes(self) -> dict[str, int]:
        return {name: len(data) for name, data in self._files.items()}

    def size(self, name: str) -> int | None:
        return self.sizes().get(name)

    def open(self, name: str) -> IO[bytes] | None:
        return io.BytesIO(self._files[name]) if name in self._files else None

    def read_range(self, name: str, start: int, end: int) -> bytes | None:
        return self._files[name][start:end] if name in self._files else None
