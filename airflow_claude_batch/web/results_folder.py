"""Decide which folder of a submission the page may read. No path of a request reaches the storage.

The folder's names come from the task instance in Airflow's database. Of the XCom, which whoever may write the DAG's
XComs may have written, only the ``results_path`` above them is taken. A sensor lands into the folder of the task that
has sent the requests: that is read if the user may read the XComs of that task's DAG, too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from airflow_claude_batch._airflow.check_arguments import wrong_path
from airflow_claude_batch._airflow.results_folder import folder_at, folder_of_place
from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch._airflow.task_rows import key_of_place
from airflow_claude_batch.batch.land.place import Place
from airflow_claude_batch.batch.storage import LocalFolder
from airflow_claude_batch.web.bounded_folder import (
    MAX_LOCAL_BYTES,
    MAX_REMOTE_BYTES,
    BoundedFolder,
    Budget,
    PlainFolder,
)

#: A longer path is none of a results folder.
_MAX_PATH_CHARACTERS: Final = 1024
_NOT_ITS_OWN: Final = (
    "The XCom of this task names a folder that is not this task's, so its files are not shown here. The rows of a "
    "sensor of an earlier version are on the page of the task that has sent them."
)


class ReadableFolder(NamedTuple):
    """A folder that the page may read.

    :ivar root: the folder above all submissions.
    :ivar path: the folder.
    """

    root: str
    path: str


class RefusedFolder(NamedTuple):
    """The reason why a folder is not read, for people."""

    reason: str


def folder_of(found: FoundSubmission, may_read_rows: Callable[[str], bool]) -> ReadableFolder | RefusedFolder:
    """Return the folder of a task instance's submission, or why it is not read.

    Example::

        folder = folder_of(found, access.may_read_rows)

    :param may_read_rows: returns whether the user may read the rows of a DAG.
    """
    if not may_read_rows(found.key.dag_id):
        return RefusedFolder("Rows, prompts and answers are shown to those who may read the XComs of this DAG.")
    if found.snapshot is None or found.snapshot.place is None:
        return _folder_of_path(found)
    place, root = found.snapshot.place, found.snapshot.root
    if key_of_place(place) != found.key and not may_read_rows(place.dag_id):
        return RefusedFolder(
            f"The rows belong to a task of the DAG {place.dag_id[:200]}. Those who may read its XComs see them."
        )
    try:
        path = folder_of_place(root, place)
    except UnicodeError:  # surrogates, which no name of a task instance has
        return RefusedFolder(_NOT_ITS_OWN)
    return _checked(root, path)


def open_folder(folder: ReadableFolder, *, max_bytes: int | None = None) -> BoundedFolder:
    """Open a folder to be read within bounds.

    :param max_bytes: to be read. Default: 1 GiB of a disk, 64 MiB of an object store.
    :raises ConfigurationError: no installed provider serves the URI, or its connection cannot be used.
    :raises OSError: a link leads out of the results_path.
    """
    opened = folder_at(folder.path)
    if not isinstance(opened, LocalFolder):
        return BoundedFolder(opened, Budget(max_bytes or MAX_REMOTE_BYTES))
    root = folder_at(folder.root)
    above = root.path if isinstance(root, LocalFolder) else Path("/")
    return BoundedFolder(PlainFolder(opened.path, root=above), Budget(max_bytes or MAX_LOCAL_BYTES))


def _folder_of_path(found: FoundSubmission) -> ReadableFolder | RefusedFolder:
    """Take a path that ends with the names of the task instance: of earlier versions, or of names that are cut."""
    path = _folder_named(found)
    if path is None:
        return RefusedFolder("This task has no results yet.")
    key = found.key
    own = folder_of_place("", Place(key.dag_id, key.run_id, key.task_id, key.map_index))
    if not path.endswith(own):
        return RefusedFolder(_NOT_ITS_OWN)
    return _checked(path.removesuffix(own) or "/", path)


def _folder_named(found: FoundSubmission) -> str | None:
    if found.snapshot is not None:
        return found.snapshot.root.rstrip("/")
    results_path = found.manifest.results_path if found.manifest is not None else None
    return results_path and results_path.rpartition("/")[0]


def _checked(root: str, path: str) -> ReadableFolder | RefusedFolder:
    is_odd = len(root) > _MAX_PATH_CHARACTERS or not root.isprintable() or ".." in root.split("/") or "::" in root
    if is_odd or wrong_path(root) is not None or root.startswith("~"):
        return RefusedFolder("The XCom of this task names no results_path, so its files are not shown here.")
    return ReadableFolder(root, path)
