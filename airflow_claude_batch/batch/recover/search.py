"""Looking for a batch whose id we do not have: the calls behind the decision of ``reconcile``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_claude_batch.api import limits
from airflow_claude_batch.api.listing import check_moves, newer_edge, older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch, decode_result_line
from airflow_claude_batch.batch.ledger.ledger import Part
from airflow_claude_batch.batch.recover.decide import Candidate
from airflow_claude_batch.exceptions import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


@dataclass(frozen=True, slots=True)
class Listing:
    """Every batch made since a watermark, and the API's clock at that moment.

    :param found: the batches as the API lists them, by id.
    """

    batches: tuple[Candidate, ...]
    now: datetime
    found: Mapping[str, MessageBatch]


def list_batches_since(client: ClaudeClient, part: Part, *, clock: Callable[[], datetime]) -> Listing:
    """The batches made since the part's watermark.

    ``before_id`` asks for just these. A watermark that was deleted meanwhile is refused by the API, or answered
    with nothing: then the listing is walked from the newest back to the watermark's own creation time.
    """
    pages: list[BatchPage] = []
    if part.watermark is not None:
        try:
            pages = list(_newer(client, part.watermark))
        except (BadRequestError, NotFoundError):
            pages = []
    if part.watermark is None or not any(page.data for page in pages):
        pages = list(_newest_first(client, part.watermark, part.watermark_at))
    found = {batch.id: batch for page in pages for batch in page.data if batch.id != part.watermark}
    return Listing(tuple(map(_candidate, found.values())), pages[0].server_time or clock(), found)


def first_custom_id(client: ClaudeClient, batch_id: str) -> str:
    """The custom_id of an ended batch's first result line, empty if its results cannot be had any more."""
    try:
        with client.stream_results(batch_id) as lines:
            for line in lines:
                return decode_result_line(line).custom_id
    except NotFoundError:
        pass
    return ""


def _newer(client: ClaudeClient, watermark: str) -> Iterator[BatchPage]:
    page, passed = client.list_batches(before_id=watermark, limit=limits.LIST_LIMIT), {watermark}
    yield page
    while page.has_more and page.data:
        edge = newer_edge(page)
        check_moves(edge, passed)
        passed.add(edge)
        page = client.list_batches(before_id=edge, limit=limits.LIST_LIMIT)
        yield page


def _newest_first(client: ClaudeClient, watermark: str | None, watermark_at: datetime | None) -> Iterator[BatchPage]:
    page, passed = client.list_batches(limit=limits.LIST_LIMIT), set[str]()
    yield page
    while page.has_more and page.data and not _reaches(page, watermark, watermark_at):
        edge = older_edge(page)
        check_moves(edge, passed)
        passed.add(edge)
        page = client.list_batches(after_id=edge, limit=limits.LIST_LIMIT)
        yield page


def _reaches(page: BatchPage, watermark: str | None, watermark_at: datetime | None) -> bool:
    """Whether the page goes back as far as the watermark, present or deleted."""
    return any(
        batch.id == watermark or (watermark_at is not None and batch.created_at < watermark_at) for batch in page.data
    )


def _candidate(batch: MessageBatch) -> Candidate:
    return Candidate(batch.id, batch.request_counts.total, batch.ended, batch.created_at)
