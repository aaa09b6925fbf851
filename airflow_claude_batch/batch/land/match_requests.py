"""Find the request that a result line answers, by its ``custom_id``."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from airflow_claude_batch.batch.input.custom_id import CustomId, parse_custom_id
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.land.landed_part import NO_HASH

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.validate_output import OutputValidator

#: One of our custom_ids, whose hash may be cut.
_DAMAGED_ID: Final = re.compile(rb"\b([0-9a-f]{12})-([0-9]{1,10})-([A-Za-z0-9_-]{0,22})")


class RequestMatcher(Protocol):
    """Finds the request that an answer belongs to. Requests are named by their index in the input."""

    def __len__(self) -> int:
        """Count the requests."""

    @property
    def digest(self) -> str | None:
        """Identifies all requests: their keys, contents and order. None if they are not ours."""

    def exact_index(self, custom_id: str, batch_id: str) -> int | None:
        """Return the request that the custom_id names, None if it names none, or one that has changed since."""

    def candidate_indices(self, custom_id: str) -> Sequence[int]:
        """Return every request with the content that the custom_id names, in order; empty if there is none.

        For an answer without an exact index, or if that request has another answer already.
        """

    def has(self, custom_id: str, batch_id: str) -> bool:
        """Tell whether the custom_id names a request."""

    def find_damaged(self, raw: bytes) -> str | None:
        """Return the custom_id of the request that the bytes of a damaged line name, None if they name none."""

    def name_line(self) -> str | None:
        """Return a custom_id for a line that names no request, None if each line belongs to a request."""

    def custom_id(self, index: int, token: str) -> str:
        """Return the custom_id under which the part with this token has sent a request."""

    def may_name(self, custom_id: str) -> bool:
        """Return whether a custom_id without a request may be a row of the batch, and not a stranger's."""

    @property
    def duplicates(self) -> Mapping[int, int]:
        """Requests that were not sent, each with the equal request whose answer it shares."""

    def key(self, index: int) -> bytes:
        """Return the author's key as JSON."""

    def kept(self, index: int) -> bytes:
        """Return the kept columns of a request as a JSON object, empty if there are none."""

    @property
    def kept_types(self) -> Mapping[str, str]:
        """The kept columns and what their values are, empty if there are none."""

    def hash(self, index: int) -> bytes:
        """Return the content hash of a request, :data:`~.landed_part.NO_HASH` if its content is not known."""

    def model(self, index: int) -> str | None:
        """Return the model that the request asks, None if that is not known."""

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        """Return what checks the answer against an output schema, None if the answer may be any text."""

    def asks_for_cache(self) -> bool:
        """Tell whether the first requests ask for the prompt cache."""


