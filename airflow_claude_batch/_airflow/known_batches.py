"""Collect the message batches that the submissions of this Airflow know: from its database, and from their folders.

In the order of their cost: snapshots and outputs in XCom, ledgers in the task state store (Airflow 3.3 and newer), and
at last the ledgers and manifests in the folders below the roots that the database names. The folders are read only
while a batch is left that nobody knows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_claude_batch._airflow.compat import TASK_STATE_STORE_SUPPORTED
from airflow_claude_batch._airflow.results_folder import folder_at, results_root
from airflow_claude_batch._airflow.servers import (
    REGIONS_SUPPORTED,
    RenderedTaskInstanceFields,
    Session,
    TaskInstance,
    TaskStateStoreModel,
    select,
)
from airflow_claude_batch._airflow.submissions import OPERATORS, FoundSubmission, iterate_submissions
from airflow_claude_batch._airflow.task_ledgers import is_kept_elsewhere, read_stored_ledger
from airflow_claude_batch._airflow.task_rows import TaskKey, is_of_task
from airflow_claude_batch.batch.land.manifest import MANIFEST_FILE, load_manifest
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.record import decode_ledger, load_ledger
from airflow_claude_batch.batch.ledger.stores import STATE_KEY, FolderLedgerStore, is_ledger_file
from airflow_claude_batch.batch.orphans.known import KnownBatches
from airflow_claude_batch.exceptions import ClaudeBatchError

if TYPE_CHECKING:
    from airflow_claude_batch.batch.storage import LocalFolder, ObjectFolder

#: Folders below a results_path: of DAGs, their runs, their tasks, map indexes and iterations of loops.
_DEEPEST: Final = 5
_ROWS_AT_ONCE: Final = 200


def owner_name(key: TaskKey) -> str:
    """Return the names of a task instance, as the command ``adopt`` takes them."""
    if key.region:
        return f"{key.dag_id} {key.run_id} {key.task_id} (in a loop, number {key.map_index})"
    mapped = "" if key.map_index < 0 else f" --map-index {key.map_index}"
    return f"{key.dag_id} {key.run_id} {key.task_id}{mapped}"


def owners_of(session: Session, batch_id: str) -> list[TaskKey]:
    """Return the task instances that know a batch, as far as the database tells."""
    known = KnownBatches()
    owners = [found.key for found in iterate_submissions(session, mentioning=batch_id) if batch_id in ids_of(found)]
    for key, ledger in _stored_ledgers(session, known, mentioning=batch_id):
        if batch_id in ledger.batch_ids and key not in owners:
            owners.append(key)
    return owners


def ids_of(found: FoundSubmission) -> list[str]:
    """Return the batches that a snapshot and an output name."""
    parts = [] if found.snapshot is None else found.snapshot.parts
    listed = [part.batch_id for part in parts if part.batch_id is not None]
    return [*listed, *([] if found.manifest is None else found.manifest.batch_ids)]


def read_known_batches(
    session: Session,
    batch_ids: Collection[str],
    *,
    since: datetime,
    results_paths: Collection[str] = (),
    on_folder: Callable[[int], None] = lambda _: None,
) -> KnownBatches:
    """Return what is known of these batches, and of create calls without a response.

    :param since: what has changed last before this time knows none of them.
    :param results_paths: further folders above all submissions.
    :param on_folder: called with 1 for each folder that was looked into.
    """
    known, named = KnownBatches(), {results_root(None), *results_paths}
    roots = set(named)
    for found in iterate_submissions(session):
        if found.pushed_at < since:
            break
        owner = owner_name(found.key)
        known.add_batches(owner, ids_of(found))
        roots |= _roots_of(found)
    for key, ledger in _stored_ledgers(session, known, since=since):
        known.add_ledger(owner_name(key), ledger)
    if not all(map(known.owners.__contains__, batch_ids)):
        for root in sorted(roots | _rendered_roots(session)):
            _read_folders(root, known, set(batch_ids), on_folder, must=root in named)
    return known


def _roots_of(found: FoundSubmission) -> set[str]:
    """Return the folder above all submissions that a submission was written below."""
    if found.snapshot is not None:
        return {found.snapshot.root} if found.snapshot.place is not None else set()
    if found.manifest is None or found.manifest.results_path is None:
        return set()
    depth = 4 if found.key.map_index < 0 else 5  # results.jsonl, task, run, DAG
    above = found.manifest.results_path.rsplit("/", depth)[0]
    return {above} if above.strip("/") else set()


def _rendered_roots(session: Session) -> set[str]:
    """Return the ``results_path`` of all tasks whose arguments Airflow still has."""
    row = RenderedTaskInstanceFields
    query = select(row.rendered_fields).join(TaskInstance, is_of_task(row)).where(TaskInstance.operator.in_(OPERATORS))
    found = session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)).scalars()
    paths = {fields.get("results_path") for fields in found if isinstance(fields, dict)}
    return {path for path in paths if isinstance(path, str) and path}


def _stored_ledgers(
    session: Session, known: KnownBatches, *, since: datetime | None = None, mentioning: str | None = None
) -> Iterator[tuple[TaskKey, Ledger]]:
    """Yield the ledgers in the task state store. Those that cannot be read are noted as unread."""
    if not TASK_STATE_STORE_SUPPORTED:
        return
    row = TaskStateStoreModel
    index = "region_index" if REGIONS_SUPPORTED else "map_index"
    columns = (row.dag_id, row.run_id, row.task_id, getattr(row, index).label("map_index"), row.value)
    query = select(*columns).where(row.key == STATE_KEY)
    if since is not None:
        query = query.where(row.updated_at >= since)
    if mentioning is not None:
        named = row.__table__.alias()
        is_of_task = [named.c[name] == getattr(row, name) for name in ("dag_run_id", "task_id", index)]
        query = query.where(select(named.c.id).where(*is_of_task, named.c.value.contains(mentioning)).exists())
    for found in session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)):
        key = TaskKey(found.dag_id, found.run_id, found.task_id, found.map_index)
        try:
            ledger = _ledger_of(session, key, found.value)
        except ClaudeBatchError as error:
            known.unread.append(f"the ledger of {owner_name(key)} ({error.summary.rstrip('.')})")
            continue
        if ledger is not None:
            yield key, ledger


def _ledger_of(session: Session, key: TaskKey, value: str) -> Ledger | None:
    """Return a ledger, given what is stored under its key.

    :raises SubmissionRecordError: it cannot be read.
    """
    try:
        is_elsewhere = is_kept_elsewhere(json.loads(value))
    except ValueError:
        is_elsewhere = False
    ledger = None if is_elsewhere else decode_ledger(value.encode())
    return read_stored_ledger(session, key) if ledger is None else ledger


def _read_folders(
    root: str, known: KnownBatches, wanted: set[str], on_folder: Callable[[int], None], *, must: bool
) -> None:
    """Read the folders below a root until every wanted batch is known.

    :param must: something has to be there. Else this machine may not reach what the workers do.
    """
    stack = [(root, 0)]
    while stack and not wanted <= known.owners.keys():
        path, depth = stack.pop()
        try:
            folder = folder_at(path)
            names = folder.folders() if depth < _DEEPEST else []
            if must and not depth and not names:
                known.unread.append(f"{path} (nothing is there, or this machine does not reach it)")
            if depth >= _DEEPEST - 2:
                _read_folder(folder, known)
                on_folder(1)
        except (ClaudeBatchError, OSError) as error:
            known.unread.append(f"{path} ({str(error).partition(chr(10))[0].rstrip('.')})")
            continue
        stack += [(f"{path.rstrip('/')}/{name}", depth + 1) for name in names if not name.startswith("_")]


def _read_folder(folder: LocalFolder | ObjectFolder, known: KnownBatches) -> None:
    """Add what the ledger and the manifest in a folder know."""
    names, owner = folder.names(), folder.uri("").rstrip("/")
    if any(map(is_ledger_file, names)) and (ledger := load_ledger(FolderLedgerStore(folder))) is not None:
        known.add_ledger(owner, ledger)
    if MANIFEST_FILE in names and (manifest := load_manifest(folder)) is not None:
        known.add_batches(owner, manifest.batch_ids)
