"""The durable record of a submission: what was meant to be sent, what was sent, what came back.

Two invariants, each worth money:

* An intent (a part without a batch id) is written before its create call and the batch id before
  anything else happens after the answer. Whatever dies in between leaves a trace to search by.
* A ledger that cannot be read, or comes from a newer version, stops the task. It is never "no ledger".

The ledger holds no requests and no answers: a few hundred bytes a part.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import msgspec

from airflow_claude_batch.api.wire import BatchId, Timestamp, check_year
from airflow_claude_batch.batch import storage
from airflow_claude_batch.exceptions import SubmissionRecordError, SubmissionTakenOverError

VERSION = 1
STATE_KEY = "claude_batch_ledger"
#: A ledger outlives its batches' results (29 days), counted from its last change.
STATE_RETENTION = timedelta(days=60)

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The requests of one create call: those between ``first`` and ``last`` that had no final answer then."""

    #: Starts every custom_id of the part: what tells our batch from anybody else's.
    token: str
    #: Indices of the first and the last request, and how many they are (not all between need be in it).
    first: Count
    last: Count
    count: Count
    #: Bytes of the create call's body.
    size: Count
    #: The attempt and the round of it that made the part.
    attempt: str
    round: Count
    #: When the intent was written, by the API's clock where it told it.
    intended_at: Timestamp
    #: Newest batch of the workspace at that moment, and when that was made; None in an empty workspace.
    watermark: BatchId | None = None
    watermark_at: Timestamp | None = None
    #: None while this is only an intent.
    batch_id: BatchId | None = None
    created_at: Timestamp | None = None
    expires_at: Timestamp | None = None
    #: The answers are in the landed results.
    landed: bool = False
    #: ``moved``: made for an earlier input, whose indices are not today's; ``unwanted``: not to be used at all.
    answers: Literal["ours", "moved", "unwanted"] = "ours"

    def __post_init__(self) -> None:
        if not self.first <= self.last or self.count > self.last - self.first + 1:
            raise ValueError("a part has other requests than it counts")
        check_year(self.intended_at)

    @property
    def is_intent(self) -> bool:
        return self.batch_id is None

    @property
    def is_open(self) -> bool:
        return self.batch_id is not None and not self.landed


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """A submission so far. Frozen: a change is a new ledger, saved before it is acted upon."""

    submission_id: str
    #: Identifies keys, contents and order of the requests that the parts' indices refer to.
    input_digest: str
    #: The attempt that owns the submission now. Another one that finds a stranger's name here stops.
    attempt: str
    #: When this attempt began; its timeout counts from here.
    attempt_began_at: Timestamp
    #: Airflow's number of the try that this attempt is: tells a resumed try from a new one.
    try_number: int = 1
    #: Grows with every clear of the task, not with its retries.
    generation: int = 0
    #: Repair rounds begun in this attempt.
    round: int = 0
    parts: tuple[Part, ...] = ()
    #: Batches whose answers are landed and whose parts are forgotten.
    settled: tuple[BatchId, ...] = ()
    #: Batches of which no answer is expected any more: lost, or made for what is not wanted now.
    dropped: tuple[BatchId, ...] = ()
    #: This attempt ran out of time and asked for the cancellation of what was open.
    timed_out: bool = False
    #: First create and last ending of the submission's batches, by the API's clock.
    created_at: Timestamp | None = None
    ended_at: Timestamp | None = None
    #: What the submission was estimated to cost before its first create, as the manifest shows it.
    estimate: dict[str, Any] | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        check_year(self.attempt_began_at)

    @property
    def intents(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_intent)

    @property
    def open_parts(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if part.is_open)

    @property
    def open_batch_ids(self) -> tuple[str, ...]:
        return tuple(part.batch_id for part in self.parts if part.batch_id and not part.landed)

    @property
    def landed_batch_ids(self) -> frozenset[str]:
        """Those whose answers are in the landed rows."""
        return frozenset(self.settled).union(part.batch_id for part in self.parts if part.landed and part.batch_id)

    @property
    def closed_batch_ids(self) -> frozenset[str]:
        """Those that nobody need wait for."""
        return self.landed_batch_ids.union(self.dropped)

    @property
    def batch_ids(self) -> tuple[str, ...]:
        """Every batch that was made for this submission, whether its answers are wanted or not."""
        return self.dropped + self.settled + tuple(part.batch_id for part in self.parts if part.batch_id)

    def with_part(self, part: Part) -> Ledger:
        """Add a part, or put it in the place of the one with its token."""
        if any(known.token == part.token for known in self.parts):
            parts = tuple(part if known.token == part.token else known for known in self.parts)
        else:
            parts = (*self.parts, part)
        return msgspec.structs.replace(self, parts=parts)

    def without_part(self, part: Part) -> Ledger:
        """Forget an intent that is known not to have become a batch."""
        return msgspec.structs.replace(self, parts=tuple(known for known in self.parts if known.token != part.token))

    def with_landed(self, batch_ids: Collection[str], ended_at: datetime | None) -> Ledger:
        """Mark the parts whose answers are in the landed results."""
        parts = tuple(
            msgspec.structs.replace(part, landed=True) if part.batch_id in batch_ids else part for part in self.parts
        )
        last = max((at for at in (self.ended_at, ended_at) if at is not None), default=None)
        return msgspec.structs.replace(self, parts=parts, ended_at=last)

    def without_batch(self, batch_id: str) -> Ledger:
        """Expect no answers of this batch any more; it stays in the list of batches."""
        parts = tuple(part for part in self.parts if part.batch_id != batch_id)
        return msgspec.structs.replace(self, parts=parts, dropped=(*self.dropped, batch_id))

    def settle(self) -> Ledger:
        """Keep only the batch ids of landed parts: their rows speak for themselves."""
        landed = tuple(part.batch_id for part in self.parts if part.landed and part.batch_id)
        rest = tuple(part for part in self.parts if not part.landed)
        return msgspec.structs.replace(self, parts=rest, settled=self.settled + landed)


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
        self._folder.clear_drafts(_PREFIX)

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


