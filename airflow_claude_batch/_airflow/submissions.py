"""Find submissions in Airflow's database: for the page in Airflow's UI and for the command line.

Each task instance that works on a submission has pushed a snapshot of it to XCom. Versions before snapshots have left
only their manifest, which is read instead.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any, Final

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import (
    REGIONS_SUPPORTED,
    Select,
    Session,
    String,
    TaskInstance,
    XComModel,
    and_,
    cast,
    or_,
    select,
    tuple_,
)
from airflow_claude_batch._airflow.snapshots import SNAPSHOT_KEY
from airflow_claude_batch._airflow.task_rows import (
    TaskKey,
    is_of_task,
    is_task,
    key_columns,
    key_of_row,
)
from airflow_claude_batch.batch.land.manifest import Manifest, read_manifest
from airflow_claude_batch.batch.land.snapshot import Snapshot, read_snapshot

log = logging.getLogger(__name__)

#: How many tasks of a run are looked at for others of the same submission.
_MOST_BESIDE: Final = 200
_RETURN_KEY: Final = "return_value"
#: Names under which Airflow stores the package's tasks.
OPERATORS: Final = (
    "SendMessageBatchOperator",
    "MessageBatchSensor",
    "@task.claude_batch",
    "ClaudeBatchDecoratedOperator",
)
#: How many are in memory while all are read.
_ROWS_AT_ONCE: Final = 200
_XCOM_COLUMNS: Final[tuple[Any, ...]] = (
    XComModel.key,
    XComModel.value,
    XComModel.timestamp,
)


@dataclass(frozen=True, slots=True)
class FoundSubmission:
    """A task instance that works, or has worked, on a submission.

    :param state: the task instance's state in Airflow, None if it was just cleared.
    :param pushed_at: when Airflow's database got what is known.
    :param snapshot: None if a version before snapshots has run the task.
    :param manifest: the task's output, if it has succeeded. It is left out of overviews if there is a snapshot.
    :param task_instance_id: Airflow's id of the current try.
    """

    key: TaskKey
    state: str | None
    try_number: int
    pushed_at: datetime
    snapshot: Snapshot | None
    manifest: Manifest | None
    task_instance_id: str = ""


def find_submissions(
    session: Session,
    *,
    dag_ids: Collection[str] | None = None,
    day: date | None = None,
    limit: int,
    before: datetime | None = None,
) -> list[FoundSubmission]:
    """Return the task instances that work on submissions, those that have changed last first.

    :param dag_ids: only those of these DAGs, such as the ones that a user may read. None for all.
    :param day: only those that have changed last on this day (UTC).
    :param before: only those that have changed last before this time, for the next page.
    :param limit: the most to return.
    """
    conditions: list[Any] = []
    if dag_ids is not None:
        conditions.append(XComModel.dag_id.in_(dag_ids))
    if before is not None:
        conditions.append(XComModel.timestamp < before)
    queries = [_of_day(query, day).where(*conditions) for query in (_snapshots(), _old_outputs())]
    found = [each for query in queries for each in _read_first(session, query, limit)]
    return sorted(found, key=lambda each: each.pushed_at, reverse=True)[:limit]


def find_dag_ids(session: Session) -> set[str]:
    """Return the DAGs whose tasks have pushed snapshots."""
    return set(session.scalars(select(XComModel.dag_id).where(XComModel.key == SNAPSHOT_KEY).distinct()))


def find_in_runs(session: Session, runs: Collection[tuple[str, str]]) -> list[FoundSubmission]:
    """Return the task instances that work on submissions in these DAG runs.

    :param runs: pairs of a DAG id and a run id.
    """
    query = _snapshots().where(tuple_(XComModel.dag_id, XComModel.run_id).in_(runs))
    return list(_read(session, query)) if runs else []


def iterate_submissions(
    session: Session, *, dag_ids: Collection[str] | None = None, day: date | None = None, mentioning: str | None = None
) -> Iterator[FoundSubmission]:
    """Yield the task instances that work on submissions, those that have changed last first, however many there are.

    :param dag_ids: only those of these DAGs. None for all.
    :param day: only those that have changed last on this day (UTC).
    :param mentioning: only those whose snapshot or output has this text somewhere, such as the id of a message batch.
    """
    query = _of_day(_select().where(_is_ours()), day).order_by(XComModel.timestamp.desc())
    if dag_ids is not None:
        query = query.where(XComModel.dag_id.in_(dag_ids))
    if mentioning is not None:
        query = query.where(cast(XComModel.value, String).contains(mentioning, autoescape=True))
    return _read(session, query.execution_options(yield_per=_ROWS_AT_ONCE))


def find_submission(session: Session, key: TaskKey) -> FoundSubmission | None:
    """Return what a task instance has pushed. None if it has pushed nothing."""
    return next(_read(session, _select().where(_is_ours(), is_task(key))), None)


def find_beside(session: Session, found: FoundSubmission) -> list[FoundSubmission]:
    """Return the other task instances of the same DAG run that work on the same submission.

    That is the sensor of a task that has sent requests, or the task that has sent those of a sensor.
    """
    if found.snapshot is None:
        return []
    key, id_ = found.key, found.snapshot.submission_id
    is_near = and_(
        XComModel.dag_id == key.dag_id,
        XComModel.run_id == key.run_id,
        XComModel.task_id != key.task_id,
        XComModel.map_index.in_({key.map_index, -1}),
    )
    others = _read(session, _snapshots().where(is_near).limit(_MOST_BESIDE))
    return [other for other in others if other.snapshot is not None and other.snapshot.submission_id == id_]


def read_output(session: Session, key: TaskKey) -> Manifest | None:
    """Return the manifest that a task instance has returned. None if it has returned none."""
    query = _select().where(is_task(key), XComModel.key == _RETURN_KEY)
    row = session.execute(query).first()
    return None if row is None else _manifest(_value_of(row))


def dags_of_batch(session: Session, batch_id: str) -> set[str]:
    """Return the DAGs whose tasks have named a message batch: those that have sent it, or wait for it."""
    names_it = cast(XComModel.value, String).contains(batch_id, autoescape=True)
    query = _select().with_only_columns(XComModel.dag_id).where(_is_ours(), names_it).distinct()
    return set(session.scalars(query))


def _of_day(query: Select[Any], day: date | None) -> Select[Any]:
    if day is None:
        return query
    start = datetime.combine(day, time(), tzinfo=timezone.utc)
    return query.where(XComModel.timestamp >= start, XComModel.timestamp < start + timedelta(days=1))


def _select() -> Select[Any]:
    columns = (*key_columns(), *_XCOM_COLUMNS, TaskInstance.id, TaskInstance.state, TaskInstance.try_number)
    return select(*columns).select_from(XComModel).join(TaskInstance, is_of_task(XComModel))


def _snapshots() -> Select[Any]:
    """Select the snapshots. A query for these alone is fast: databases use the index of keys."""
    return _select().where(XComModel.key == SNAPSHOT_KEY)


def _old_outputs() -> Select[Any]:
    return _select().where(_is_old_output())


def _is_ours() -> Any:
    """Return the condition for each task instance once: with its snapshot, or without one with its output."""
    return or_(XComModel.key == SNAPSHOT_KEY, _is_old_output())


def _is_old_output() -> Any:
    """Return the condition for the output of a task instance that has pushed no snapshot."""
    other = XComModel.__table__.alias()
    ids = ("task_instance_id",) if REGIONS_SUPPORTED else ("dag_run_id", "task_id", "map_index")
    is_of_same_task = [other.c[name] == getattr(XComModel, name) for name in ids]
    has_snapshot = select(other.c.key).where(*is_of_same_task, other.c.key == SNAPSHOT_KEY).exists()
    is_ours = or_(TaskInstance.operator.in_(OPERATORS), TaskInstance.custom_operator_name.in_(OPERATORS))
    return and_(XComModel.key == _RETURN_KEY, is_ours, ~has_snapshot)


def _read_first(session: Session, query: Select[Any], limit: int) -> list[FoundSubmission]:
    """Read the newest that are readable. Values that are not are passed over, and do not count."""
    found: list[FoundSubmission] = []
    query, offset = query.order_by(XComModel.timestamp.desc()), 0
    while (asked := limit - len(found)) > 0:
        rows = session.execute(query.offset(offset).limit(asked)).all()
        found += _found(rows)
        offset += len(rows)
        if len(rows) < asked:
            break
    return found


def _read(session: Session, query: Select[Any]) -> Iterator[FoundSubmission]:
    return _found(session.execute(query))


def _found(rows: Iterable[Any]) -> Iterator[FoundSubmission]:
    for row in rows:
        value = _value_of(row)
        snapshot = read_snapshot(value) if row.key == SNAPSHOT_KEY else None
        manifest = _manifest(value) if row.key == _RETURN_KEY else None
        key = key_of_row(row)
        if snapshot is None and manifest is None:
            if row.key == SNAPSHOT_KEY:
                _warn_of_unreadable(key)
            continue
        yield FoundSubmission(key, row.state, row.try_number, row.timestamp, snapshot, manifest, str(row.id))


#: The first task whose snapshot could not be read.
_WARNED: Final[list[TaskKey]] = []


def _warn_of_unreadable(key: TaskKey) -> None:
    """Say once in each process that submissions are left out. Pages that update themselves would say it for ever."""
    if not _WARNED:
        _WARNED.append(key)
        log.warning(
            "The XCom %r of task %s in DAG %s (run %s) is not a snapshot, so its submission is not shown. If that is "
            "so for every task, the XCom backend stores values outside of Airflow's database. This is logged once.",
            SNAPSHOT_KEY,
            key.task_id,
            key.dag_id,
            key.run_id,
        )


def _manifest(value: Any) -> Manifest | None:
    try:
        return read_manifest(value)
    except ValueError:
        return None


def _value_of(row: Any) -> Any:
    """Return the value of an XCom. Airflow stores it as JSON, or as a text with JSON in it.

    Airflow's decoder is not used. It would make objects of any class that a value names.
    """
    if not isinstance(row.value, str):
        return row.value
    try:
        return json.loads(row.value)
    except (ValueError, RecursionError):  # a back end of XCom may keep the value elsewhere
        return None
