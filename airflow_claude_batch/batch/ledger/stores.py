"""Where a ledger is stored: files in the submission's folder, or Airflow's task state store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

#: Key of the ledger in Airflow's task state store.
STATE_KEY = "claude_batch_ledger"
#: Key of one of its chunks, followed by the chunk's name.
CHUNK_KEY = "claude_batch_ledger_chunk_"
#: How long the state store keeps a ledger after its last change: longer than the API keeps results (29 days).
STATE_RETENTION = timedelta(days=60)
#: A chunk is written once by each attempt and must outlive its last head. No attempt takes as long as 60 days.
CHUNK_RETENTION = 2 * STATE_RETENTION


class LedgerStore(Protocol):
    """Storage of one submission's ledger, with one owner at a time.

    A ledger is stored as a head, and as chunks that the head names. The name of a chunk is made of its content.
    """

    def claim(self) -> None:
        """Become the owner.

        From then on, nothing that the previous owner saves changes the new owner's ledger. The previous owner's
        ``load`` raises, and so does its ``save``, at the latest after it has written.
        """

    def load(self) -> bytes | None:
        """Return the stored head, None only if there certainly is none.

        :raises SubmissionTakenOverError: another process owns the ledger now.
        """

    def load_chunk(self, name: str) -> bytes | None:
        """Return a chunk that the head loaded last names, None only if there certainly is none."""

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        """Replace the stored ledger as a whole, with one write and at most one read.

        A chunk that is not stored yet costs one more write. It is written before the head that names it.

        :param chunks: content of every chunk that the head names, by name.
        :raises SubmissionTakenOverError: another process owns the ledger. The caller must not act on what it saved.
        """

    def check_owner(self, attempt: str) -> None:
        """Check with one read that this process still owns the ledger.

        :param attempt: the attempt that the ledger names as its owner.
        :raises SubmissionTakenOverError: another process owns it, or it is gone.
        """


class FolderLedgerStore:
    """Stores the ledger as files in the submission's folder, one file per owner. The highest number is the current one.

    An owner writes and removes only its own files, so an owner that was suspended and comes back cannot change its
    successor's ledger. A new owner writes a claim before it reads. The previous one lists the claims after it has
    written, and before it acts on that or removes what only its previous ledger needed. In either order one of them
    notices the other: the new one reads what was written, or the previous one finds the claim. No storage needs
    compare-and-swap for this.

    Example::

        store = FolderLedgerStore(LocalFolder(Path("/data/claude/my_dag/run_1/label")))
        claim_ledger(store)  # writes ledger-1-0123456789ab.json
        ledger = load_ledger(store)
    """

    def __init__(self, folder: storage.Folder) -> None:
        self._folder = folder
        self._own_file: _LedgerFile | None = None
        self._loaded_file: _LedgerFile | None = None
        #: Names of the chunks beside the own file.
        self._own_chunks: frozenset[str] = frozenset()

    def claim(self) -> None:
        self._own_file = self._write_claim()
        self._own_chunks = frozenset()
        self._folder.remove_temporary_files(_PREFIX)

    def load(self) -> bytes | None:
        names = self._folder.names()
        files = sorted(_ledger_files(names), reverse=True)
        if self._own_file and files and files[0].number > self._own_file.number:
            raise taken_over_error()
        for file in files:
            data = storage.read(self._folder, file.name)
            if data is None:
                raise SubmissionRecordError(
                    f"The ledger's file {file.name} was listed but cannot be found.",
                    "Nothing was sent now. Batches that the ledger names may still be running and billed.",
                    "Retry the task: a retry reads the ledger again.",
                )
            if data != _CLAIM:
                self._loaded_file = file
                self._own_file = self._own_file or file
                self._own_chunks = self._own_file.chunks_among(names)
                return data
        return None

    def load_chunk(self, name: str) -> bytes | None:
        return None if self._loaded_file is None else storage.read(self._folder, self._loaded_file.chunk(name))

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        own_file = self._own_file = self._own_file or self._write_claim()
        for name in chunks.keys() - self._own_chunks:
            storage.write(self._folder, own_file.chunk(name), chunks[name])
        storage.write(self._folder, own_file.name, head)
        names = self._folder.names()
        self._check_files(names)
        stored = own_file.chunks_among(names)
        self._own_chunks = stored & chunks.keys()
        self._remove(own_file.chunk(name) for name in stored - chunks.keys())

    def check_owner(self, attempt: str) -> None:
        self._check_files(self._folder.names())

    def _check_files(self, names: Collection[str]) -> None:
        files = _ledger_files(names)
        if self._own_file not in files or max(files).number > self._own_file.number:
            raise taken_over_error()

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files of chunks. Somebody who claims the ledger now reads the head that does not name them."""
        for name in names:
            with contextlib.suppress(Exception):  # what cannot be removed does no harm
                self._folder.remove(name)

    def _write_claim(self) -> _LedgerFile:
        number = max((file.number for file in _ledger_files(self._folder.names())), default=0) + 1
        own_file = _LedgerFile(number, new_token())
        storage.write(self._folder, own_file.name, _CLAIM)
        if any(file.number >= number and file != own_file for file in _ledger_files(self._folder.names())):
            raise SubmissionTakenOverError(
                "Another attempt of this task began at the same moment, so this attempt stops.",
                "It has sent nothing.",
                "Retry the task: it continues from what the other attempt has sent.",
            )
        return own_file


