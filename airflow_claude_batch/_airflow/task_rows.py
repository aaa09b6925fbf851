"""Match the rows of Airflow's database that belong to a task instance, 3.0.6 to 3.4.

From 3.4 on, a task instance may be in a *region*: an execution of a loop, or the expansion of a mapped task. All
iterations of a loop have the same ids of DAG, run and task. They differ in the region and in the index inside of it.
XComs and rendered fields belong to one try there, and name it by its id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from airflow_claude_batch._airflow.servers import (
    REGIONS_SUPPORTED,
    Session,
    TaskInstance,
    TaskScope,
    and_,
    false,
    public_region_filter,
    select,
)

if TYPE_CHECKING:
    from airflow_claude_batch.batch.land.place import Place

_NAMES: Final = ("dag_id", "run_id", "task_id", "map_index")
_LOOP: Final = re.compile(r"loop-(\d+)")


@dataclass(frozen=True, slots=True)
class TaskKey:
    """The names of a task instance in Airflow's database.

    :param map_index: the index of a mapped task; the number of the iteration in a loop; -1 of other tasks.
    :param region: 32 hexadecimal digits that tell the executions of a loop apart. Empty outside of loops.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1
    region: str = ""


def key_of_place(place: Place) -> TaskKey:
    """Return the task instance that a submission's folder is named for. The name does not tell the region of a loop."""
    index = place.map_index
    if index < 0 and place.loop is not None and (match := _LOOP.match(place.loop)):
        index = int(match[1])
    return TaskKey(place.dag_id, place.run_id, place.task_id, index)


def key_columns() -> tuple[Any, ...]:
    """Return the columns of a query of task instances that :func:`key_of_row` reads."""
    names = tuple(getattr(TaskInstance, name).label(name) for name in _NAMES)
    if not REGIONS_SUPPORTED:
        return names
    return (*names, TaskInstance.region_id, public_region_filter(TaskInstance).label("is_outside_of_loops"))


def key_of_row(row: Any) -> TaskKey:
    """Return the task instance of a row of a query of :func:`key_columns`."""
    region = "" if not REGIONS_SUPPORTED or row.is_outside_of_loops else row.region_id.hex
    return TaskKey(row.dag_id, row.run_id, row.task_id, row.map_index, region)


def is_task(key: TaskKey) -> Any:
    """Return the condition that a row of the table of task instances is this one."""
    return and_(*(getattr(TaskInstance, name) == getattr(key, name) for name in _NAMES), _is_in_region(key))


def is_of_task(model: Any) -> Any:
    """Return the condition that joins XComs, or rendered fields, to their task instances."""
    if REGIONS_SUPPORTED:
        return model.task_instance_id == TaskInstance.id
    return and_(*(getattr(model, name) == getattr(TaskInstance, name) for name in _NAMES))


def task_scope(session: Session, key: TaskKey) -> Any:
    """Return what names a task instance in the task state store."""
    names: dict[str, Any] = {name: getattr(key, name) for name in _NAMES}
    region = session.scalar(select(TaskInstance.region_id).where(is_task(key))) if REGIONS_SUPPORTED else None
    if region is None:
        return TaskScope(**names)
    return TaskScope(**names, region_id=region)  # type: ignore[call-arg]  # 3.4 and newer


def _is_in_region(key: TaskKey) -> Any:
    if not REGIONS_SUPPORTED:
        return and_(True) if not key.region else false()
    if key.region:
        return TaskInstance.region_id == UUID(key.region)
    return public_region_filter(TaskInstance, dag_ids=key.dag_id, run_ids=key.run_id, task_ids=key.task_id)
