"""A ledger and its store, kept the same; what cannot be read or written stops the task."""

from __future__ import annotations

import logging

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.ledger.ledger import VERSION, Ledger, Part
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

log = logging.getLogger(__name__)


class LedgerRecord:
    """A ledger and its store, kept the same: ``ledger`` is always what was last saved."""

    def __init__(self, store: LedgerStore, ledger: Ledger) -> None:
        self._store = store
        self.ledger = ledger

    @classmethod
    def take_over(cls, store: LedgerStore, ledger: Ledger) -> LedgerRecord:
        """Make ``ledger.attempt`` the attempt of the submission; ``claim`` comes before."""
        save_ledger(store, ledger)
        record = cls(store, ledger)
        record.check_ownership()
        return record

    def save(self, ledger: Ledger) -> None:
        """Make a change durable; only then may it be acted upon.

        :raises SubmissionTakenOverError: also when that happened while it was written; it must not be acted upon.
        """
        self.check_ownership()
        save_ledger(self._store, ledger)
        self.ledger = ledger
        self.check_ownership()

    def add_batch(self, part: Part, batch: MessageBatch) -> None:
        """Record which message batch a part became. Comes before anything else after a create call's response."""
        known = msgspec.structs.replace(
            part, batch_id=batch.id, created_at=batch.created_at, expires_at=batch.expires_at
        )
        ledger = self.ledger.with_part(known)
        first = min(at for at in (ledger.created_at, batch.created_at) if at is not None)
        self.save(msgspec.structs.replace(ledger, created_at=first))
        log.info("Message batch %s: %d requests, expires %s", batch.id, part.count, batch.expires_at)

    def check_ownership(self) -> None:
        """A zombie of an earlier attempt must not spend money beside its successor.

        :raises SubmissionTakenOverError: another attempt has the submission now.
        """
        try:
            current = load_ledger(self._store)
            if current is not None and current.attempt == self.ledger.attempt:
                return
        except SubmissionTakenOverError:
            pass
        raise SubmissionTakenOverError(
            "Another attempt of this task has taken the submission over, so this one stops. "
            f"Message batches known here: {', '.join(self.ledger.batch_ids) or 'none'}."
        )


def claim_ledger(store: LedgerStore) -> None:
    """Become the owner of the submission, before reading what the one before has left.

    :raises SubmissionTakenOverError: somebody else did so at the same moment.
    :raises SubmissionRecordError: it could not be written.
    """
    try:
        store.claim()
    except (SubmissionRecordError, SubmissionTakenOverError):
        raise
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be claimed ({type(error).__name__}: {error}). Batches that it names "
            "may be running; nothing was sent now."
        ) from error


def load_ledger(store: LedgerStore) -> Ledger | None:
    """The ledger, None if none was ever written.

    :raises SubmissionRecordError: there may be one, but it cannot be understood.
    """
    try:
        data = store.load()
        return None if data is None else _decode(data)
    except (SubmissionRecordError, SubmissionTakenOverError):
        raise
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be read ({type(error).__name__}: {error}). Batches that it names may "
            "be running; nothing was sent now, and a retry reads it again."
        ) from error


def save_ledger(store: LedgerStore, ledger: Ledger) -> None:
    """Write the ledger as a whole.

    :raises SubmissionRecordError: it could not be written; the caller must not go on to spend money.
    """
    try:
        store.save(msgspec.json.encode(ledger))
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be written ({type(error).__name__}: {error}). Nothing more was sent; "
            "a retry goes on from the last state that was written. Batches known now: "
            f"{', '.join(ledger.batch_ids) or 'none'}."
        ) from error


def _decode(data: bytes) -> Ledger:
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(data, type=Ledger)
    except msgspec.MsgspecError as error:
        raise SubmissionRecordError(
            f"The submission's ledger is damaged ({error}). Batches that it named may be running: see the Console's "
            "batch list. Nothing was sent. Restore it, or clear the task with reuse_answers=False and the ledger "
            "removed to start anew."
        ) from error
    raise SubmissionRecordError(
        f"The submission's ledger has version {version}; this release understands {VERSION}. It was written by a "
        "newer release: upgrade this worker. Nothing was sent."
    )


class _Version(msgspec.Struct):
    version: int
