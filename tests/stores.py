"""File systems for fsspec that behave and fail like real object stores, file servers and full disks."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem


class Store(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Object store in memory. Its uploads can be made to fail, and it records every invalidation of its cache."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}
        self.pseudo_dirs = [""]
        self.refusing = False
        self.flushed: list[str | None] = []

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        if self.refusing:
            raise PermissionError(f"no writing to {rpath}")
        super().put_file(lpath, rpath, **options)

    def invalidate_cache(self, path: str | None = None) -> None:
        self.flushed.append(path)


class TheirError(Exception):
    """What a store's library raises."""


@dataclass
class FailingStore:
    """Counts the calls of one kind, and lets those fail that are named.

    :param kind: ``put``, ``open``, ``size``, ``range``, ``list`` or ``remove``.
    :param about: only calls about files whose names begin so.
    :param error: makes what is raised, from a text.
    """

    kind: str
    failing: set[int] = field(default_factory=set)
    calls: int = 0
    about: str = ""
    error: Callable[[str], Exception] = TheirError

    def store(self) -> Store:
        """Return an empty store that fails as described."""
        counter = self

        class Counted(Store):
            def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
                counter.count("put", rpath)
                super().put_file(lpath, rpath, **options)

            def _open(self, path: str, *args: Any, **options: Any) -> Any:
                counter.count("open", path)
                return super()._open(path, *args, **options)

            def info(self, path: str, **options: Any) -> Any:
                counter.count("size", path)
                return super().info(path, **options)

            def cat_file(self, path: str, *args: Any, **options: Any) -> Any:
                counter.count("range", path)
                return super().cat_file(path, *args, **options)

            def ls(self, path: str, *args: Any, **options: Any) -> Any:
                counter.count("list", path)
                return super().ls(path, *args, **options)

            def rm_file(self, path: str) -> None:
                counter.count("remove", path)
                super().rm_file(path)

        return Counted()

    def count(self, kind: str, path: str) -> None:
        if kind == self.kind and path.rpartition("/")[2].startswith(self.about):
            self.calls += 1
            if self.calls in self.failing:
                raise self.error(f"call {self.calls} has failed")


class FileServer(LocalFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Remote file system such as SFTP: an upload is not atomic, and the connection may break in the middle."""

    cachable = False
    protocol = "sftp"

    def __init__(self) -> None:
        super().__init__()
        self.bytes_left = 1 << 30
        self.moves_over_others = True

    def put_file(self, lpath: str, rpath: str, **options: Any) -> None:
        data = Path(lpath).read_bytes()
        Path(rpath).write_bytes(data[: self.bytes_left])
        if len(data) > self.bytes_left:
            raise EOFError("the server has closed the connection")

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if self.moves_over_others or not Path(path2).exists():
            Path(path1).replace(path2)


class BlockStore(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Store with one large object, read in blocks like S3, GCS and Azure. It counts the bytes that were read."""

    cachable = False
    protocol = "s3"

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self.handed_out = 0

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {"name": path, "size": len(self.data), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        store = self

        class BlockFile(AbstractBufferedFile):  # type: ignore[misc]  # same
            def _fetch_range(self, start: int, end: int) -> bytes:
                return store.data[start:end]

            def read(self, length: int = -1) -> bytes:
                data: bytes = super().read(length)
                store.handed_out += len(data)
                return data

        return BlockFile(self, path, mode)


@contextmanager
def small_disk(room: int) -> Iterator[None]:
    """Limit the size of every file of this process, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
