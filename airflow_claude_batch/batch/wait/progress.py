"""Say how far the message batches of a task have come: what has ended, what runs for how long, and what is usual."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pendulum import duration

from airflow_claude_batch.batch.money.expectation import RunTime
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.batch.wait.history import History
from airflow_claude_batch.batch.wait.wait_result import BatchState

_HOUR: Final = 3600.0

#: How long earlier batches took: the shortest and the longest time in seconds, and how many batches they were.
Usual = tuple[float, float, int]


@dataclass(frozen=True, slots=True)
class Known:
    """What a task knows besides the batches that it waits for now.

    :param ended_batches: how many batches of the submission have ended before, and their requests.
    :param usual: how long earlier batches took.
    """

    ended_batches: int = 0
    ended_requests: int = 0
    usual: Usual | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, for the trigger's arguments. Empty if there is nothing to say."""
        values = {"ended_batches": self.ended_batches, "ended_requests": self.ended_requests}
        found: dict[str, Any] = {name: value for name, value in values.items() if value}
        return found | ({"usual": list(self.usual)} if self.usual else {})

    @classmethod
    def from_dict(cls, value: Any) -> Known:
        """Read the arguments of a trigger, of any version. What is not understood is left out."""
        value = value if isinstance(value, Mapping) else {}
        counts = [value.get(name) for name in ("ended_batches", "ended_requests")]
        batches, requests = (count if isinstance(count, int) and count > 0 else 0 for count in counts)
        return cls(batches, requests, _usual(value.get("usual")))


def _usual(value: Any) -> Usual | None:
    numbers = value if isinstance(value, list | tuple) else ()
    if len(numbers) != 3 or not all(isinstance(number, int | float) and number > 0 for number in numbers):
        return None
    return float(numbers[0]), float(numbers[1]), int(numbers[2])


def usual_of(history: History) -> Usual | None:
    """Return what ``Known`` says of a history."""
    return (history.shortest, history.longest, len(history.seconds)) if history.seconds else None


def in_words(seconds: float) -> str:
    """Return a duration as people say it, such as "12 minutes 30 seconds"."""
    return duration(seconds=max(1, round(seconds))).in_words()


def usual_in_words(usual: Usual | None) -> str:
    """Return a sentence about the usual duration, empty if it is not known."""
    if usual is None:
        return ""
    shortest, longest, count = usual
    what = "message batch" if count == 1 else f"{count} message batches"
    return f"The last {what} of this task took {_range_in_words(shortest, longest)}."


def run_time_in_words(usual: RunTime | None) -> str:
    """Return a sentence about how long earlier runs took, empty if that is not known."""
    if usual is None:
        return ""
    what = "run" if usual.runs == 1 else f"{usual.runs} runs"
    return f"The last {what} took {_range_in_words(usual.shortest, usual.longest)}, from sending to the last answer."


def _range_in_words(shortest: float, longest: float) -> str:
    least, most = _rounded(shortest), _rounded(longest)
    return most if least == most else f"{least} to {most}"


def _rounded(seconds: float) -> str:
    """Return a duration in words, in seconds below two minutes, then in minutes, and above five hours in hours."""
    unit = 1.0 if seconds < 120 else 60.0 if seconds < 5 * _HOUR else _HOUR
    return in_words(round(seconds / unit) * unit)


def progress(
    known: Known,
    ended: Iterable[BatchState],
    open_: Mapping[str, BatchState | None],
    created_at: datetime | None,
    now: datetime,
) -> str:
    """Return the line that says once an hour how far the batches have come.

    :param ended: the batches that have ended since the wait began.
    :param open_: those that run, by id, as they were last seen.
    :param created_at: when the oldest of them was created, None if unknown.
    """
    ended = list(ended)
    sentences = [
        _ended_in_words(known, ended, list(open_.values())),
        _open_in_words(open_.keys(), created_at, now),
        usual_in_words(known.usual),
    ]
    return " ".join(filter(None, sentences))


def _ended_in_words(known: Known, ended: Collection[BatchState], open_: Collection[BatchState | None]) -> str:
    """Say how many batches have ended, and how many requests. The API counts requests once their batch has ended."""
    batches = known.ended_batches + len(ended)
    done = known.ended_requests + sum(_total(state) for state in ended)
    done += sum(_total(state) - state.request_counts.get("processing", 0) for state in open_ if state)
    if not batches and not done:
        return ""
    total = known.ended_requests + sum(_total(state) for state in (*ended, *open_) if state)
    requests = f"{done:,} of {quantity(total, 'request')}" if None not in open_ else quantity(done, "request")
    if not batches:
        return f"{requests} {'has' if total == 1 else 'have'} ended."
    of_all = quantity(batches + len(open_), "message batch")
    return f"{batches:,} of {of_all} {'has' if batches == 1 else 'have'} ended{f', with {requests}' if done else ''}."


def _total(state: BatchState) -> int:
    return sum(state.request_counts.values())


def _open_in_words(batch_ids: Collection[str], created_at: datetime | None, now: datetime) -> str:
    is_one = len(batch_ids) == 1
    subject = f"Message batch {next(iter(batch_ids))} is" if is_one else f"{len(batch_ids):,} message batches are"
    if created_at is None:
        return f"{subject} not seen to have ended yet."
    age = in_words((now - created_at).total_seconds())
    if is_one:
        return f"{subject} still in progress, {age} after it was created."
    return f"{subject} still in progress, the oldest for {age}."
