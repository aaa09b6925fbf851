"""How each request of a submission has ended so far: status, model and stop reason, and their counts."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

#: Outcomes have numbers of two bytes. A submission has a dozen of them, unless the results are not the API's.
_MOST_OUTCOMES: Final = 65_000


class Outcome(NamedTuple):
    """How a request has ended.

    :ivar model: that answered, None if none did.
    :ivar stop_reason: why the answer ended, empty without an answer.
    """

    status: int
    model: str | None = None
    stop_reason: str = ""


_NONE: Final = Outcome(0)
#: Yields the index of the request and the outcome of each row of a landed part.
Details = Callable[[], Iterable[tuple[int, Outcome]]]


class Outcomes:
    """The outcome of each request. 3 bytes a request.

    Those of a landed part are added by their counts. Which row has which one is read only when somebody asks for it.

    Example::

        outcomes = Outcomes(count)
        outcomes.set(0, Status.SUCCEEDED, "claude-haiku-5-5", "end_turn")
        outcomes.counts()  # {Outcome(status=1, model='claude-haiku-5-5', stop_reason='end_turn'): 1}

    ``statuses`` holds a :class:`~.rows.Status` for each request.
    """

    def __init__(self, count: int) -> None:
        self.statuses = bytearray(count)
        self._numbers: dict[tuple[int, str | None, str], int] = {_NONE: 0}
        self._outcomes = [_NONE]
        self._counts = [count]
        self._of_request = array("H", bytes(2 * count))
        self._unread: list[Details] = []

    def __getitem__(self, index: int) -> Outcome:
        """Return the outcome of a request. Its status is 0 if it has none yet."""
        return self._outcomes[self._number_of(index)]

    def set(self, index: int, status: int, model: str | None, stop_reason: str) -> None:
        """Set the outcome of a request, in place of an earlier one. The fields are those of :class:`Outcome`."""
        number = self._number(status, model, stop_reason)
        self._counts[self._number_of(index) if self.statuses[index] else 0] -= 1
        self._counts[number] += 1
        self._of_request[index] = number
        self.statuses[index] = status

    def add(self, first: int, statuses: bytes, counts: Mapping[Outcome, int], details: Details) -> None:
        """Add the outcomes of a landed part. Where requests have one already, the part's takes its place.

        :param first: index of the request that the first status belongs to.
        :param statuses: 0 stands for a request without a row in the part.
        """
        end = first + len(statuses)
        if any(self.statuses[first:end]):
            for index, outcome in details():
                self.set(index, *outcome)
            return
        self.statuses[first:end] = statuses
        for outcome, count in counts.items():
            self._counts[self._number(*outcome)] += count
            self._counts[0] -= count
        self._unread.append(details)

    def counts(self) -> dict[Outcome, int]:
        """Count the outcomes of the requests that have one."""
        counted = zip(self._outcomes, self._counts, strict=True)
        return {outcome: count for outcome, count in counted if count and outcome.status}

    def stop_reasons(self) -> dict[str, int]:
        """Count why the answers ended, the most frequent reason first."""
        found: Counter[str] = Counter()
        for outcome, count in self.counts().items():
            found[outcome.stop_reason] += count
        return {reason: found[reason] for reason in sorted(found, key=lambda name: (-found[name], name)) if reason}

    def _number_of(self, index: int) -> int:
        if self.statuses[index] and not self._of_request[index]:  # it is in a landed part
            self._read_details()
        return self._of_request[index]

    def _number(self, status: int, model: str | None, stop_reason: str) -> int:
        if (number := self._numbers.get((status, model, stop_reason))) is None:
            if len(self._outcomes) > _MOST_OUTCOMES:
                stop_reason = ""
            outcome = Outcome(status, model, stop_reason)
            number = self._numbers.setdefault(outcome, len(self._outcomes))
            if number == len(self._outcomes):
                self._outcomes.append(outcome)
                self._counts.append(0)
        return number

    def _read_details(self) -> None:
        """Read which rows of the landed parts have which outcome. They are counted already."""
        while self._unread:
            for index, outcome in self._unread.pop()():
                self._of_request[index] = self._number(*outcome)
