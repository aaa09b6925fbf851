"""Points at which a process can be killed: every effect on something outside the process is a step, and may be a trap.

Between two effects nothing changes outside of the process, so that a kill after each effect, and one before the first,
stands for a kill at any moment.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Literal

import httpx

from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder
from demo.loopback import LOOPBACK

EPOCH = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)

#: ``kill``: SIGKILL. ``stop``: SIGSTOP, until the test sends SIGCONT. ``term``: runs ``on_kill``, as Airflow does.
Trap = Literal["kill", "stop", "term"]


class SharedClock:
    """Clock that only moves when somebody waits, shared by the simulator and all processes through a memory map."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            path.write_bytes(struct.pack("d", 0.0))
        self.reopen()

    def reopen(self) -> None:
        """Map the file that is there now."""
        with self._path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 8)

    def seconds(self) -> float:
        return float(struct.unpack("d", self._page[:])[0])

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.seconds())

    def sleep(self, seconds: float) -> None:
        self._page[:] = struct.pack("d", self.seconds() + max(seconds, 0.0))


class Effects:
    """Counts the effects of a submission across its processes, and runs the traps.

    Its log has a line for each effect: ``+`` if it changed something outside, ``-`` if it only looked.
    """

    def __init__(self, path: Path, traps: Mapping[int, Trap] | None = None) -> None:
        self._log = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self._count = path.read_bytes().count(b"\n")
        self._traps = traps or {}
        self.on_term: Callable[[], None] = lambda: None

    def close(self) -> None:
        os.close(self._log)

    def step(self, name: str, *, changes: bool = True) -> None:
        os.write(self._log, f"{'+' if changes else '-'} {name}\n".encode())
        self._count += 1
        match self._traps.get(self._count):
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "term":
                self.on_term()


def changes(path: Path) -> list[int]:
    """Return the numbers of the effects that changed something."""
    lines = path.read_text().splitlines()
    return [number for number, line in enumerate(lines, 1) if line.startswith("+")]


def changes_near(path: Path, name: str) -> list[int]:
    """Return the numbers of the changes to what has ``name`` in its name, and of the change before and after each."""
    lines, numbers = path.read_text().splitlines(), changes(path)
    near = [at for at, number in enumerate(numbers) if name in lines[number - 1]]
    return sorted({numbers[at + step] for at in near for step in (-1, 0, 1) if at + step < len(numbers)})


class SteppedTransport(httpx.BaseTransport):
    """A step before each call leaves, and one when its answer is here but nobody has read it.

    :param inner: carries the calls. Default: real sockets.
    """

    def __init__(self, effects: Effects, inner: httpx.BaseTransport | None = None) -> None:
        self._inner = inner or httpx.HTTPTransport(**LOOPBACK)
        self._effects = effects

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        name = f"{request.method} {request.url.path}"
        self._effects.step(f"calling {name}", changes=False)
        response = self._inner.handle_request(request)
        if not request.url.path.endswith("/results"):  # a stream: what cuts it is to come while it is read
            response.read()
        self._effects.step(f"called {name}", changes=_changes_something(request))
        return response

    def close(self) -> None:
        self._inner.close()


def _changes_something(request: httpx.Request) -> bool:
    return request.method != "GET" and not request.url.path.endswith("/count_tokens")


class SteppedStore:
    """A ledger store with a step at each of its operations. What a save writes and removes are steps of its storage."""

    def __init__(self, inner: LedgerStore, effects: Effects) -> None:
        self._inner = inner
        self._effects = effects

    def claim(self) -> None:
        self._effects.step("claiming", changes=False)
        self._inner.claim()
        self._effects.step("claimed", changes=False)

    def load(self) -> bytes | None:
        data = self._inner.load()
        self._effects.step("loaded ledger", changes=False)
        return data

    def load_chunk(self, name: str) -> bytes | None:
        return self._inner.load_chunk(name)

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        self._effects.step("saving ledger", changes=False)
        self._inner.save(head, chunks)
        self._effects.step("saved ledger", changes=False)

    def check_owner(self, attempt: str) -> None:
        self._inner.check_owner(attempt)
        self._effects.step("checked owner", changes=False)


