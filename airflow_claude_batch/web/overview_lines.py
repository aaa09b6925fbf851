"""The lines of the overview: one for each submission, with all of its task instances. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch._airflow.snapshot_values import Durations, Values, plausible_time, values_of
from airflow_claude_batch._airflow.states import Standing, State, is_open, standing_of
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.land.snapshot import Snapshot
from airflow_claude_batch.web.templating import range_in_words, span_in_words

#: Longer texts of snapshots are cut.
MAX_TEXT: Final = 300


@dataclass(frozen=True, slots=True)
class Line:
    """A submission as the overview shows it.

    :param tasks: its task instances: the one that has changed last first, which also has what is shown.
    :param is_sensor: the task that has changed last waits for what another task has sent.
    :param took: from the first batch to the last answer, and while it runs, to now. None if that is not known.
    :param failure: the error, for those who may read the task's XComs.
    :param left: the time left, in words. Empty if that is not known, or nothing runs.
    """

    tasks: Sequence[TaskKey]
    is_sensor: bool
    standing: Standing
    values: Values
    changed_at: datetime
    took: timedelta | None
    left: str
    failure: str

    @property
    def key(self) -> TaskKey:
        return self.tasks[0]

    @property
    def state(self) -> State:
        return self.standing.state

    @property
    def models(self) -> list[str]:
        return [model.name for model in self.values.models]

    @property
    def task_names(self) -> str:
        """The names of its tasks, the one that has sent first."""
        return ", ".join(_task_name(key) for key in reversed(self.tasks))


def lines_of(found: Iterable[FoundSubmission], now: datetime) -> list[Line]:
    """Return a line for each submission, those that have changed last first.

    The operator's and the sensor's task instance have the same submission. They are put together if they are in the
    same DAG run: anybody who may write an XCom can write any ``submission_id``.
    """
    groups: dict[tuple[object, ...], list[FoundSubmission]] = {}
    for each in sorted(found, key=lambda each: each.pushed_at, reverse=True):
        groups.setdefault(_group_of(each), []).append(each)
    return [_line(group, now) for group in groups.values()]


def is_half(line: Line) -> bool:
    """Return True if the operator's or the sensor's task instance of the submission is missing."""
    return len(line.tasks) == 1 and (line.is_sensor or line.state is State.SENT)


def time_left(age: timedelta, usual: Durations | None, end: datetime | None, now: datetime) -> str:
    """Say how long message batches may still take, by what is usual. Their real progress is not known.

    >>> time_left(timedelta(minutes=10), Durations(timedelta(minutes=12), timedelta(minutes=40), 5), None, now)
    '2 to 30 min left'

    :param end: when the API ends them at the latest.
    """
    if usual is not None and age < usual.longest:
        least, most = (max(time - age, timedelta()) for time in (usual.shortest, usual.longest))
        return f"{range_in_words(least, most)} left" if least else f"up to {span_in_words(most)} left"
    words = "longer than usual" if usual is not None else ""
    latest = f"at most {span_in_words(end - now)} left" if end is not None and end > now else ""
    return ", ".join(filter(None, (words, latest)))


def _took(standing: Standing, values: Values, changed_at: datetime, now: datetime) -> timedelta | None:
    begun_at, ended_at = values.created_at, values.ended_at
    if standing.is_live or standing.state is State.STOPPED:
        begun_at, ended_at = begun_at or changed_at, now
    return max(ended_at - begun_at, timedelta()) if begun_at and ended_at else None


def _group_of(found: FoundSubmission) -> tuple[object, ...]:
    key, snapshot = found.key, found.snapshot
    if snapshot is None:
        return (key,)
    return key.dag_id, key.run_id, snapshot.submission_id


def _line(group: Sequence[FoundSubmission], now: datetime) -> Line:
    newest = group[0]
    values = _values(group)
    standing = standing_of(newest.snapshot, newest.manifest, newest.state, now)
    return Line(
        tasks=[each.key for each in group],
        is_sensor=_is_sensor(newest),
        standing=standing,
        values=values,
        changed_at=newest.pushed_at,
        took=_took(standing, values, newest.pushed_at, now),
        left=_left(newest.snapshot, values, now) if standing.is_live and standing.open_batches else "",
        failure=_text(newest.snapshot.failure) if newest.snapshot else "",
    )


def _is_sensor(found: FoundSubmission) -> bool:
    place = None if found.snapshot is None else found.snapshot.place
    return place is not None and place.task_id != found.key.task_id


def _values(group: Sequence[FoundSubmission]) -> Values:
    """Return the figures of the task instance that has changed last, with the estimate of the one that has sent."""
    first, *others = (values_of(each.snapshot, each.manifest) for each in group)
    for other in others:
        first = first.completed_by(other)
    return first


def _left(snapshot: Snapshot | None, values: Values, now: datetime) -> str:
    """Return the time left of the oldest message batch that runs."""
    running = [part for part in snapshot.parts if is_open(part, now)] if snapshot else []
    begun = [at for part in running if (at := plausible_time(part.created_at)) is not None]
    ends = [at for part in running if (at := plausible_time(part.expires_at)) is not None]
    oldest = min(begun, default=values.created_at)
    if oldest is None:
        return ""
    return time_left(now - oldest, values.usual, max(ends, default=None), now)


def _task_name(key: TaskKey) -> str:
    return key.task_id if key.map_index < 0 else f"{key.task_id}[{key.map_index}]"


def _text(text: str | None) -> str:
    return "" if text is None else text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
