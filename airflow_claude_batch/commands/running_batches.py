"""Find the message batches of a submission that may run, also those that its last snapshot does not name.

A task that dies leaves an old snapshot. Its ledger names every batch, so both are read. Whatever may run without being
found is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch._airflow.results_folder import folder_at
from airflow_claude_batch._airflow.servers import Session
from airflow_claude_batch._airflow.states import is_open
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch._airflow.task_ledgers import read_ledger
from airflow_claude_batch._airflow.task_rows import key_of_place
from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.land.snapshot import PartState, SnapshotPart, SnapshotState
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.batches import NamedBatch, of_submission, with_owner
from airflow_claude_batch.commands.lookup import find_by_id, id_of
from airflow_claude_batch.commands.submission_fields import folder_of
from airflow_claude_batch.exceptions import ClaudeBatchError

#: So far this machine's clock may be ahead of the API's. A batch that has ended is asked about once too often.
_CLOCKS_DIFFER: Final = timedelta(days=1)
_LOOK: Final = "list --orphans shows it."


def running_batches(
    session: Session, ids: Iterable[str], conn_id: str | None, now: datetime
) -> tuple[list[NamedBatch], list[str]]:
    """Return the message batches with these ids, and for a submission's id those of its batches that may run.

    The second value says what else may run, in words.

    :param conn_id: as in :func:`~.batches.named_batches`.
    :raises InputError: an id can be neither.
    """
    found: dict[str, NamedBatch] = {}
    remarks: list[str] = []
    for id_ in dict.fromkeys(ids):
        knowing = list(find_by_id(session, id_))
        if not (tasks := of_submission(knowing, id_)):
            found |= with_owner([check_batch_id(id_)], knowing, conn_id)
            continue
        named, more = _of_ledger(session, tasks)
        listed = [batch_id for task in tasks for batch_id in _listed(task, now)]
        landed = {batch_id for task in tasks for batch_id in _landed(task)}
        found |= with_owner([batch_id for batch_id in (*listed, *named) if batch_id not in landed], tasks, conn_id)
        remarks += [f"{id_}: {remark}" for remark in more]
    return list(found.values()), remarks


def _listed(found: FoundSubmission, now: datetime) -> list[str]:
    """Return the batches that may run by a task's snapshot. Without one, those of its output that are not landed."""
    if found.snapshot is not None:
        return [part.batch_id for part in found.snapshot.parts if part.batch_id and _may_run(part, now)]
    manifest = found.manifest
    if manifest is None or manifest.status == "ended":
        return []
    return [id_ for id_ in manifest.batch_ids if id_ not in manifest.landed_batch_ids]


def _landed(found: FoundSubmission) -> list[str | None]:
    """Return the batches whose rows a task has landed: a sensor lands what the ledger of its operator calls open."""
    snapshot = found.snapshot
    if snapshot is None:
        return []
    has_all = snapshot.state is SnapshotState.ENDED
    return [part.batch_id for part in snapshot.parts if has_all or part.state is PartState.LANDED]


def _may_run(part: SnapshotPart, now: datetime) -> bool:
    """Tell whether the API has to be asked. A sensor that has not asked yet calls every batch ended."""
    return part.state is PartState.ENDED or is_open(part, now - _CLOCKS_DIFFER)


def _of_ledger(session: Session, tasks: Sequence[FoundSubmission]) -> tuple[list[str], list[str]]:
    """Return the batches of the ledger that are not landed, and what else may run, in words."""
    place = next((task.snapshot.place for task in tasks if task.snapshot is not None and task.snapshot.place), None)
    if place is None:  # batches made elsewhere
        return [], _unlisted(tasks)
    try:
        folder = folder_at(folder_of(next(task for task in tasks if _place(task) == place)) or "")
        ledger = read_ledger(session, key_of_place(place), folder)
    except (ClaudeBatchError, OSError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        return [], [f"its ledger cannot be read, so it may have further batches: {reason}."]
    if ledger is None or ledger.submission_id != id_of(tasks[0]):
        return [], _unlisted(tasks)
    creates = len(ledger.intents)
    remark = f"{quantity(creates, 'create call')} without a response may have made a batch that runs. {_LOOK}"
    return list(ledger.open_batch_ids), [remark] if creates else []


def _place(task: FoundSubmission) -> Place | None:
    return None if task.snapshot is None else task.snapshot.place


def _unlisted(tasks: Sequence[FoundSubmission]) -> list[str]:
    """Say so if a snapshot lists batches in progress only, and not all of its batches: more of them may run."""
    snapshot = tasks[0].snapshot
    more = 0 if snapshot is None else snapshot.part_count - len(snapshot.parts)
    if snapshot is None or more <= 0 or snapshot.parts[-1].state is not PartState.IN_PROGRESS:
        return []
    return [f"{quantity(more, 'further batch')} may run. {_LOOK}"]
