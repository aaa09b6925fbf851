"""A ledger together with its store. What cannot be read or written stops the task.

Invariant: only the attempt that owns the submission changes its ledger. Each save checks that, before or after it
writes, and raises before anybody acts on it. So an earlier attempt that comes back to life spends nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import msgspec

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.ledger.chunks import CHUNKED_VERSION, Chunk, Head, chunk_name, join, split
from airflow_claude_batch.batch.ledger.ledger import VERSION, Ledger
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.ledger.stores import LedgerStore
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError


class LedgerRecord:
    """A ledger and its store, in sync: ``ledger`` is always what was saved last.

    Example::

        claim_ledger(store)
        known = load_ledger(store)  # what earlier attempts have left
        record = LedgerRecord.take_over(store, ledger_of_this_attempt)
        record.save(record.ledger.with_part(intent))
    """

    def __init__(self, store: LedgerStore, ledger: Ledger) -> None:
        self._store = store
        self.ledger = ledger

    @classmethod
    def take_over(cls, store: LedgerStore, ledger: Ledger) -> LedgerRecord:
        """Make ``ledger.attempt`` the owner of the submission. ``claim_ledger`` has to come before.

        :raises SubmissionTakenOverError: another attempt took it over at the same time.
        :raises SubmissionRecordError: the ledger could not be written.
        """
        record = cls(store, ledger)
        record.save(ledger)
        return record

    def save(self, ledger: Ledger) -> None:
        """Make a change durable. Only then may anybody act on it.

        :raises SubmissionTakenOverError: another attempt owns the submission, even if that happened during the write.
        :raises SubmissionRecordError: the ledger could not be written.
        """
        try:
            save_ledger(self._store, ledger)
        except SubmissionTakenOverError:
            raise _taken_over(ledger) from None
        self.ledger = ledger

    def add_batch(self, part: Part, batch: MessageBatch) -> None:
        """Record which message batch a part became. Must come right after the create call's response."""
        ledger = self.ledger.with_part(part.with_batch(batch))
        first_create = min(at for at in (ledger.created_at, batch.created_at) if at is not None)
        self.save(msgspec.structs.replace(ledger, created_at=first_create))

    def check_ownership(self) -> None:
        """Raise if another attempt owns the submission now, so that two attempts never spend money side by side.

        :raises SubmissionTakenOverError: another attempt owns it, or the ledger is gone.
        """
        try:
            with _reading():
                self._store.check_owner(self.ledger.attempt)
        except SubmissionTakenOverError:
            raise _taken_over(self.ledger) from None


def claim_ledger(store: LedgerStore) -> None:
    """Become the owner of the submission. Must come before reading what the previous owner has left.

    :raises SubmissionTakenOverError: another attempt did so at the same time.
    :raises SubmissionRecordError: the claim could not be written.
    """
    try:
        store.claim()
    except (SubmissionRecordError, SubmissionTakenOverError):
        raise
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be claimed ({type(error).__name__}: {error}).",
            "Nothing was sent now. Batches that the ledger names may still be running and billed.",
            "Make sure that the ledger's storage can be written, and retry the task.",
        ) from error


def load_ledger(store: LedgerStore) -> Ledger | None:
    """Read the ledger. Return None if none was ever written.

    :raises SubmissionRecordError: there may be a ledger, but it cannot be read or understood.
    :raises SubmissionTakenOverError: another attempt owns the submission now.
    """
    with _reading():
        data = store.load()
        if data is None:
            return None
        head = _decode(data)
        return join(head, {name: _load_chunk(store, name) for name in head.chunk_names})


def decode_ledger(data: bytes) -> Ledger | None:
    """Decode what a store has for a ledger. Return None if that has chunks, so that ``load_ledger`` must read it.

    :raises SubmissionRecordError: it cannot be understood.
    """
    head = _decode(data)
    return None if head.chunk_names else join(head, {})


def save_ledger(store: LedgerStore, ledger: Ledger) -> None:
    """Write the whole ledger.

    :raises SubmissionRecordError: it could not be written. The caller must not spend money.
    :raises SubmissionTakenOverError: another attempt owns the submission. The caller must not spend money.
    """
    try:
        store.save(*split(ledger))
    except (SubmissionRecordError, SubmissionTakenOverError):
        raise
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be written ({type(error).__name__}: {error}).",
            f"Nothing more was sent. The message batches known now: {_batch_ids(ledger)}.",
            "Make sure that the ledger's storage can be written, and retry the task: it continues from the last state "
            "that was written.",
        ) from error


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (SubmissionRecordError, SubmissionTakenOverError):
        raise
    except Exception as error:
        raise SubmissionRecordError(
            f"The submission's ledger could not be read ({type(error).__name__}: {error}).",
            "Nothing was sent now. Batches that the ledger names may still be running and billed.",
            "Make sure that the ledger's storage can be read, and retry the task: a retry reads it again.",
        ) from error


def _decode(data: bytes) -> Head:
    try:
        version = msgspec.json.decode(data, type=_Version).version
        if version in (VERSION, CHUNKED_VERSION):
            return msgspec.json.decode(data, type=Head)
    except msgspec.MsgspecError as error:
        raise _damaged(f"is damaged ({error})") from error
    raise SubmissionRecordError(
        f"The submission's ledger has version {version}, but this release understands versions up to "
        f"{CHUNKED_VERSION}.",
        "Nothing was sent now.",
        "Upgrade this package on the worker: a newer release wrote the ledger.",
    )


def _load_chunk(store: LedgerStore, name: str) -> Chunk:
    data = store.load_chunk(name)
    if data is None:
        raise SubmissionRecordError(
            f"The submission's ledger is incomplete: its chunk {name} is missing.",
            "Nothing was sent now. Batches that it named may be running: the Console lists them.",
            "Retry the task: if an earlier attempt was still running, it may have replaced the chunk meanwhile.",
            "If that does not help: restore the chunk. Or remove the ledger and clear the task with "
            "reuse_answers=False: then everything is sent, and paid, again.",
        )
    try:
        if chunk_name(data) == name:
            return msgspec.json.decode(data, type=Chunk)
    except msgspec.MsgspecError as error:
        raise _damaged(f"is damaged in its chunk {name} ({error})") from error
    raise _damaged(f"is damaged: its chunk {name} has other content than was written")


def _damaged(problem: str) -> SubmissionRecordError:
    return SubmissionRecordError(
        f"The submission's ledger {problem}.",
        "Nothing was sent now. Batches that it named may be running: the Console lists them.",
        "Restore the ledger. Or remove it and clear the task with reuse_answers=False: then everything is sent, "
        "and paid, again.",
    )


def _taken_over(ledger: Ledger) -> SubmissionTakenOverError:
    return SubmissionTakenOverError(
        "Another attempt of this task has taken over the submission, so this attempt stops.",
        f"It sends nothing more. The message batches known to it: {_batch_ids(ledger)}.",
    )


def _batch_ids(ledger: Ledger) -> str:
    return ", ".join(ledger.batch_ids) or "none"


class _Version(msgspec.Struct):
    version: int
