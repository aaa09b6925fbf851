"""Search for a batch whose id is unknown: the API calls that ``decide`` needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api import limits
from airflow_claude_batch.api.listing import check_all_read, check_moves, newer_edge, older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch, decode_result_line
from airflow_claude_batch.batch.ledger.ledger import Part
from airflow_claude_batch.batch.recover.decide import Candidate
from airflow_claude_batch.exceptions import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


@dataclass(frozen=True, slots=True)
class Listing:
    """Every batch created since a watermark.

    :param now: the API's clock at the time of the listing.
    :param by_id: the batches as the API lists them.
    """

    batches: tuple[Candidate, ...]
    now: datetime
    by_id: Mapping[str, MessageBatch]


def list_batches_since(client: ClaudeClient, part: Part, *, clock: Callable[[], datetime]) -> Listing:
    """List the batches created since the part's watermark.

    ``before_id`` asks for exactly these. If the watermark was deleted, the API refuses that or returns nothing. Then
    the listing is read from the newest batch back to the watermark's creation time.
    """
    pages: list[BatchPage] = []
    if part.watermark is not None:
        try:
            pages = list(_pages_after(client, part.watermark))
        except (BadRequestError, NotFoundError):
            pages = []
    if part.watermark is None or not any(page.data for page in pages):
        pages = list(_pages_back_to(client, part.watermark, part.watermark_at))
    by_id = {batch.id: batch for page in pages for batch in page.data if batch.id != part.watermark}
    return Listing(tuple(map(_candidate, by_id.values())), pages[0].server_time or clock(), by_id)


def read_first_custom_id(client: ClaudeClient, batch_id: str) -> str:
    """Return the custom_id of an ended batch's first result line, empty if its results are gone."""
    try:
        with client.stream_results(batch_id) as lines:
            for line in lines:
                return decode_result_line(line).custom_id
    except NotFoundError:
        pass
    return ""


def _pages_after(client: ClaudeClient, watermark: str) -> Iterator[BatchPage]:
    page, seen = check_all_read(client.list_batches(before_id=watermark, limit=limits.LIST_LIMIT)), {watermark}
    yield page
    while page.has_more and page.data:
        edge = newer_edge(page)
        check_moves(edge, seen)
        seen.add(edge)
        page = check_all_read(client.list_batches(before_id=edge, limit=limits.LIST_LIMIT))
        yield page


def _pages_back_to(client: ClaudeClient, watermark: str | None, watermark_at: datetime | None) -> Iterator[BatchPage]:
    page, seen = check_all_read(client.list_batches(limit=limits.LIST_LIMIT)), set[str]()
    yield page
    while page.has_more and page.data and not _reaches(page, watermark, watermark_at):
        edge = older_edge(page)
        check_moves(edge, seen)
        seen.add(edge)
        page = check_all_read(client.list_batches(after_id=edge, limit=limits.LIST_LIMIT))
        yield page


def _reaches(page: BatchPage, watermark: str | None, watermark_at: datetime | None) -> bool:
    """Return whether the page goes back as far as the watermark, which may have been deleted."""
    return any(
        batch.id == watermark or (watermark_at is not None and batch.created_at < watermark_at) for batch in page.data
    )


def _candidate(batch: MessageBatch) -> Candidate:
    return Candidate(batch.id, batch.request_counts.total, batch.ended, batch.created_at)
