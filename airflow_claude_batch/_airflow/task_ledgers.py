"""Read and write the ledgers of tasks from a process that is no task: for the command line.

On Airflow 3.3 a ledger is in the task state store, which is a table of Airflow's database. Before and after, it is in
the submission's folder.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import TASK_STATE_STORE_SUPPORTED, TASK_STATE_SURVIVES_CLEAR, timezone
from airflow_claude_batch._airflow.servers import (
    Session,
    TaskInstance,
    get_state_backend,
    or_,
    select,
    update,
)
from airflow_claude_batch._airflow.task_rows import TaskKey, is_task, task_scope
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.moved_store import MovedLedgerStore
from airflow_claude_batch.batch.ledger.record import load_ledger
from airflow_claude_batch.batch.ledger.stores import STATE_KEY, FolderLedgerStore, LedgerStore, StateLedgerStore
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.exceptions import AdoptionError, SubmissionRecordError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.storage import Folder

#: A task instance in one of these states has a process, or one that continues where the last has stopped.
ACTIVE_STATES: Final = frozenset({"running", "deferred", "restarting", "up_for_reschedule", "awaiting_input"})
#: Workers with a state store of their own leave this in the database, with a reference to where the value is.
_EXTERNAL: Final = "__airflow_state_ref__"


class DatabaseTaskState:
    """The task state store of one task instance, as :class:`~..batch.ledger.stores.TaskStateAccessor`.

    What it writes is part of the session's transaction.
    """

    def __init__(self, session: Session, key: TaskKey) -> None:
        self._session = session
        self._scope = task_scope(session, key)

    def get(self, key: str) -> Any:
        """Return a value, None if there is none.

        :raises SubmissionRecordError: the workers of this Airflow keep it in a store of their own.
        """
        text = get_state_backend().get(self._scope, key, session=self._session)
        value = None if text is None else json.loads(text)
        if is_kept_elsewhere(value):
            raise SubmissionRecordError(
                "The submission's ledger is in a state store that only workers reach.",
                "Nothing was changed.",
                "Clear the task: it reads the ledger itself. This command needs [workers] state_store_backend unset.",
            )
        return value

    def set(self, key: str, value: Any, *, retention: timedelta) -> None:
        expires_at = timezone.utcnow() + retention
        get_state_backend().set(self._scope, key, json.dumps(value), expires_at=expires_at, session=self._session)

    def delete(self, key: str) -> None:
        get_state_backend().delete(self._scope, key, session=self._session)


def is_kept_elsewhere(value: Any) -> bool:
    """Return True if a value of the task state store is a reference to another store."""
    return isinstance(value, dict) and _EXTERNAL in value


def ledger_store(session: Session, key: TaskKey, folder: Folder) -> LedgerStore:
    """Return where a task instance's ledger is.

    :param folder: the folder of its submission.
    """
    if not TASK_STATE_STORE_SUPPORTED:
        return FolderLedgerStore(folder)
    store = StateLedgerStore if TASK_STATE_SURVIVES_CLEAR else MovedLedgerStore
    return store(DatabaseTaskState(session, key), folder)


def read_ledger(session: Session, key: TaskKey, folder: Folder) -> Ledger | None:
    """Read a task instance's ledger, wherever it is. None if there is none.

    :param folder: the folder of its submission.
    :raises SubmissionRecordError: it cannot be read.
    """
    return load_ledger(ledger_store(session, key, folder))


def read_stored_ledger(session: Session, key: TaskKey) -> Ledger | None:
    """Read a task instance's ledger from the task state store. None if it is not there.

    :raises SubmissionRecordError: it cannot be read.
    """
    state = DatabaseTaskState(session, key)
    if state.get(STATE_KEY) is None:
        return None
    return load_ledger(StateLedgerStore(state, LocalFolder(Path(os.devnull))))


@contextlib.contextmanager
def stopped_task(session: Session, key: TaskKey) -> Iterator[None]:
    """Keep a task instance from starting while the block runs. The block's writes to the database are committed then.

    Airflow locks the row of a task instance before it starts it, and so does this.

    :raises AdoptionError: it runs, or waits.
    """
    is_key = is_task(key)
    is_stopped = or_(TaskInstance.state.is_(None), TaskInstance.state.not_in(ACTIVE_STATES))
    lock = update(TaskInstance).where(is_key, is_stopped).values(updated_at=TaskInstance.updated_at)
    session.commit()  # the transaction begins with the lock: what was read before says nothing of now
    result: Any = session.execute(lock.execution_options(synchronize_session=False))
    if not result.rowcount:
        state = session.execute(select(TaskInstance.state).where(is_key)).scalar_one_or_none()
        session.rollback()
        raise active_task_error(key, state)
    try:
        yield
    except BaseException:
        session.rollback()
        raise
    session.commit()


def active_task_error(key: TaskKey, state: str | None) -> AdoptionError:
    """Build the error for a task instance that must not be touched now."""
    return AdoptionError(
        f"Task {key.task_id} of {key.dag_id} is {state or 'not there any more'}, so its ledger is its own now.",
        "Nothing was changed.",
        "Run the command again when the task has ended. Until then, it looks after its own batches.",
    )
