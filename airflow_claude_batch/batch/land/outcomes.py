"""How each request of a submission has ended so far: status, model and stop reason, and their counts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

#: A stop reason is a byte in memory. The API has seven.
_MOST_STOP_REASONS: Final = 254

#: Number of requests with a status, a model and a stop reason. The last is empty without an answer.
OutcomeCounts = Counter[tuple[int, str | None, str]]
#: Yields place, model and stop reason of each row of a landed part.
Details = Callable[[], Iterable[tuple[int, str | None, str]]]


class Outcomes:
    """The outcome of each request. 4 bytes a request.

    Those of a landed part are added by its counts. Which row has which model is read only when somebody asks for it.

    Example::

        outcomes = Outcomes(count)
        outcomes.set(0, Status.SUCCEEDED, "claude-haiku-5-5", "end_turn")
        outcomes.counts[Status.SUCCEEDED, "claude-haiku-5-5", "end_turn"]  # 1

    ``statuses`` holds a :class:`~.rows.Status` for each request, and ``counts`` the outcomes of those with a result.
    """

    def __init__(self, count: int) -> None:
        self.statuses = bytearray(count)
        self.counts: OutcomeCounts = Counter()
        # Names are kept once; each request has their numbers.
        self._models: dict[str | None, int] = {None: 0}
        self._stop_reasons: dict[str, int] = {"": 0}
        self._model_numbers = array("H", bytes(2 * count))
        self._stop_reason_numbers = bytearray(count)
        self._unread: list[Details] = []

    def set(self, index: int, status: int, model: str | None, stop_reason: str) -> None:
        """Set the outcome of a request, in place of an earlier one.

        :param stop_reason: why the answer ended, empty if there is none.
        """
        stop_reason = self._known(stop_reason)
        if self.statuses[index]:
            self._forget(index)
        self.counts[status, model, stop_reason] += 1
        self.statuses[index] = status
        self._set_details(index, model, stop_reason)

    def add(self, first: int, statuses: bytes, counts: OutcomeCounts, details: Details) -> None:
        """Add the outcomes of a landed part. Where requests have one already, the part's takes its place.

        :param first: the request of the first status. A status of 0 is that of a request without a row in the part.
        """
        there = self.statuses[first : first + len(statuses)]
        if not any(there):
            self.statuses[first : first + len(statuses)] = statuses
            for (status, model, stop_reason), count in counts.items():
                self.counts[status, model, self._known(stop_reason)] += count
            self._unread.append(details)
            return
        for index, model, stop_reason in details():
            self.set(index, statuses[index - first], model, stop_reason)

    def copy(self, index: int, original: int) -> None:
        """Give a request the outcome of another one."""
        self._read_details()
        if self.statuses[original]:
            self.set(index, self.statuses[original], self.model(original), self.stop_reason(original))

    def model(self, index: int) -> str | None:
        """Return the model that answered a request, None if none did."""
        self._read_details()
        return list(self._models)[self._model_numbers[index]]

    def stop_reason(self, index: int) -> str:
        """Return why the answer to a request ended, empty if it has none."""
        self._read_details()
        return list(self._stop_reasons)[self._stop_reason_numbers[index]]

    def stop_reasons(self) -> dict[str, int]:
        """Count why the answers ended, the most frequent reason first."""
        found: Counter[str] = Counter()
        for (_, _, stop_reason), count in self.counts.items():
            found[stop_reason] += count
        return {name: count for name, count in found.most_common() if name and count}

    def _forget(self, index: int) -> None:
        outcome = self.statuses[index], self.model(index), self.stop_reason(index)
        self.counts[outcome] -= 1
        if not self.counts[outcome]:
            del self.counts[outcome]

    def _read_details(self) -> None:
        """Read which rows of the landed parts have which model and stop reason."""
        while self._unread:
            for index, model, stop_reason in self._unread.pop()():
                self._set_details(index, model, self._known(stop_reason))

    def _set_details(self, index: int, model: str | None, stop_reason: str) -> None:
        self._model_numbers[index] = self._models.setdefault(model, len(self._models))
        self._stop_reason_numbers[index] = self._stop_reasons.get(stop_reason, 0)

    def _known(self, stop_reason: str) -> str:
        """Give a stop reason its number, or none if there are too many of them."""
        if stop_reason not in self._stop_reasons:
            if len(self._stop_reasons) > _MOST_STOP_REASONS:
                return ""
            self._stop_reasons[stop_reason] = len(self._stop_reasons)
        return stop_reason
