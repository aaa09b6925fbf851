"""Erasures: answers that must not be found any more, even where copies of them are left.

To erase is to write a small file that names what is erased, and then to write the segments anew without it. The file is
what counts: from then on no look-up returns those answers and no merge keeps them. So neither a crash before the
segments are written anew, nor a merge that began before, nor a retry that adds old results again, brings them back.

``erased-<digest of its bytes>.json`` holds an :class:`Erasure`. The keys of rows are in it as salted hashes, because
they may be personal data. An erasure is kept for 60 days. A file that cannot be read makes the whole store count as
empty, because nobody knows what it names.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import msgspec

from airflow_claude_batch.batch import storage
from airflow_claude_batch.batch.input.canonical_json import canonical
from airflow_claude_batch.batch.reuse.segment import REST, Entry, Segment, SegmentGoneError
from airflow_claude_batch.batch.reuse.stored_answer import microseconds
from airflow_claude_batch.batch.storage import Folder

_VERSION: Final = 1
_PREFIX: Final = "erased-"
_SUFFIX: Final = ".json"
#: The API's clock dates answers, and a worker's clock dates erasures. An answer of this time after an erasure counts
#: as one before it.
_CLOCK_SKEW: Final = timedelta(minutes=10)
#: A submission's answers stay at the API for 29 days, so a retry may add them again for about as long.
KEPT: Final = timedelta(days=60)


class Erasure(msgspec.Struct, frozen=True, kw_only=True):
    """What one call erased.

    :ivar at: microseconds from 1970 to the last answer that is concerned. What is paid for later counts again.
    :ivar salt: of the hashes.
    :ivar keys: hashes of the keys of rows, hexadecimal.
    :ivar submissions: ids of submissions.
    :ivar before: microseconds from 1970. All older answers are erased.
    """

    version: int = _VERSION
    at: int
    salt: str = ""
    keys: list[str] = []
    submissions: list[str] = []
    before: int = 0

    @classmethod
    def of_keys(cls, keys: Iterable[bytes], submissions: Iterable[str], now: datetime) -> Erasure:
        """Name rows by their keys, as JSON, and submissions by their ids."""
        salt = secrets.token_hex(16)
        hashes = sorted({_hash(salt, key) for key in keys})
        return cls(at=microseconds(now + _CLOCK_SKEW), salt=salt, keys=hashes, submissions=sorted({*submissions}))

    @classmethod
    def of_age(cls, before: datetime, now: datetime) -> Erasure:
        """Name all answers that are older than a time."""
        return cls(at=microseconds(now), before=microseconds(before))


class Erasures:
    """All erasures of a folder.

    :ivar names: of their files.
    :ivar least: microseconds from 1970. All older answers are erased.
    """

    def __init__(self, erasures: Mapping[str, Erasure]) -> None:
        self.names = sorted(erasures)
        self.least = max((erasure.before for erasure in erasures.values()), default=0)
        self._by_name = erasures
        self._by_key = [(erasure, frozenset(erasure.keys)) for erasure in erasures.values() if erasure.keys]
        self._submissions: dict[str, int] = {}
        for erasure in erasures.values():
            for submission in erasure.submissions:
                self._submissions[submission] = max(erasure.at, self._submissions.get(submission, 0))

    @property
    def names_answers(self) -> bool:
        """Whether answers are erased for another reason than their age."""
        return bool(self._by_key or self._submissions)

    @classmethod
    def read(cls, folder: Folder, names: Iterable[str]) -> Erasures:
        """Read the erasures among the files of a folder.

        :raises OSError: one cannot be read.
        :raises SegmentGoneError: one is not there any more.
        """
        return cls({name: _read(folder, name) for name in names if is_erasure(name)})

    def erases(self, key: bytes, submission: str, answered_at: int) -> bool:
        """Return whether an answer is erased.

        :param key: the key of its row as JSON.
        """
        if answered_at < self.least or answered_at <= self._submissions.get(submission, -1):
            return True
        return any(answered_at <= erasure.at and _hash(erasure.salt, key) in hashes for erasure, hashes in self._by_key)

    def keep(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries that are not erased."""
        return (entry for entry in entries if not self.erases(entry.key, entry.submission, entry.answered_at))

    def concern(self, segment: Segment) -> bool:
        """Return whether a segment has an answer that is erased. It reads the lines only where keys are erased.

        :raises OSError: the storage cannot be read.
        :raises DamagedSegmentError: its index is damaged.
        :raises SegmentGoneError: it is not there any more.
        """
        content = segment.content
        if content.oldest < self.least or self._concern_submissions(segment):
            return True
        if all(erasure.at < content.oldest for erasure, _ in self._by_key):
            return False
        # A line that is left out because it is damaged may be one that is erased.
        return sum(1 for _ in self.keep(segment.entries())) < segment.count

    def _concern_submissions(self, segment: Segment) -> bool:
        submissions = segment.content.submissions
        latest = {number: self._submissions[id_] for number, id_ in enumerate(submissions) if id_ in self._submissions}
        return bool(latest) and any(
            time <= latest.get(number, -1)
            for block in segment.blocks(1)
            for _, time, *_, number, _ in REST.iter_unpack(block.joined("rest"))
        )

    def outdated(self, now: datetime) -> list[str]:
        """Return the names of the erasures that need not be kept: old ones, and those that another one includes."""
        least = microseconds(now - KEPT)
        return [name for name, erasure in self._by_name.items() if erasure.at < least or self._is_included(name)]

    def _is_included(self, name: str) -> bool:
        erasure = self._by_name[name]
        if erasure.keys or erasure.submissions:
            return False
        others = [(other.before, other_name) for other_name, other in self._by_name.items() if other.before]
        return max(others, default=(0, name)) > (erasure.before, name)


NOTHING: Final = Erasures({})


def write(folder: Folder, erasure: Erasure) -> str:
    """Write an erasure. From then on it counts. Return the name of the file.

    :raises OSError: the storage cannot be written.
    """
    data = msgspec.json.encode(erasure)
    name = _name_of(data)
    storage.write(folder, name, data)
    return name


def is_erasure(name: str) -> bool:
    """Return whether a file of this name is an erasure."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def added_since(folder: Folder, known: Sequence[str]) -> bool:
    """Return whether the folder has an erasure that is not known.

    :raises OSError: the folder cannot be listed.
    """
    return any(is_erasure(name) and name not in known for name in folder.names())


def _read(folder: Folder, name: str) -> Erasure:
    data = storage.read(folder, name)
    if data is None:
        raise SegmentGoneError(folder.uri(name))
    try:
        erasure = msgspec.json.decode(data, type=Erasure)
    except (msgspec.MsgspecError, ValueError):
        raise OSError(f"{folder.uri(name)} is damaged: what was erased is not known") from None
    if _name_of(data) != name or erasure.version != _VERSION:
        raise OSError(f"{folder.uri(name)} is damaged, or of a later version: what was erased is not known")
    return erasure


def _name_of(data: bytes) -> str:
    return f"{_PREFIX}{hashlib.blake2b(data, digest_size=16).hexdigest()}{_SUFFIX}"


def _hash(salt: str, key: bytes) -> str:
    return hashlib.blake2b(canonical(key), digest_size=16, key=salt.encode()).hexdigest()
