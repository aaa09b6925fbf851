"""List the message batches of a workspace back to a day, and keep what came if the listing breaks off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.limits import LIST_LIMIT
from airflow_claude_batch.api.listing import check_moves, older_edge
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.exceptions import APIError, MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


#: The listing is newest first, but the clocks of the API's nodes differ. So many older batches in a row end it.
_OLDER_IN_A_ROW: Final = 20


@dataclass(slots=True)
class WorkspaceListing:
    """The message batches of a workspace, newest first.

    :ivar unreadable: number of entries that are no batch in any known form.
    :ivar broken_off: why the listing ended before its end, None if it did not.
    """

    batches: dict[str, MessageBatch] = field(default_factory=dict)
    unreadable: int = 0
    broken_off: str | None = None


def list_workspace(
    client: ClaudeClient,
    *,
    since: datetime,
    on_page: Callable[[int], None] = lambda _: None,
    page_size: int = LIST_LIMIT,
) -> WorkspaceListing:
    """Return every batch that was created since a time, page by page.

    A failure after the first page ends the listing, and is told by ``broken_off``.

    :param on_page: called after each page with the number of batches so far.
    :raises APIError: not even the first page can be read.
    """
    found, cursor, passed, older = WorkspaceListing(), None, set[str](), 0
    while True:
        try:
            page = client.list_batches(after_id=cursor, limit=page_size)
            found.unreadable += page.unreadable
            for batch in page.data:
                older = older + 1 if batch.created_at < since else 0
                if batch.created_at >= since:
                    found.batches[batch.id] = batch
            on_page(len(found.batches))
            if not page.has_more or older >= _OLDER_IN_A_ROW:
                return found
            if not page.data and not page.last_id:
                raise MalformedResponseError("The listing says that there is more, but shows nothing.")
            cursor = older_edge(page)
            check_moves(cursor, passed)
            passed.add(cursor)
        except APIError as error:
            if not found.batches:
                raise
            found.broken_off = error.summary
            return found
