"""Push what earlier attempts have left of a submission that the task cannot open: their batches may still run.

Airflow removes a task's XComs when its next attempt begins, and so the snapshot with these batches.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_claude_batch._airflow.snapshots import Snapshots
from airflow_claude_batch.batch.land.snapshot import SnapshotPart, parts_of
from airflow_claude_batch.batch.ledger.record import load_ledger

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.task_run import TaskRun
    from airflow_claude_batch.batch.ledger.ledger import Ledger
    from airflow_claude_batch.batch.ledger.stores import LedgerStore
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EarlierAttempts:
    """A submission as its ledger tells of it."""

    submission_id: str
    folder: Folder
    ledger: Ledger

    @property
    def request_count(self) -> int:
        """The number of requests in its batches."""
        return sum(part.requests or 0 for part in self.parts())

    @property
    def estimate(self) -> dict[str, object] | None:
        return self.ledger.first_estimate

    def parts(self) -> list[SnapshotPart]:
        return parts_of(self.ledger)


def push_earlier_attempts(
    run: TaskRun,
    find_folder: Callable[[], Folder],
    open_store: Callable[[Folder], LedgerStore],
    *,
    conn_id: str,
    error: Exception,
) -> None:
    """Push a snapshot if there are batches of earlier attempts. Whatever is wrong with it, nothing is raised.

    :param error: why the submission cannot be opened.
    """
    try:
        folder = find_folder()
        ledger = load_ledger(open_store(folder))
        if ledger is not None and parts_of(ledger):
            Snapshots(EarlierAttempts(run.submission_id, folder, ledger), run, conn_id=conn_id).push_failure(error)
    except Exception as problem:  # storages raise many types, and the task already fails
        log.debug("What earlier attempts have left cannot be shown (%s).", type(problem).__name__)