class SubmissionMatcher:
    """Matches answers with the requests of a submission.

    A custom_id carries the request's index and a hash of its content. If the request at that index still has that
    content, the answer is its own. If not, the input has changed since the request was sent: then the answer belongs
    to a request with the same content, wherever that is now. Keys play no part in it.
    """

    def __init__(self, requests: RequestFile, validator: OutputValidator | None = None) -> None:
        self.requests = requests
        self._count = len(requests)
        self._validator = validator
        self._kept = requests.kept
        self.duplicates = requests.duplicates

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> str:
        return self.requests.digest

    def key(self, index: int) -> bytes:
        return self.requests.key(index)

    def kept(self, index: int) -> bytes:
        return self._kept.of(index) if self._kept is not None else b""

    @property
    def kept_types(self) -> Mapping[str, str]:
        return {} if self._kept is None else self._kept.types

    def hash(self, index: int) -> bytes:
        return self.requests.hash(index)

    def model(self, index: int) -> str:
        return self.requests.model(index)

    def exact_index(self, custom_id: str, batch_id: str) -> int | None:
        ours = parse_custom_id(custom_id)
        if ours is None:
            return None
        if not self.requests.has_hash(ours.index, ours.hash) and not self._has_folded_hash(ours):
            return None
        return self.duplicates.get(ours.index, ours.index)

    def may_name(self, custom_id: str) -> bool:
        return parse_custom_id(custom_id) is not None

    def candidate_indices(self, custom_id: str) -> Sequence[int]:
        ours = parse_custom_id(custom_id)
        if ours is None:
            return ()
        order, hash_of = self._indices_by_hash, self.requests.hash
        first = bisect_left(order, ours.hash, key=hash_of)
        if found := order[first : bisect_right(order, ours.hash, first, key=hash_of)]:
            return found
        return self._indices_by_folded_hash.get(ours.hash.lower(), ()) if _is_folded(ours.hash) else ()

    def has(self, custom_id: str, batch_id: str) -> bool:
        return self.exact_index(custom_id, batch_id) is not None or bool(self.candidate_indices(custom_id))

    def find_damaged(self, raw: bytes) -> str | None:
        for found in _DAMAGED_ID.finditer(raw):
            token, number, hash_ = (group.decode() for group in found.groups())
            if (index := int(number)) < self._count:
                custom_id = self.requests.custom_id(index, token)
                if custom_id.startswith(f"{token}-{index}-{hash_}"):
                    return custom_id
        return None

    def name_line(self) -> None:
        """Return None: each line belongs to a request."""

    def custom_id(self, index: int, token: str) -> str:
        return self.requests.custom_id(index, token)

    def validator(self, custom_id: str, batch_id: str) -> OutputValidator | None:
        if self._validator is None:
            return None
        if (index := self.exact_index(custom_id, batch_id)) is None:
            if not (candidates := self.candidate_indices(custom_id)):
                return None
            index = candidates[0]
        # A request may have had an output_config.format of its own.
        return self._validator if self._validator.is_asked_for(self.requests.output_config(index)) else None

    def asks_for_cache(self) -> bool:
        return self.requests.asks_for_cache

    def _has_folded_hash(self, ours: CustomId) -> bool:
        """Return whether the hash is the request's but for its case, which a gateway may have changed."""
        return ours.index < self._count and self.requests.hash(ours.index).lower() == ours.hash.lower()

    @cached_property
    def _indices_by_folded_hash(self) -> Mapping[bytes, Sequence[int]]:
        """The requests that are sent, by their hash in lower case. Made when the first changed custom_id comes."""
        found: dict[bytes, list[int]] = {}
        for index in sorted(self._indices_by_hash):
            found.setdefault(self.requests.hash(index).lower(), []).append(index)
        return found

    @cached_property
    def _indices_by_hash(self) -> Sequence[int]:
        """The requests that are sent, sorted by content hash.

        Made when the first answer to an earlier input comes: most submissions have none. Four bytes a request.
        """
        sent = (index for index in range(self._count) if index not in self.duplicates)
        return array("I", sorted(sent, key=self.requests.hash))


def _is_folded(hash_: bytes) -> bool:
    """Return whether a hash is in one case. By chance, one of ours in a million is."""
    return hash_ in (hash_.lower(), hash_.upper())


class ExternalMatcher:
    """Matches the answers of batches made elsewhere: their requests are numbered in the order of arrival.

    The custom_ids are the keys. A custom_id is unique within its batch only.
    """

    def __init__(self, request_count: int) -> None:
        self._count = request_count
        self.duplicates: Mapping[int, int] = {}
        self._indices: dict[tuple[str, str], int] = {}
        self._keys: list[str] = []
        self._unnamed = 0

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> None:
        """Return None: what was sent elsewhere is not known here."""

    def exact_index(self, custom_id: str, batch_id: str) -> int | None:
        """Return the index of the custom_id in this batch; a new one gets the next index while there is one."""
        name = (batch_id, custom_id)
        if (index := self._indices.get(name)) is None:
            if len(self._keys) == self._count:
                return None
            index = self._indices[name] = len(self._keys)
            self._keys.append(custom_id)
        return index

    def may_name(self, custom_id: str) -> bool:
        return True

    def candidate_indices(self, custom_id: str) -> Sequence[int]:
        return ()

    def has(self, custom_id: str, batch_id: str) -> bool:
        """Return True: what was sent elsewhere is not known here."""
        return True

    def find_damaged(self, raw: bytes) -> None:
        """Return None: what was sent elsewhere is not known here."""

    def name_line(self) -> str:
        """Return a new name, so that the line gets a row of its own."""
        self._unnamed += 1
        return f"(unreadable line {self._unnamed})"

    def custom_id(self, index: int, token: str) -> str:
        return self._keys[index] if index < len(self._keys) else f"(request {index})"

    def key(self, index: int) -> bytes:
        return msgspec.json.encode(self._keys[index] if index < len(self._keys) else None)

    def kept(self, index: int) -> bytes:
        """Return nothing: batches made elsewhere have no source rows."""
        return b""

    @property
    def kept_types(self) -> Mapping[str, str]:
        return {}

    def hash(self, index: int) -> bytes:
        return NO_HASH

    def model(self, index: int) -> None:
        """Return None: what was asked elsewhere is not known here."""

    def validator(self, custom_id: str, batch_id: str) -> None:
        """Return None: what was asked elsewhere is not known here."""

    def asks_for_cache(self) -> bool:
        return False
