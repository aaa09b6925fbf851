"""Where a ledger lives: files in the submission's folder, or Airflow's task state store."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.ledger.ledger import new_token
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

STATE_KEY = "claude_batch_ledger"


#: A ledger outlives its batches' results (29 days), counted from its last change.
STATE_RETENTION = timedelta(days=60)


class LedgerStore(Protocol):
    """Where one submission's ledger lives. ``load`` answers None only if there certainly is none.

    ``claim`` makes this process the owner. From then on whatever another one saves does not touch its ledger, and
    ``load`` or ``save`` of the other raises: at the latest in the ``load`` that follows its ``save``.
    """

    def claim(self) -> None: ...

    def load(self) -> bytes | None: ...

    def save(self, data: bytes) -> None: ...


class FolderLedgerStore:
    """The ledger as files in the submission's folder, one for each owner: the one with the highest number rules.

    An owner writes its own file only, so that one who stood still, and comes back when it has a successor, cannot
    write over the successor's ledger. A new owner announces itself with a file before it reads; an old one looks for
    announcements after it has written and before it acts. Whichever comes first: either the new one reads what was
    written, or the old one finds the announcement. No storage need compare and swap.
    """

    def __init__(self, folder: storage.Folder) -> None:
        self._folder = folder
        self._own: _File | None = None

    def claim(self) -> None:
        self._own = self._announced()
        self._folder.remove_temporary_files(_PREFIX)

    def load(self) -> bytes | None:
        files = sorted(self._files(), reverse=True)
        if self._own and files and files[0].number > self._own.number:
            raise SubmissionTakenOverError(
                "Another attempt of this task has taken the submission over, and goes on with what was sent. This one "
                "stops, and sends nothing more."
            )
        for file in files:
            data = storage.read(self._folder, file.name)
            if data is None:
                raise SubmissionRecordError(
                    f"{file.name} was listed, but is not there. Nothing was sent; a retry reads it again."
                )
            if data != _CLAIM:
                self._own = self._own or file
                return data
        return None

    def save(self, data: bytes) -> None:
        self._own = self._own or self._announced()
        storage.write(self._folder, self._own.name, data)

    def _announced(self) -> _File:
        number = max((file.number for file in self._files()), default=0) + 1
        own = _File(number, new_token())
        storage.write(self._folder, own.name, _CLAIM)
        if any(file.number >= number and file != own for file in self._files()):
            raise SubmissionTakenOverError(
                "Another attempt of this task began at the same moment. This one has sent nothing; a retry goes on "
                "from what the other one has sent."
            )
        return own

    def _files(self) -> list[_File]:
        return [
            _File(int(found[1]), found[2]) for name in self._folder.names() if (found := _FILE_NAME.fullmatch(name))
        ]


class _File(NamedTuple):
    """One owner's ledger file."""

    number: int
    token: str

    @property
    def name(self) -> str:
        return f"{_PREFIX}{self.number}-{self.token}.json"


#: An announcement: its owner has not written yet.
_CLAIM = b'{"claim":true}'


_PREFIX = "ledger-"


_FILE_NAME = re.compile(_PREFIX + r"(\d+)-(\w+)\.json")


class StateLedgerStore:
    """The ledger in Airflow's task state store (3.3+); one left in the folder by an older version is taken over.

    The state store refuses writes of a try that was replaced: its task instance has another id by then.
    """

    def __init__(self, accessor: Any, folder: storage.Folder) -> None:
        self._accessor = accessor
        self._folder = FolderLedgerStore(folder)

    def claim(self) -> None:
        """Airflow has done it: this try's task instance has an id that no earlier one has."""

    def load(self) -> bytes | None:
        value = self._accessor.get(STATE_KEY)
        return self._folder.load() if value is None else msgspec.json.encode(value)

    def save(self, data: bytes) -> None:
        self._accessor.set(STATE_KEY, msgspec.json.decode(data), retention=STATE_RETENTION)
