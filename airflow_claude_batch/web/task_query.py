"""Read the task instance that an address names, and check what the user may do with it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Query

from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.submissions import FoundSubmission, find_submission
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.web.access import UserAccess

#: The map index in an address: databases refuse larger numbers.
MapIndex = Annotated[int, Query(ge=-1, lt=2**31)]


#: The region in an address.
Region = Annotated[str, Query(pattern="^([0-9a-f]{32})?$")]


def task_key(dag_id: str, run_id: str, task_id: str, map_index: MapIndex = -1, region: Region = "") -> TaskKey:
    """Return the task instance that the query names."""
    return TaskKey(dag_id, run_id, task_id, map_index, region)


#: The argument of a route: the task instance that the query names.
NamedTask = Annotated[TaskKey, Depends(task_key)]


def changeable_submission(key: NamedTask, access: UserAccess) -> FoundSubmission:
    """Return the submission of the task instance, if the user may edit it.

    :raises HTTPException: 403 if not, 404 if the task instance has no submission.
    """
    if not access.may_change(key.dag_id):
        raise HTTPException(403, f"You may not edit task instances of {key.dag_id}.")
    with create_session() as session:
        found = find_submission(session, key)
    if found is None:
        raise HTTPException(404, "This task instance has no submission.")
    return found


#: The argument of an action's route: the submission, which the user may change.
ChangeableSubmission = Annotated[FoundSubmission, Depends(changeable_submission)]
