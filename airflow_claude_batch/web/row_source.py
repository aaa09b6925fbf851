"""Open what has the rows of a submission: its folder, or else the small results in the task's XCom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from airflow_claude_batch._airflow.submissions import FoundSubmission
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.web.bounded_folder import BoundedFolder, Budget, GivenFolder
from airflow_claude_batch.web.manifests import in_words
from airflow_claude_batch.web.results_folder import RefusedFolder, folder_of, open_folder
from airflow_claude_batch.web.row_lines import LandedRows, find_rows

#: Errors of storages, of their libraries, and of what is in the files.
READ_ERRORS = (OSError, ClaudeBatchError, ValueError, ImportError)
_MAX_REASON = 300


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows are read from.

    :param path: the folder, None if the user may not know it.
    :param sizes: of its files.
    :param problem: why the folder cannot be read, in words. Empty if it can.
    :param landed: the files with the rows. None if there are none to be read.
    :param is_inline: the rows are those in the task's XCom.
    """

    path: str | None
    sizes: Mapping[str, int]
    problem: str
    folder: BoundedFolder | None = None
    landed: LandedRows | None = None
    is_inline: bool = False
    is_refused: bool = False

    def within(self, max_bytes: int, max_seconds: float) -> BoundedFolder:
        """Return the folder with a budget of its own."""
        assert self.folder is not None, "there are rows"  # noqa: S101
        most = min(max_bytes, self.folder.max_bytes)
        return self.folder.with_budget(Budget(most, max_seconds))


def open_rows(
    found: FoundSubmission, may_read_rows: Callable[[str], bool], read_output: Callable[[], Manifest | None]
) -> RowSource:
    """Open the rows of a submission. No error of a storage is raised: it becomes the ``problem``.

    :param may_read_rows: returns whether the user may read the rows of a DAG.
    :param read_output: returns the task's output, which may have the rows too.
    """
    place = folder_of(found, may_read_rows)
    if isinstance(place, RefusedFolder):
        if not may_read_rows(found.key.dag_id):
            return RowSource(None, {}, place.reason, is_refused=True)
        return _inline_rows(None, place.reason, read_output)
    try:
        folder = open_folder(place)
        sizes = folder.sizes()
        if sizes:
            return RowSource(place.path, sizes, "", folder, find_rows(folder, sizes))
        problem = (
            f"This api-server sees no files in {place.path}. The folder may be on the disk of another machine, or "
            "nothing is written yet."
        )
    except READ_ERRORS as error:
        problem = problem_in_words(place.path, error)
    return _inline_rows(place.path, problem, read_output)


def problem_in_words(path: str, error: Exception) -> str:
    """Say why files cannot be read here, and what would help."""
    reason = in_words(error)[:_MAX_REASON]
    if isinstance(error, PermissionError):
        return (
            f"This api-server may not read {path}. The option [claude_batch] results_mode lets others read new files."
        )
    if isinstance(error, ClaudeBatchError):
        return f"{reason} The api-server needs the provider and the connection of the results_path, too."
    return f"This api-server cannot read {path}: {reason}"


def _inline_rows(path: str | None, problem: str, read_output: Callable[[], Manifest | None]) -> RowSource:
    manifest = read_output()
    if manifest is None or not manifest.responses:
        return RowSource(path, {}, problem)
    data = b"".join(msgspec.json.encode(row) + b"\n" for row in manifest.responses)
    given = BoundedFolder(GivenFolder({RESULTS_FILE: data}), Budget(len(data)), max_bytes=2 * len(data))
    sizes = given.sizes()
    return RowSource(path, sizes, problem, given, find_rows(given, sizes), is_inline=True)