class SteppedLocalFolder(LocalFolder):
    """A folder with a step when a file's content is written, and one when it is in its place."""

    def __init__(self, path: Path, effects: Effects) -> None:
        super().__init__(path)
        self._effects = effects

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with super().replace_file(name) as file:
            yield file
            file.flush()
            self._effects.step(f"drafted {name}")
        self._effects.step(f"published {name}")

    def append(self, name: str, data: bytes) -> None:
        super().append(name, data)
        self._effects.step(f"appended to {name}")

    def remove(self, name: str) -> None:
        is_there = self.size(name) is not None
        super().remove(name)
        if is_there:
            self._effects.step(f"removed {name}")


class SteppedObjectFolder(ObjectFolder):
    """The same for an object store, which is a directory here."""

    def __init__(self, path: Path, effects: Effects) -> None:
        import fsspec

        super().__init__(fsspec.filesystem("file"), str(path), uri=str(path))
        self._effects = effects

    @contextlib.contextmanager
    def replace_file(self, name: str) -> Iterator[IO[bytes]]:
        with super().replace_file(name) as file:
            yield file
            self._effects.step(f"drafted {name}", changes=False)
        self._effects.step(f"published {name}")

    def remove(self, name: str) -> None:
        is_there = self.size(name) is not None
        super().remove(name)
        if is_there:
            self._effects.step(f"removed {name}")


class SteppedS3Folder(SteppedObjectFolder):
    """The same for a bucket of a server that speaks the S3 protocol."""

    def __init__(self, endpoint: str, root: str, effects: Effects) -> None:
        ObjectFolder.__init__(self, s3_file_system(endpoint), root, uri=f"s3://{root}")
        self._effects = effects


def s3_file_system(endpoint: str) -> Any:
    """Connect to an S3 server as Airflow's Amazon provider does, with credentials that any test server takes.

    What runs in one process has one client, because each takes as long as ten calls. It remembers no listing.
    """
    file_system = _s3_client(endpoint, os.getpid())
    file_system.invalidate_cache()
    return file_system


@functools.cache
def _s3_client(endpoint: str, _pid: int) -> Any:
    from s3fs import S3FileSystem

    credentials = {"key": "test", "secret": "test"}
    return S3FileSystem(**credentials, endpoint_url=endpoint, session=_s3_session(), skip_instance_cache=True)


@functools.cache
def _s3_session() -> Any:
    """Return what all clients share: the descriptions of the API, which take long to read."""
    from aiobotocore.session import get_session

    return get_session()


class StateStore:
    """Airflow's task state store as far as a task sees it: durable, JSON, and closed to tries that were replaced.

    Airflow gives a task instance a new id with each try (``TaskInstance.prepare_db_for_next_try``). Under an old one
    its API server answers 404: ``get`` takes that for no value, ``set`` and ``delete`` raise.

    :param effects: where a step is counted for each change.
    """

    def __init__(self, path: Path, ti_id: str, effects: Effects | None = None) -> None:
        self._path = path
        self._ti_id = ti_id
        self._effects = effects

    def get(self, key: str, default: Any = None) -> Any:
        state = self._read()
        return state["values"].get(key, default) if state["ti_id"] == self._ti_id else default

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        state = self._read()
        if state["ti_id"] != self._ti_id:
            raise RuntimeError(f"API_SERVER_ERROR: 404, task instance {self._ti_id} not found")
        state["values"][key] = value
        self._write(state)
        self._step(f"stored {key}")

    def delete(self, key: str) -> None:
        state = self._read()
        if state["ti_id"] != self._ti_id:
            raise RuntimeError(f"API_SERVER_ERROR: 404, task instance {self._ti_id} not found")
        state["values"].pop(key, None)
        self._write(state)
        self._step(f"deleted {key}")

    def next_try(self) -> None:
        """What Airflow does when a try has failed or is cleared; ``self`` is of the new try."""
        self._write({**self._read(), "ti_id": self._ti_id})

    def _step(self, name: str) -> None:
        if self._effects is not None:
            self._effects.step(name)

    def _read(self) -> dict[str, Any]:
        return json.loads(self._path.read_bytes()) if self._path.exists() else {"ti_id": self._ti_id, "values": {}}

    def _write(self, state: Mapping[str, Any]) -> None:
        draft = self._path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(state))
        draft.replace(self._path)
