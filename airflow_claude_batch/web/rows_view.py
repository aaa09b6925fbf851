"""The rows that the page of a submission shows: those that failed, the first ones, and one beside its request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from airflow_claude_batch.batch.land.rows import Status, count_where
from airflow_claude_batch.web.row_lines import LandedRows
from airflow_claude_batch.web.row_search import PAGE_ROWS, FoundRows, find_key, list_rows, row_at
from airflow_claude_batch.web.row_source import READ_ERRORS, RowSource, problem_in_words
from airflow_claude_batch.web.shown_request import (
    FoundRequest,
    ShownAnswer,
    request_of_row,
    request_with_key,
    show_answer,
)

#: What the first rows may cost, and a search. Together they take less than a second of the server.
_FIRST_BYTES: Final = 32 << 20
_FIRST_SECONDS: Final = 0.15
_SEARCH_BYTES: Final = 1 << 30
_SEARCH_SECONDS: Final = 0.4
_UNANSWERED: Final = frozenset(Status) - {Status.NONE, Status.SUCCEEDED, Status.REUSED}


@dataclass(frozen=True, slots=True)
class RowsView:
    """Rows for people.

    :param problem: why rows are not shown, in words. Empty if they are.
    :param failed: rows without a valid answer. None if there are none, or none that can be read.
    """

    source: RowSource
    problem: str
    first: FoundRows | None
    failed: FoundRows | None


_NO_REQUEST: Final = FoundRequest(None, None)


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A row that was searched for.

    :param answer: None if no row was found.
    :param is_damaged: there is a row, and it cannot be read.
    :param request: what it answers.
    :param next_position: where the search for the row goes on.
    """

    problem: str = ""
    position: int | None = None
    answer: ShownAnswer | None = None
    is_damaged: bool = False
    request: FoundRequest = _NO_REQUEST
    next_position: int | None = None


def rows_of(source: RowSource, *, failed: int | None, most: int = PAGE_ROWS) -> RowsView:
    """Return the first rows, and the first of those without an answer.

    :param failed: how many rows have no answer. None if that is not known.
    :param most: how many of the first rows to return.
    """
    landed = source.landed
    if landed is None or not landed.files:
        return RowsView(source, source.problem, None, None)
    if landed.parts:
        failed = count_where(landed.statuses, _UNANSWERED)
    try:
        first = list_rows(source.within(_FIRST_BYTES, _FIRST_SECONDS), landed, most=most)
        found = None if failed == 0 else failed_rows(source, landed, known=failed)
    except READ_ERRORS as error:
        return RowsView(source, problem_in_words(source.path or "the rows", error), None, None)
    return RowsView(source, source.problem, first, found)


def failed_rows(source: RowSource, landed: LandedRows, position: int = 0, *, known: int | None = None) -> FoundRows:
    """Return the next rows without an answer from a position on.

    :param known: how many there are in all.
    :raises OSError: the storage cannot be read.
    """
    most = PAGE_ROWS if known is None or position else min(PAGE_ROWS, known)
    found = list_rows(source.within(_SEARCH_BYTES, _SEARCH_SECONDS), landed, position, failed=True, most=most)
    is_all = not position and known is not None and sum(not row.is_damaged for row in found.rows) >= known
    return replace(found, next_position=None) if is_all else found


def rows_from(source: RowSource, position: int, *, failed: bool) -> RowsView:
    """Return the rows from a position on.

    :param failed: only those without an answer.
    """
    landed = source.landed
    if landed is None or not landed.files:
        return RowsView(source, source.problem, None, None)
    try:
        if failed:
            return RowsView(source, source.problem, None, failed_rows(source, landed, position))
        rows = list_rows(source.within(_FIRST_BYTES, _FIRST_SECONDS), landed, position)
    except READ_ERRORS as error:
        return RowsView(source, problem_in_words(source.path or "the rows", error), None, None)
    return RowsView(source, source.problem, rows, None)


def row_with_key(source: RowSource, key: str, position: int, request_position: int) -> FoundRow:
    """Return the row with a key beside its request. A request without a row is found, too.

    :param position: where in the rows the search goes on.
    :param request_position: where in ``requests.jsonl`` it does.
    """

    def search() -> FoundRow:
        if source.landed is not None and source.landed.files:
            folder = source.within(_SEARCH_BYTES, _SEARCH_SECONDS)
            found = find_key(folder, source.landed, key, position)
            if found.line is not None:
                return _beside_request(source, found.line.position, request_position)
            if found.next_position is not None:
                return FoundRow(next_position=found.next_position)
        if source.folder is None:
            return FoundRow()
        folder = source.within(_SEARCH_BYTES, _SEARCH_SECONDS)
        return FoundRow(request=request_with_key(folder, source.sizes, key, request_position))

    return _guarded(source, search)


def row_at_position(source: RowSource, position: int, request_position: int) -> FoundRow:
    """Return the row whose line begins at a position, beside its request."""
    return _guarded(source, lambda: _beside_request(source, position, request_position))


def _beside_request(source: RowSource, position: int, request_position: int) -> FoundRow:
    if source.landed is None:
        return FoundRow()
    folder = source.within(_SEARCH_BYTES, _SEARCH_SECONDS)
    line = row_at(folder, source.landed, position)
    if line is None:
        return FoundRow()
    answer = show_answer(line)
    if answer is None:
        return FoundRow(position=position, is_damaged=True)
    return FoundRow(
        position=position,
        answer=answer,
        request=request_of_row(folder, source.sizes, line, request_position),
    )


def _guarded(source: RowSource, search: Callable[[], FoundRow]) -> FoundRow:
    try:
        return search()
    except READ_ERRORS as error:
        return FoundRow(problem=problem_in_words(source.path or "the rows", error))


def listed_files(source: RowSource) -> Sequence[tuple[str, int]]:
    """Return the files of the folder that people may look for, with their sizes."""
    return sorted((name, size) for name, size in source.sizes.items() if not name.startswith((".", "ledger-")))[:50]
