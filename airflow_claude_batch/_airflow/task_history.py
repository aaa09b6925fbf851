"""The history of a task: how long its message batches took in earlier runs, and in this one."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_claude_batch._airflow.metrics import StatsObserver
from airflow_claude_batch._airflow.results_folder import history_folder
from airflow_claude_batch.batch.wait.history import History, add_to_history, load_history
from airflow_claude_batch.batch.wait.progress import Usual, usual_of
from airflow_claude_batch.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_claude_batch._airflow.compat import TaskInstanceKey
    from airflow_claude_batch.batch.storage import Folder

log = logging.getLogger(__name__)


class TaskHistory(StatsObserver):
    """Observer that notes the batches that have ended, and knows how long earlier ones took.

    Example::

        with TaskHistory(results_path, ti) as history:  # what has ended is written down at the end of the block
            log.info(usual_in_words(history.usual))
            history.batch_ended(timedelta(minutes=12))

    :param root: the folder above all submissions, None for the deployment's.
    """

    def __init__(self, root: str | None, ti: TaskInstanceKey) -> None:
        self._root = root
        self._ti = ti
        self._known: History | None = None
        self._new: list[float] = []

    def batch_ended(self, time: timedelta) -> None:
        """Note how long the API had a batch that was landed, and report it."""
        super().batch_ended(time)
        self._new.append(time.total_seconds())

    @property
    def usual(self) -> Usual | None:
        """How long earlier batches took; None if that is not known. The file is read once."""
        if self._known is None:
            folder = self._folder()
            self._known = History() if folder is None else load_history(folder)
        return usual_of(self._known)

    def __enter__(self) -> TaskHistory:
        return self

    def __exit__(self, *_: object) -> None:
        """Write down what has ended, however the block ends.

        Of the instances of a mapped task only the first one does: all of them share one file.
        """
        folder = self._folder() if self._new and (self._ti.map_index or 0) <= 0 else None
        if folder is not None:
            add_to_history(folder, self._new)

    def _folder(self) -> Folder | None:
        try:
            return history_folder(self._root, self._ti)
        except ConfigurationError as error:  # it is said where the rows are read or written
            log.debug("The history of %s cannot be found: %s", self._ti.task_id, error)
            return None
