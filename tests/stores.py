"""File systems for fsspec that behave and fail like real object stores, file servers and full disks."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
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
