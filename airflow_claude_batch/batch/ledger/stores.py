"""Where a ledger is stored: files in the submission's folder, or Airflow's task state store."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

#: Key of the ledger in Airflow's task state store.
STATE_KEY = "claude_batch_ledger"
#: How long the state store keeps a ledger after its last change: longer than the API keeps results (29 days).
STATE_RETENTION = timedelta(days=60)


class LedgerStore(Protocol):
    """Storage of one submission's ledger, with one owner at a time."""

    def claim(self) -> None:
        """Become the owner.

        From then on, nothing that the previous owner saves changes the new owner's ledger. The previous owner's
        ``load`` or ``save`` raises, at the latest in the ``load`` that follows its ``save``.
        """

    def load(self) -> bytes | None:
        """Return the stored ledger, None only if there certainly is none.

        :raises SubmissionTakenOverError: another process owns the ledger now.
        """

    def save(self, data: bytes) -> None:
        """Replace the stored ledger as a whole."""


class FolderLedgerStore:
    """Stores the ledger as files in the submission's folder, one file per owner. The highest number is the current one.

    An owner writes only its own file, so an owner that was suspended and comes back cannot overwrite its successor's
    ledger. A new owner writes a claim before it reads. The previous one looks for claims after it has written and
    before it acts. In either order one of them notices the other: the new one reads what was written, or the previous
    one finds the claim. No storage needs compare-and-swap for this.

    Example::

        store = FolderLedgerStore(LocalFolder(Path("/data/claude/my_dag/run_1/label")))
        claim_ledger(store)  # writes ledger-1-0123456789ab.json
        ledger = load_ledger(store)
    """

    def __init__(self, folder: storage.Folder) -> None:
        self._folder = folder
        self._own_file: _LedgerFile | None = None

    def claim(self) -> None:
        self._own_file = self._write_claim()
        self._folder.remove_temporary_files(_PREFIX)

    def load(self) -> bytes | None:
        files = sorted(self._list_files(), reverse=True)
        if self._own_file and files and files[0].number > self._own_file.number:
            raise SubmissionTakenOverError(
                "Another attempt of this task has taken over the submission, so this attempt stops.",
                "It sends nothing more. The other attempt continues with what was sent.",
            )
        for file in files:
            data = storage.read(self._folder, file.name)
            if data is None:
                raise SubmissionRecordError(
                    f"The ledger's file {file.name} was listed but cannot be found.",
                    "Nothing was sent now. Batches that the ledger names may still be running and billed.",
                    "Retry the task: a retry reads the ledger again.",
                )
            if data != _CLAIM:
                self._own_file = self._own_file or file
                return data
        return None

    def save(self, data: bytes) -> None:
        self._own_file = self._own_file or self._write_claim()
        storage.write(self._folder, self._own_file.name, data)

    def _write_claim(self) -> _LedgerFile:
        number = max((file.number for file in self._list_files()), default=0) + 1
        own_file = _LedgerFile(number, new_token())
        storage.write(self._folder, own_file.name, _CLAIM)
        if any(file.number >= number and file != own_file for file in self._list_files()):
            raise SubmissionTakenOverError(
                "Another attempt of this task began at the same moment, so this attempt stops.",
                "It has sent nothing.",
                "Retry the task: it continues from what the other attempt has sent.",
            )
        return own_file

    def _list_files(self) -> list[_LedgerFile]:
        matches = map(_FILE_NAME.fullmatch, self._folder.names())
        return [_LedgerFile(int(match[1]), match[2]) for match in matches if match]


class _LedgerFile(NamedTuple):
    """Name of one owner's file, ``ledger-<number>-<token>.json``."""

    number: int
    token: str

    @property
    def name(self) -> str:
        return f"{_PREFIX}{self.number}-{self.token}.json"


#: Content of an owner's file until it saves its first ledger.
_CLAIM = b'{"claim":true}'
_PREFIX = "ledger-"
_FILE_NAME = re.compile(_PREFIX + r"(\d+)-(\w+)\.json")


class TaskStateAccessor(Protocol):
    """Airflow's task state store of one task instance, as far as it is used here."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, *, retention: timedelta) -> None: ...


class StateLedgerStore:
    """Stores the ledger in Airflow's task state store (Airflow 3.3+).

    A ledger that an older version left in the folder is read until the first save. Airflow refuses the writes of a try
    that was replaced, because the task instance has another id then.

    :param accessor: Airflow's accessor of the task state store, ``context["task_state_store"]``.
    """

    def __init__(self, accessor: TaskStateAccessor, folder: storage.Folder) -> None:
        self._accessor = accessor
        self._folder_store = FolderLedgerStore(folder)

    def claim(self) -> None:
        """Do nothing: Airflow gives the task instance of each try an id of its own."""

    def load(self) -> bytes | None:
        value = self._accessor.get(STATE_KEY)
        return self._folder_store.load() if value is None else msgspec.json.encode(value)

    def save(self, data: bytes) -> None:
        self._accessor.set(STATE_KEY, msgspec.json.decode(data), retention=STATE_RETENTION)
