"""Cursors for paging through the listing of message batches, which is newest first."""

from __future__ import annotations

from collections.abc import Collection

from airflow_claude_batch.api.wire import BatchPage
from airflow_claude_batch.exceptions import MalformedResponseError


def newer_edge(page: BatchPage) -> str:
    """Return the ``before_id`` that continues to newer batches. The page must have batches."""
    return page.first_id or page.data[0].id


def older_edge(page: BatchPage) -> str:
    """Return the ``after_id`` that continues to older batches. The page must have batches."""
    return page.last_id or page.data[-1].id


def check_moves(cursor: str, passed: Collection[str]) -> None:
    """Raise if a listing would be read without end.

    :param passed: the cursors used so far.
    :raises MalformedResponseError: the cursor was used before.
    """
    if cursor in passed:
        raise MalformedResponseError(
            "The listing of message batches repeats a page, so it would never end.",
            "Check whether a proxy or gateway removes the query from URLs.",
        )