class _LedgerFile(NamedTuple):
    """Name of one owner's file, ``ledger-<number>-<token>.json``. Its chunks are beside it."""

    number: int
    token: str

    @property
    def name(self) -> str:
        return f"{_PREFIX}{self.number}-{self.token}.json"

    def chunk(self, name: str) -> str:
        return f"{_PREFIX}{self.number}-{self.token}-chunk-{name}.json"

    def chunks_among(self, names: Iterable[str]) -> frozenset[str]:
        """Return the names of this file's chunks among the names of files."""
        start, _, end = self.chunk("*").partition("*")
        return frozenset(
            name.removeprefix(start).removesuffix(end)
            for name in names
            if name.startswith(start) and name.endswith(end)
        )


def is_ledger_file(name: str) -> bool:
    """Tell whether a file of a submission's folder is a ledger, or the claim of one."""
    return _FILE_NAME.fullmatch(name) is not None


def _ledger_files(names: Iterable[str]) -> list[_LedgerFile]:
    matches = map(_FILE_NAME.fullmatch, names)
    return [_LedgerFile(int(match[1]), match[2]) for match in matches if match]


def taken_over_error() -> SubmissionTakenOverError:
    """Build the error of an attempt that another one has replaced."""
    return SubmissionTakenOverError(
        "Another attempt of this task has taken over the submission, so this attempt stops.",
        "It sends nothing more. The other attempt continues with what was sent.",
    )


#: Content of an owner's file until it saves its first ledger.
_CLAIM = b'{"claim":true}'
_PREFIX = "ledger-"
_FILE_NAME = re.compile(_PREFIX + r"(\d+)-(\w+)\.json")


class TaskStateAccessor(Protocol):
    """Airflow's task state store of one task instance, as far as it is used here."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, *, retention: timedelta) -> None: ...

    def delete(self, key: str) -> None: ...


class StateLedgerStore:
    """Stores the ledger in Airflow's task state store (Airflow 3.3+): the head and each chunk have a key of their own.

    A ledger that an older version left in the folder is read until the first save.

    All owners write the same key. Airflow refuses the writes of a try that was replaced, because the task instance has
    another id then. Who owns the ledger is read before each write, too: nothing overwrites another attempt's ledger.

    :param accessor: Airflow's accessor of the task state store, ``context["task_state_store"]``.
    """

    def __init__(self, accessor: TaskStateAccessor, folder: storage.Folder) -> None:
        self._accessor = accessor
        self._folder_store = FolderLedgerStore(folder)
        self._is_in_folder = False
        self._has_claimed = False

    def claim(self) -> None:
        """Let the next save replace the ledger of another attempt. Airflow gives each try an id of its own."""
        self._has_claimed = True

    def load(self) -> bytes | None:
        value = self._accessor.get(STATE_KEY)
        self._is_in_folder = value is None
        return self._folder_store.load() if value is None else msgspec.json.encode(value)

    def load_chunk(self, name: str) -> bytes | None:
        if self._is_in_folder:
            return self._folder_store.load_chunk(name)
        value = self._accessor.get(f"{CHUNK_KEY}{name}")
        return None if value is None else str(value).encode()

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        value = msgspec.json.decode(head)
        stored = self._accessor.get(STATE_KEY)
        is_own = self._attempt_of(stored) == value["attempt"]
        if not is_own and not self._has_claimed:
            raise taken_over_error()
        known = chunk_names(stored)
        for name in chunks.keys() - (known if is_own else ()):
            # As text: a chunk is named by its bytes, and a JSON value may come back as others.
            self._accessor.set(f"{CHUNK_KEY}{name}", chunks[name].decode(), retention=CHUNK_RETENTION)
        self._accessor.set(STATE_KEY, value, retention=STATE_RETENTION)
        self._has_claimed = False
        for name in known - chunks.keys():
            with contextlib.suppress(Exception):  # what cannot be removed does no harm, and expires
                self._accessor.delete(f"{CHUNK_KEY}{name}")

    def check_owner(self, attempt: str) -> None:
        if self._attempt_of(self._accessor.get(STATE_KEY)) != attempt:
            raise taken_over_error()

    def _attempt_of(self, value: Any) -> str | None:
        """Return the attempt that owns the ledger: the stored one, or the one in the folder that is not moved yet."""
        if value is None:
            data = self._folder_store.load()
            value = None if data is None else msgspec.json.decode(data)
        return value.get("attempt") if isinstance(value, dict) else None


def chunk_names(value: Any) -> frozenset[str]:
    """Return the names of the chunks of a stored head. A strange one, which ``load`` would refuse, has none."""
    try:
        return frozenset(str(ref["name"]) for ref in value["chunks"])
    except (TypeError, KeyError):
        return frozenset()
