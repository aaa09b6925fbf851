"""Read the first rows without an answer of the newest submissions that have any, within a limit of rows to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

from airflow_claude_batch.api.redaction import shorten
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.read_results import RowEnd, row_ends_of_file
from airflow_claude_batch.batch.land.rows import Row
from airflow_claude_batch.exceptions import ClaudeBatchError
from airflow_claude_batch.web.manifests import Problem, in_words
from airflow_claude_batch.web.results_tree import ResultsTree

#: How many rows without an answer the report lists for each submission.
MAX_LISTED_FAILURES: Final = 20
#: How many submissions have their rows listed. Nobody reads more, and each is a file to read.
MAX_LISTED_SUBMISSIONS: Final = 200
#: How many rows are looked at, of one submission and of all: about a second of reading.
MAX_ROWS_OF_ONE: Final = 100_000
MAX_ROWS: Final = 500_000
READERS: Final = 8
#: Letters of a key and of a reason: 4,000 rows of these make a page of a few megabytes at the most.
MAX_KEY: Final = 100
MAX_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class FailedRow:
    """A row without an answer."""

    key: str
    status: str
    reason: str

    @classmethod
    def of(cls, row: RowEnd | Row) -> FailedRow:
        error = row.error or {}
        reason = ": ".join(str(part) for part in (error.get("type"), error.get("message")) if part)
        return cls(_cut(str(row.key)), row.status, shorten(reason, MAX_REASON))


def _cut(key: str) -> str:
    return key if len(key) <= MAX_KEY else f"{key[: MAX_KEY - 1]}…"


#: Folder, manifest and number of rows without an answer.
_Asked = tuple[str, Manifest, int]


def read_failed_rows(
    tree: ResultsTree, submissions: Sequence[_Asked]
) -> Iterator[tuple[str, Sequence[FailedRow] | Problem]]:
    """Yield the first rows without an answer by folder, or why they cannot be read.

    :param submissions: those with such rows, the newest first.
    """
    newest, seen = submissions[:MAX_LISTED_SUBMISSIONS], 0
    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(newest), READERS):
            if seen >= MAX_ROWS:
                return
            for folder, found, count in pool.map(partial(_read, tree), newest[start : start + READERS]):
                seen += count
                yield folder, found


def _read(tree: ResultsTree, asked: _Asked) -> tuple[str, Sequence[FailedRow] | Problem, int]:
    folder, manifest, failed = asked
    if manifest.results_path is None:
        return folder, [], 0
    name = manifest.results_path.rpartition("/")[2]  # wherever the folder was when the manifest was written
    try:
        tree.check_file(folder, name)
        opened = tree.open_folder(folder)
        found, seen = _first(row_ends_of_file(opened, name, path=opened.uri(name)), min(MAX_LISTED_FAILURES, failed))
    except (ClaudeBatchError, OSError, ValueError, ImportError) as error:
        reason = f"Its rows without an answer cannot be read: {in_words(error)}"
        return folder, Problem(folder or tree.name, reason), 0
    return folder, found, seen


def _first(rows: Iterable[RowEnd | Row], count: int) -> tuple[list[FailedRow], int]:
    """Return the first rows without an answer, and how many rows were looked at."""
    found, seen = list[FailedRow](), 0
    for seen, row in enumerate(rows, 1):
        if row.status != "succeeded":
            found.append(FailedRow.of(row))
        if len(found) == count or seen == MAX_ROWS_OF_ONE:
            break
    return found, seen