class Record:
    """A ledger and its store, kept the same: ``ledger`` is always what was last saved."""

    def __init__(self, store: LedgerStore, ledger: Ledger) -> None:
        self._store = store
        self.ledger = ledger

    @classmethod
    def take_over(cls, store: LedgerStore, ledger: Ledger) -> Record:
        """Make ``ledger.attempt`` the attempt of the submission; ``claim`` comes before."""
        save(store, ledger)
        record = cls(store, ledger)
        record.check_ownership()
        return record

    def save(self, ledger: Ledger) -> None:
        """Make a change durable; only then may it be acted upon.

        :raises SubmissionTakenOverError: also when that happened while it was written; it must not be acted upon.
        """
        self.check_ownership()
        save(self._store, ledger)
        self.ledger = ledger
        self.check_ownership()

    def check_ownership(self) -> None:
        """A zombie of an earlier attempt must not spend money beside its successor.

        :raises SubmissionTakenOverError: another attempt has the submission now.
        """
        try:
            current = load(self._store)
            if current is not None and current.attempt == self.ledger.attempt:
                return
        except SubmissionTakenOverError:
            pass
        raise SubmissionTakenOverError(
            "Another attempt of this task has taken the submission over, so this one stops. "
            f"Message batches known here: {', '.join(self.ledger.batch_ids) or 'none'}."
        )


def new_token() -> str:
    """A name for a part or an attempt that nothing else in the workspace has: 12 hexadecimal digits."""
    return secrets.token_hex(6)


def claim(store: LedgerStore) -> None:
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


def load(store: LedgerStore) -> Ledger | None:
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


def save(store: LedgerStore, ledger: Ledger) -> None:
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
