"""Find the submission that a message batch is to be brought into, and check that its task may be touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.known_batches import owner_name, owners_of
from airflow_claude_batch._airflow.results_folder import (
    folder_at,
    folder_of_place,
    place_of_task,
    results_root,
    submission_id,
)
from airflow_claude_batch._airflow.servers import (
    RenderedTaskInstanceFields,
    Session,
    TaskInstance,
    create_session,
    select,
)
from airflow_claude_batch._airflow.submissions import OPERATORS, FoundSubmission, find_submission
from airflow_claude_batch._airflow.task_ledgers import ACTIVE_STATES, active_task_error, ledger_store, stopped_task
from airflow_claude_batch._airflow.task_rows import TaskKey, is_of_task, is_task, key_of_place
from airflow_claude_batch.batch.adopt.adopt import AdoptionPlan, adopt
from airflow_claude_batch.exceptions import AdoptionError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.storage import Folder

_NOTHING_CHANGED: Final = "Nothing was changed."
_SENSOR: Final = "MessageBatchSensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The submission of a task instance.

    :param state: the task instance's state in Airflow, None if it was just cleared.
    :param conn_id: its connection, None if that is not known.
    """

    key: TaskKey
    state: str | None
    submission_id: str
    folder: Folder
    conn_id: str | None


def find_target(session: Session, batch_id: str, key: TaskKey, *, results_path: str | None = None) -> Target:
    """Return the submission of a task instance that a batch may be brought into, as far as Airflow's database tells.

    :param results_path: the task's, for one that has left no snapshot.
    :raises AdoptionError: there is no such task instance, it is at work, or another one has the batch.
    :raises ConfigurationError: its folder cannot be right, or no installed provider serves it.
    """
    state, operators = _task(session, key)
    if state in ACTIVE_STATES:
        raise active_task_error(key, state)
    found = find_submission(session, key)
    _check_is_sender(key, found, operators)
    snapshot = None if found is None else found.snapshot
    id_ = submission_id(key) if snapshot is None else snapshot.submission_id
    _check_is_free(session, batch_id, key, id_)
    rendered = rendered_arguments(session, key)
    if snapshot is None or results_path is not None:
        root = results_root(results_path or rendered.get("results_path"))
    else:
        root = snapshot.root
    place = place_of_task(key) if snapshot is None or snapshot.place is None else snapshot.place
    folder = folder_at(folder_of_place(root, place))
    conn_id = rendered.get("claude_conn_id") if snapshot is None else snapshot.conn_id
    return Target(key=key, state=state, submission_id=id_, folder=folder, conn_id=conn_id)


def adopt_into(target: Target, plan: AdoptionPlan) -> bool:
    """Write a batch into a task's ledger while the task cannot start. Return False if it was there.

    :raises AdoptionError: the task has started meanwhile.
    :raises SubmissionError: the ledger cannot be read or written, or somebody else has taken it over.
    """
    now = timezone.utcnow()
    with create_session() as session, stopped_task(session, target.key):
        store = ledger_store(session, target.key, target.folder)
        return adopt(plan, store, target.folder, submission_id=target.submission_id, now=now)


def rendered_arguments(session: Session, key: TaskKey) -> dict[str, str]:
    """Return the arguments of a task instance that were texts when it last ran. Airflow keeps them for its last runs.

    They are never shown: prompts are among them.
    """
    row = RenderedTaskInstanceFields
    fields = session.execute(
        select(row.rendered_fields).join(TaskInstance, is_of_task(row)).where(is_task(key))
    ).scalar()
    if not isinstance(fields, dict):
        return {}
    return {name: value for name, value in fields.items() if isinstance(value, str) and value}


def _task(session: Session, key: TaskKey) -> tuple[str | None, set[str | None]]:
    """Return a task instance's state, and the names of its operator.

    :raises AdoptionError: there is none.
    """
    columns = (TaskInstance.state, TaskInstance.operator, TaskInstance.custom_operator_name)
    row = session.execute(select(*columns).where(is_task(key))).first()
    if row is None:
        raise AdoptionError(
            f"There is no task instance {owner_name(key)}.",
            _NOTHING_CHANGED,
            "Give the ids of the DAG, the run and the task, and the --map-index of a mapped task.",
        )
    return row.state, {row.operator, row.custom_operator_name}


def _check_is_sender(key: TaskKey, found: FoundSubmission | None, operators: set[str | None]) -> None:
    """Check that a task instance sends a submission of its own.

    :raises AdoptionError: it does not.
    """
    snapshot = None if found is None else found.snapshot
    place = None if snapshot is None else snapshot.place
    if place is not None and place.loop is not None:
        raise AdoptionError(
            f"{owner_name(key)} is a task of a loop, whose iterations this command cannot tell apart.",
            _NOTHING_CHANGED,
            "Land the batch with a task of its own: MessageBatchSensor(batch=[…]).",
        )
    sender = key if place is None else key_of_place(place)
    if sender != key:
        raise AdoptionError(
            f"{owner_name(key)} waits for what another task has sent, and sends nothing itself.",
            _NOTHING_CHANGED,
            f"Name the task that has sent it: --into {owner_name(sender)}.",
        )
    if _SENSOR in operators or (found is None and operators.isdisjoint(OPERATORS)):
        raise AdoptionError(
            f"{owner_name(key)} has no submission: it never sent requests by this package.",
            _NOTHING_CHANGED,
            "Name a task of SendMessageBatchOperator or @task.claude_batch.",
        )


def _check_is_free(session: Session, batch_id: str, key: TaskKey, id_: str) -> None:
    """Check that no other submission has the batch.

    :raises AdoptionError: one has.
    """
    for owner in owners_of(session, batch_id):
        found = None if owner == key else find_submission(session, owner)
        same = found is not None and found.snapshot is not None and found.snapshot.submission_id == id_
        if owner != key and not same:
            raise AdoptionError(
                f"{batch_id} belongs to {owner_name(owner)}, so it is no orphan.",
                f"{_NOTHING_CHANGED} That task lands its answers, or has landed them.",
                "To use answers of one task in another one, give both of them an answer_store.",
            )
