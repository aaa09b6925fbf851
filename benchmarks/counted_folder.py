"""Counts what reaches a submission's folder and what is read from it, by file: on a local disk, and over S3."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from airflow_claude_batch.batch.storage import LocalFolder

#: The parts of a file name that differ from run to run, or from part to part.
_VARIABLE = re.compile(r"[0-9a-f]{8,}|\d+")
#: Bytes of a page of the system's file cache.
_PAGE = 4096


@dataclass
class Traffic:
    """Bytes written and read, and calls, by kind of file: ``{"ledger-*-*.json": [7000, 9000, 30]}``.

    ``pages_in_memory`` has the files and pages that this resumption has read. Clear it for the next one.
    """

    by_file: dict[str, list[int]] = field(default_factory=dict)
    pages_in_memory: set[tuple[str, int]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, *, written: int = 0, read: int = 0, calls: int = 0) -> None:
        """Count what was done with a file."""
        with self._lock:
            counts = self.by_file.setdefault(_VARIABLE.sub("*", name), [0, 0, 0])
            counts[:] = (before + more for before, more in zip(counts, (written, read, calls), strict=True))


class CountedLocalFolder(LocalFolder):
    """Local folder that counts what is written. ``counting_reads`` counts the rest: files are opened in many places."""

    def __init__(self, path: Path, traffic: Traffic) -> None:
        super().__init__(path)
        self._traffic = traffic

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with super().replace_file(name) as file:
            yield file
        self._traffic.add(name, written=(self.path / name).stat().st_size, calls=1)


@contextlib.contextmanager
def counting_reads(root: Path, traffic: Traffic) -> Iterator[None]:
    """Count what this process reads from files below ``root``, whoever opens them: each open is a call.

    A page that ``os.pread`` reads again comes from memory, and is not counted again until the next resumption. Files
    that are mapped into memory or copied by the kernel are not seen. The package does neither.
    """
    io_open, pread, below = io.open, os.pread, f"{root}{os.sep}"

    def counting_open(file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if mode != "rb" or not str(file).startswith(below):
            return io_open(file, mode, buffering, *arguments, **options)
        raw = _CountedFile(str(file), traffic)
        return io.BufferedReader(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE) if buffering else raw

    def counting_pread(descriptor: int, length: int, offset: int) -> bytes:
        data = pread(descriptor, length, offset)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if data and str(path).startswith(below):
            pages = {(str(path), page) for page in range(offset // _PAGE, (offset + len(data) - 1) // _PAGE + 1)}
            traffic.add(path.name, read=min(len(data), _PAGE * len(pages - traffic.pages_in_memory)))
            traffic.pages_in_memory |= pages
        return data

    io.open = builtins.open = counting_open  # type: ignore[assignment]
    os.pread = counting_pread
    try:
        yield
    finally:
        io.open = builtins.open = io_open
        os.pread = pread


class _CountedFile(io.FileIO):
    """Raw file that counts what is read. ``os.pread`` does not come here."""

    def __init__(self, path: str, traffic: Traffic) -> None:
        super().__init__(path, "rb")
        self._traffic, self._label = traffic, Path(path).name
        traffic.add(self._label, calls=1)

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        self._traffic.add(self._label, read=count)
        return count

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._traffic.add(self._label, read=len(data))
        return data

    def readall(self) -> bytes:
        data = super().readall()
        self._traffic.add(self._label, read=len(data))
        return data
