"""Find the submissions that a command names: by their id, by a message batch, or by their task instance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from airflow_claude_batch._airflow.servers import Session
from airflow_claude_batch._airflow.submissions import (
    FoundSubmission,
    find_submission,
    iterate_submissions,
)
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.definition import WrongUsageError
from airflow_claude_batch.exceptions import InputError

_HOW_TO_NAME: Final = (
    "The command list shows the ids of all submissions. A mapped task needs its --map-index. An iteration of a loop is "
    "named by its submission's id."
)


def find_named(session: Session, names: Sequence[str], map_index: int | None = None) -> list[FoundSubmission]:
    """Return the task instances that work on the named submission, the one that has changed last first.

    :param names: a submission's id, a message batch's id, or a DAG, a run and a task.
    :param map_index: the one of a mapped task. None: it is not mapped.
    :raises InputError: there is none.
    :raises WrongUsageError: the names are neither one nor three.
    """
    if len(names) == 1:
        if found := list(find_by_id(session, names[0])):
            return found
        raise InputError(f"No task instance of this Airflow knows {names[0]:.60}.", _HOW_TO_NAME)
    if len(names) != 3:
        raise WrongUsageError(f"Give one id, or a DAG, a run and a task, not {quantity(len(names), 'name')}.")
    dag_id, run_id, task_id = names
    key = TaskKey(dag_id, run_id, task_id, -1 if map_index is None else map_index)
    named = find_submission(session, key)
    if named is None:
        raise InputError(f"{name_of(key)} has no submission, or is not in this Airflow.", _HOW_TO_NAME)
    return list(find_by_id(session, id_of(named))) or [named]


def find_by_id(session: Session, id_: str) -> Iterator[FoundSubmission]:
    """Yield the task instances that work on a submission, or know a message batch, by its id."""
    for found in iterate_submissions(session, mentioning=id_):
        if id_ == id_of(found) or id_ in batch_ids_of(found):
            yield found


def id_of(found: FoundSubmission) -> str:
    """Return the id of a submission."""
    source = found.snapshot or found.manifest
    return "" if source is None else source.submission_id


def batch_ids_of(found: FoundSubmission) -> list[str]:
    """Return the ids of a submission's message batches, as far as they are listed."""
    parts = [] if found.snapshot is None else found.snapshot.parts
    listed = [part.batch_id for part in parts if part.batch_id is not None]
    return list(dict.fromkeys([*listed, *([] if found.manifest is None else found.manifest.batch_ids)]))


def name_of(key: TaskKey) -> str:
    """Return the name of a task instance, such as ``my_dag / scheduled__2026-11-30 / send [3]``."""
    mapped = "" if key.map_index < 0 else f" [{key.map_index}]"
    return f"{key.dag_id} / {key.run_id} / {key.task_id}{mapped}"
