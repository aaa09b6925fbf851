"""Real storage of ledgers that counts what goes through it, and that can be interrupted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from airflow_claude_batch.batch.ledger.stores import FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.storage import LocalFolder


class Killed(BaseException):
    """The process was killed here. None of our code runs after it."""


class Traffic:
    """Counts operations and the bytes written. ``before_write`` and ``before_remove`` get each name first."""

    def __init__(self) -> None:
        self.bytes_written = 0
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.removed: list[str] = []
        self.before_write: Callable[[str], None] = lambda name: None
        self.before_remove: Callable[[str], None] = lambda name: None

    def clear(self) -> None:
        self.bytes_written = 0
        for names in (self.writes, self.reads, self.removed):
            names.clear()


class CountingFolder(LocalFolder):
    """A folder on the disk. A listing counts as a read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.traffic = Traffic()

    def names(self) -> list[str]:
        self.traffic.reads.append("listing")
        return super().names()

    def open(self, name: str) -> IO[bytes] | None:
        self.traffic.reads.append(name)
        return super().open(name)

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        self.traffic.before_write(name)
        with super().replace_file(name) as file:
            yield file
            self.traffic.bytes_written += file.tell()
        self.traffic.writes.append(name)

    def remove(self, name: str) -> None:
        self.traffic.before_remove(name)
        super().remove(name)
        self.traffic.removed.append(name)


class CountingState:
    """Airflow's task state store in memory. Values are JSON, as in its database."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.retention: dict[str, timedelta] = {}
        self.traffic = Traffic()

    @property
    def values(self) -> dict[str, Any]:
        return {key: json.loads(text) for key, text in self.texts.items()}

    def get(self, key: str) -> Any:
        self.traffic.reads.append(key)
        return json.loads(self.texts.get(key, "null"))

    def set(self, key: str, value: Any, *, retention: timedelta) -> None:
        self.traffic.before_write(key)
        self.texts[key], self.retention[key] = json.dumps(value), retention
        self.traffic.bytes_written += len(self.texts[key])
        self.traffic.writes.append(key)

    def delete(self, key: str) -> None:
        self.traffic.before_remove(key)
        self.texts.pop(key, None)
        self.traffic.removed.append(key)


class Place:
    """Where the ledger of one submission is stored, the same for all processes of its task."""

    def __init__(self, kind: str, path: Path) -> None:
        self.folder = CountingFolder(path)
        self.states = CountingState() if kind == "state" else None

    def store(self) -> LedgerStore:
        """Return the store of a new process."""
        return FolderLedgerStore(self.folder) if self.states is None else StateLedgerStore(self.states, self.folder)

    @property
    def traffic(self) -> Traffic:
        return self.folder.traffic if self.states is None else self.states.traffic

    @property
    def chunks(self) -> dict[str, bytes]:
        """The stored chunks, by file name or key."""
        if self.states is None:
            return {path.name: path.read_bytes() for path in self.folder.path.glob("*-chunk-*")}
        return {key: str(value).encode() for key, value in self.states.values.items() if "_chunk_" in key}

    def write_chunk(self, name: str, data: bytes | None) -> None:
        """Replace the content of a stored chunk, or remove it."""
        if data is None:
            self.folder.remove(name) if self.states is None else self.states.delete(name)
        elif self.states is None:
            (self.folder.path / name).write_bytes(data)
        else:
            self.states.set(name, data.decode(), retention=timedelta(0))
