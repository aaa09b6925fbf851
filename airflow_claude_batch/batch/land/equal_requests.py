"""Choose the request that gets an answer, where several requests have the same content.

An answer belongs to the request that its custom_id names. If that has changed since it was sent, or has another answer
already, an equal request without an answer gets it: it was paid for.
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_claude_batch.batch.land.match_requests import RequestMatcher
from airflow_claude_batch.batch.land.row_table import RowTable
from airflow_claude_batch.batch.land.rows import ANSWERED, Status


class EqualRequests:
    """Chooses the request that gets an answer, and remembers which answers are at another one than they name."""

    def __init__(self, matcher: RequestMatcher, rows: RowTable) -> None:
        self._matcher = matcher
        self._rows = rows
        self._statuses = rows.statuses
        # Answers that are not at the request that their custom_id names, and the requests that have them.
        self._moved: dict[str, int] = {}
        self._taken_by_moved: set[int] = set()
        # The first of equal requests whose custom_ids were read from landed parts.
        self._read_ids_of: set[int] = set()

    def place(self, index: int | None, custom_id: str, status: Status) -> int | None:
        """Return the request for a result: the named one if that is free, else an equal one. None if there is none.

        :param index: of the request that the custom_id names. None if it names none.
        """
        if index is None or (self._statuses[index] and self._is_taken(index, custom_id, status)):
            return self._equal_index(custom_id, status)
        return index

    def _is_taken(self, index: int, custom_id: str, status: Status) -> bool:
        """Return whether the row of a request is another answer: one that was moved there, or the first of two."""
        if index in self._taken_by_moved:
            return True
        if status not in ANSWERED or self._statuses[index] not in ANSWERED:
            return False
        return self._rows.custom_id(index).lower() != custom_id.lower()

    def _equal_index(self, custom_id: str, status: Status) -> int | None:
        """Choose among requests with the same content: one without an answer, and the same one when it comes again."""
        if (index := self._moved.get(custom_id)) is not None:
            return index
        candidates = self._matcher.candidate_indices(custom_id)
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        self._read_restored_ids(candidates)
        if (index := self._moved.get(custom_id)) is not None:
            return index
        free = (index for index in candidates if self._statuses[index] not in ANSWERED)
        index = next(free, candidates[0])
        if status in ANSWERED:
            self._moved[custom_id] = index
            self._taken_by_moved.add(index)
        return index

    def _read_restored_ids(self, candidates: Sequence[int]) -> None:
        """Find the answers of landed parts that are not at the request that their custom_id names, once for these.

        Parts are restored without their rows being read. An answer that came again would be kept twice.
        """
        is_read = candidates[0] in self._read_ids_of
        self._read_ids_of.add(candidates[0])
        for index in candidates if not is_read else ():
            if self._statuses[index] in ANSWERED and not self._rows.pending[index]:
                custom_id = self._rows.custom_id(index)
                if self._matcher.exact_index(custom_id, "") != index:
                    self._moved.setdefault(custom_id, index)
                    self._taken_by_moved.add(index)
