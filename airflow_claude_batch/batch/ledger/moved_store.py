"""Where a ledger is stored from Airflow 3.4 on: in the folder again, with the one that Airflow 3.3 had in its database.

A clear in Airflow 3.4 discards the task state store, unless the user ticks a box. A ledger there would be lost, and
everything would be sent and paid for again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.ledger.stores import (
    CHUNK_KEY,
    STATE_KEY,
    FolderLedgerStore,
    StateLedgerStore,
    TaskStateAccessor,
    chunk_names,
    taken_over_error,
)


class MovedLedgerStore:
    """Stores the ledger in the submission's folder, and moves one there that is in the task state store.

    A ledger in the task state store is newer than a file in the folder. Claiming or saving the ledger moves it; reading
    leaves it where it is.

    Example::

        store = MovedLedgerStore(context["task_state_store"], folder)
        claim_ledger(store)
        ledger = load_ledger(store)

    :param accessor: Airflow's accessor of the task state store, ``context["task_state_store"]``.
    """

    def __init__(self, accessor: TaskStateAccessor, folder: storage.Folder) -> None:
        self._accessor = accessor
        self._in_state = StateLedgerStore(accessor, folder)
        self._in_folder = FolderLedgerStore(folder)
        self._is_in_folder = self._has_read_state = False

    def claim(self) -> None:
        self._in_folder.claim()
        if (head := self._load_from_state()) is not None:
            names = chunk_names(msgspec.json.decode(head))
            chunks = {name: self._in_state.load_chunk(name) for name in names}
            # The reader says what a missing chunk means.
            self._in_folder.save(head, {name: chunk for name, chunk in chunks.items() if chunk is not None})
            self._remove_from_state()

    def load(self) -> bytes | None:
        head = self._load_from_state()
        return self._in_folder.load() if head is None else head

    def load_chunk(self, name: str) -> bytes | None:
        return (self._in_folder if self._is_in_folder else self._in_state).load_chunk(name)

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        if self._load_from_state() is None:
            self._in_folder.save(head, chunks)
            return
        self._in_state.check_owner(msgspec.json.decode(head)["attempt"])
        # A kill between the two leaves the ledger before this save, as a kill before it would.
        self._in_folder.save(head, chunks)
        self._remove_from_state()

    def check_owner(self, attempt: str) -> None:
        is_in_folder = self._load_from_state() is None
        (self._in_folder if is_in_folder else self._in_state).check_owner(attempt)

    def _load_from_state(self) -> bytes | None:
        """Return the head in the task state store. Once there is none, there never will be one again.

        :raises SubmissionTakenOverError: another attempt has moved the ledger that this process has read there.
        """
        if self._is_in_folder:
            return None
        value = self._accessor.get(STATE_KEY)
        if value is None and self._has_read_state:
            raise taken_over_error()
        self._is_in_folder, self._has_read_state = value is None, value is not None
        return None if value is None else msgspec.json.encode(value)

    def _remove_from_state(self) -> None:
        names = chunk_names(self._accessor.get(STATE_KEY))
        self._accessor.delete(STATE_KEY)
        self._is_in_folder = True
        for name in names:
            with contextlib.suppress(Exception):  # what cannot be removed does no harm, and expires
                self._accessor.delete(f"{CHUNK_KEY}{name}")
