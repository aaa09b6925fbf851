"""Where each result belongs: under which request an answer is landed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.input.request_file import RequestFile

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.validate_output import OutputValidator

#: Within a string of JSON a quotation mark is escaped, so that no text looks like this.
CACHE_MARK: Final = b'"cache_control":'
#: The requests in which it is looked for: a mark that only some of the later ones have is not what a cache is for.
_LOOKED_AT: Final = 20


class RequestMatcher(Protocol):
    """Where each result belongs."""

    def __len__(self) -> int: ...

    def candidate_indices(self, custom_id: str, batch_id: str) -> Sequence[int]:
        """The requests that an answer under this custom_id serves, the best first; none for a stranger's."""

    def exact_index(self, custom_id: str) -> int | None:
        """The request that asks under this custom_id, and in its batch under no other; None if that is not known."""

    #: Whether answers have come whose requests stand elsewhere now, so that :meth:`candidate_indices` must be asked.
    have_moved: bool

    @property
    def duplicates(self) -> Mapping[int, int]:
        """Requests that were not sent, with the ones whose answers are theirs too."""

    def keys(self) -> Iterator[bytes]:
        """The users' keys as JSON, in order."""

    def model(self, index: int) -> str | None:
        """Which model the request asks, None if that is not known."""

    @property
    def takes_any_text(self) -> bool:
        """Whether there is no answer that must satisfy anything."""

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        """What an answer under this custom_id must satisfy, None if it may be any text."""

    def is_caching(self) -> bool:
        """Whether the first requests ask for the prompt cache."""


class SubmissionMatcher:
    """The places of a submission's own requests.

    An answer belongs to the request at its index while that has the same content. If it has not, the input has
    changed since the answer was asked for: then it belongs wherever a request with its content stands now.
    """

    def __init__(self, requests: RequestFile, validator: OutputValidator | None = None) -> None:
        self._requests = requests
        self._count = len(requests)
        self._validator = validator
        self.duplicates = requests.duplicates
        self.have_moved = False
        self._by_hash: dict[bytes, list[int]] = {}

    def __len__(self) -> int:
        return self._count

    def keys(self) -> Iterator[bytes]:
        return self._requests.keys()

    def model(self, index: int) -> str:
        return self._requests.model(index)

    def candidate_indices(self, custom_id: str, batch_id: str) -> Sequence[int]:
        ours = parse_custom_id(custom_id)
        if ours is None:
            return ()
        exact = self._requests.has_hash(ours.index, ours.hash)
        own = self.duplicates.get(ours.index, ours.index)
        if exact and not self.have_moved:
            return (own,)
        same = self._same(ours.hash)
        return (own, *(index for index in same if index != own)) if exact else same

    def exact_index(self, custom_id: str) -> int | None:
        if (ours := parse_custom_id(custom_id)) is None or not self._requests.has_hash(ours.index, ours.hash):
            return None
        return None if self.duplicates else ours.index

    @property
    def takes_any_text(self) -> bool:
        return self._validator is None

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        """The submission's, if the request asked for its schema: it may have had a format of its own."""
        if self._validator is None or not (candidate_indices := self.candidate_indices(custom_id, batch_id)):
            return None
        return self._validator if self._validator.is_asked_for(self._requests.params(candidate_indices[0])) else None

    def is_caching(self) -> bool:
        return any(CACHE_MARK in self._requests.params(index) for index in range(min(len(self), _LOOKED_AT)))

    def _same(self, hash_: bytes) -> Sequence[int]:
        """Every request with this content; the table is built when the first answer is out of place."""
        if not self.have_moved:
            self.have_moved = True
            for index in range(len(self)):
                if index in self.duplicates:
                    continue
                self._by_hash.setdefault(self._requests.hash(index), []).append(index)
        return self._by_hash.get(hash_, ())


class ExternalMatcher:
    """Batches that were made elsewhere: their custom_ids are the keys, their order is that of arrival.

    A custom_id is unique in its batch only.
    """

    def __init__(self, request_count: int) -> None:
        self._count = request_count
        self.duplicates: Mapping[int, int] = {}
        self.have_moved = False
        self._index: dict[tuple[str, str], int] = {}
        self._keys: list[str] = []

    def __len__(self) -> int:
        return self._count

    def candidate_indices(self, custom_id: str, batch_id: str) -> Sequence[int]:
        name = (batch_id, custom_id)
        if name not in self._index:
            if len(self._keys) == self._count:
                return ()
            self._index[name] = len(self._keys)
            self._keys.append(custom_id)
        return (self._index[name],)

    def exact_index(self, custom_id: str) -> None:
        """It depends on the batch."""

    @property
    def takes_any_text(self) -> bool:
        return True

    def keys(self) -> Iterator[bytes]:
        for index in range(self._count):
            yield msgspec.json.encode(self._keys[index] if index < len(self._keys) else None)

    def model(self, index: int) -> None:
        """Only answers tell."""

    def validator(self, custom_id: str, batch_id: str) -> None:
        """What was asked for elsewhere is not known here."""

    def is_caching(self) -> bool:
        return False
