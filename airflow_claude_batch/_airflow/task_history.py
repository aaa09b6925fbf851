"""The history of a task: how long its message batches took and what its runs used, in earlier runs and in this one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.results_folder import history_folder, sender_history_folder
from airflow_claude_batch.batch.land.run_record import run_of
from airflow_claude_batch.batch.wait.history import History, add_to_history, load_history
from airflow_claude_batch.batch.wait.progress import Usual, usual_of
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey
    from airflow_claude_batch.batch.land.manifest import Manifest
    from airflow_claude_batch.batch.money.run_history import Run
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


class TaskHistory(StatsObserver):
    """Observer that notes the batches that have ended and what the submission used, and knows those of earlier runs.

    Example::

        with TaskHistory(results_path, ti) as history:  # what has ended is written down at the end of the block
            log.info(usual_in_words(history.usual))
            history.batch_ended(timedelta(minutes=12))
            history.submission_ended(manifest)

    :param root: the folder above all submissions, None for the deployment's.
    :param sent_to: folder of a submission that another task may have sent. What it used belongs to that task's history.
    """

    def __init__(self, root: str | None, ti: TaskInstanceKey, *, sent_to: Folder | None = None) -> None:
        self._root = root
        self._ti = ti
        self._sent_to = sent_to
        self._known: History | None = None
        self._new: list[float] = []
        self._run: Run | None = None

    def batch_ended(self, time: timedelta) -> None:
        """Note how long the API had a batch that was landed, and report it."""
        super().batch_ended(time)
        self._new.append(time.total_seconds())

    def submission_ended(self, manifest: Manifest) -> None:
        """Note what a submission has used. While it is in progress there is nothing to note."""
        self._run = run_of(manifest)

    @property
    def usual(self) -> Usual | None:
        """How long earlier batches took; None if that is not known. The file is read once."""
        return usual_of(self._history())

    def earlier_runs(self) -> tuple[Run, ...]:
        """Return the earlier runs of the task, the oldest first."""
        return self._history().runs

    def __enter__(self) -> TaskHistory:
        return self

    def __exit__(self, *_: object) -> None:
        """Write down what has ended, however the block ends.

        Of the instances of a mapped task only the first one does: all of them share one file.
        """
        own = self._find(lambda: history_folder(self._root, self._ti)) if (self._ti.map_index or 0) <= 0 else None
        run, sent_to = self._run, self._sent_to
        if own is not None and self._new:
            add_to_history(own, self._new)
        if run is None:
            return
        sender = own if sent_to is None else self._find(lambda: sender_history_folder(sent_to, run.submission_id))
        if sender is not None:
            add_to_history(sender, run=run)

    def _history(self) -> History:
        if self._known is None:
            folder = self._find(lambda: history_folder(self._root, self._ti))
            self._known = History() if folder is None else load_history(folder)
        return self._known

    def _find(self, find: Callable[[], Folder | None]) -> Folder | None:
        try:
            return find()
        except ConfigurationError as error:  # it is said where the rows are read or written
            log.debug("The history of %s cannot be found: %s", self._ti.task_id, error)
            return None
