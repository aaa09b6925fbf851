"""Cursors for paging through the listing of message batches, which is newest first."""

from __future__ import annotations

from collections.abc import Collection

from airflow_claude_batch.api.wire import BatchPage
from airflow_claude_batch.exceptions import MalformedResponseError


def newer_edge(page: BatchPage) -> str:
    """Return the cursor for the batches newer than this page. The page must not be empty."""
    return page.first_id or page.data[0].id


def older_edge(page: BatchPage) -> str:
    """Return the cursor for the batches older than this page. The page must not be empty."""
    return page.last_id or page.data[-1].id


def check_moves(place: str, passed: Collection[str]) -> None:
    """Refuse a listing that has no end.

    :raises MalformedResponseError: it goes on at a place where it has been.
    """
    if place in passed:
        raise MalformedResponseError(
            "the listing of message batches goes round in a circle: does a gateway on the way leave out the query?"
        )
