"""Search for a batch whose id is unknown: the API calls that ``decide`` needs."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api import limits
from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.listing import check_moves, older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch, decode_result_line
from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.ledger.part import Part
from airflow_claude_batch.batch.recover.clocks import Moment
from airflow_claude_batch.batch.recover.decide import Candidate, Trust, oldest_creation
from airflow_claude_batch.exceptions import APIError, APIStatusError, MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: The first page of a search is small, because the watermark is nearly always on it. The exact size varies with the
#: time, so that a cache on the way, which keeps pages by their URL, has no old one.
_FIRST_PAGE: Final = 20
_PAGE_SIZES: Final = 60
#: So many batches in a row that are older than the watermark end a search for one that was deleted.
_OLDER_IN_A_ROW: Final = 20
#: Lines of a result stream that are read to find one that names its custom_id.
_PEEKED_LINES: Final = 100


@dataclass(frozen=True, slots=True)
class Listing:
    """Every batch created since a watermark.

    :param now: the time of the listing.
    :param trust: whether a batch may be missing from it.
    :param by_id: the batches as the API lists them.
    """

    batches: tuple[Candidate, ...]
    now: Moment
    trust: Trust
    by_id: Mapping[str, MessageBatch]

    def with_batch(self, batch: MessageBatch) -> Listing:
        """Add a batch that the listing lacks although the API has it."""
        candidate = candidate_of(batch, is_listed_newer=True)
        batches = (*self.batches, candidate)
        return Listing(batches, self.now, Trust.CONTRADICTED, {**self.by_id, batch.id: batch})


def list_batches_since(client: ClaudeClient, part: Part, *, clock: Callable[[], datetime]) -> Listing:
    """List the batches created since the part's watermark, from the newest back to the watermark.

    Batches just beyond the watermark are listed too, because the clocks of the API's nodes differ by seconds. If the
    watermark was deleted, its creation time tells where to end.
    """
    pages: list[BatchPage] = []
    first_at, newer, older, found = clock(), dict[str, MessageBatch](), dict[str, MessageBatch](), False
    for page in _pages(client, part, first_at):
        pages.append(page)
        for batch in page.data:
            found = found or batch.id == part.watermark
            if batch.id != part.watermark:
                (older if found else newer)[batch.id] = batch
    now = Moment(first_at, pages[0].server_time)
    trust = _trust(client, part, pages, has_watermark=found)
    candidates = [candidate_of(batch, is_listed_newer=found) for batch in newer.values()]
    candidates += [candidate_of(batch) for batch in older.values()]
    return Listing(tuple(candidates), now, trust, older | newer)


def candidate_of(batch: MessageBatch, *, is_listed_newer: bool = False) -> Candidate:
    """Return what ``decide`` needs of a listed batch."""
    counts = batch.request_counts
    return Candidate(
        batch.id,
        counts.total,
        batch.ended,
        batch.created_at,
        succeeded=counts.succeeded,
        is_listed_newer=is_listed_newer,
    )


def read_first_custom_id(client: ClaudeClient, batch_id: str, *, rows: int = 1) -> str | None:
    """Return the first custom_id in an ended batch's results that this package has made, else the first at all.

    A row of a stranger may come first. None if no line names its custom_id, or if the stream is too short to tell.

    :param rows: the number of rows that the batch must have.
    :raises APIError: the results cannot be read.
    """
    first, count = None, 0
    with client.stream_results(batch_id) as lines:
        for line in itertools.islice(lines, _PEEKED_LINES):
            count += 1
            with contextlib.suppress(MalformedResponseError):
                custom_id = decode_result_line(line).custom_id
                if parse_custom_id(custom_id) is not None:
                    return custom_id
                first = first or custom_id or None
    return first if count >= min(rows, _PEEKED_LINES) else None


def _pages(client: ClaudeClient, part: Part, now: datetime) -> Iterator[BatchPage]:
    smaller = int(now.timestamp()) % _PAGE_SIZES
    limit, seen, walk = _FIRST_PAGE + smaller, set[str](), _Walk(part)
    page = client.list_batches(limit=limit)
    yield page
    while page.has_more and page.data and not walk.has_ended(page):
        edge = older_edge(page)
        check_moves(edge, seen)
        seen.add(edge)
        page = client.list_batches(after_id=edge, limit=limits.LIST_LIMIT - smaller)
        yield page


class _Walk:
    """Tells when a walk from the newest batch has gone back far enough."""

    def __init__(self, part: Part) -> None:
        self._watermark = part.watermark
        self._oldest = oldest_creation(part.watermark_at) if part.watermark_at else None
        self._has_watermark = False
        self._older_in_a_row = 0

    def has_ended(self, page: BatchPage) -> bool:
        """Take the next page into account. Return whether no batch beyond it can be newer than the watermark.

        Beyond the watermark the first batch that is certainly older ends the walk. Without the watermark, one batch
        does not: its node's clock may be slow.
        """
        if self._oldest is None:
            return False
        for batch in page.data:
            self._has_watermark = self._has_watermark or batch.id == self._watermark
            self._older_in_a_row = self._older_in_a_row + 1 if batch.created_at < self._oldest else 0
            if self._older_in_a_row >= (1 if self._has_watermark else _OLDER_IN_A_ROW):
                return True
        return False


def _trust(client: ClaudeClient, part: Part, pages: list[BatchPage], *, has_watermark: bool) -> Trust:
    """Compare the listing with what was listed before: a cache or another node of the API may have given an old one."""
    if len(pages) > 1 and not pages[-1].data:
        return Trust.CONTRADICTED  # the page before it said that there is more
    if sum(page.unreadable for page in pages) > part.unreadable_before:
        return Trust.CONTRADICTED  # a new entry that cannot be read may be the batch
    if part.watermark is None or has_watermark:
        return Trust.WHOLE
    try:
        client.retrieve_batch(part.watermark)
    except APIStatusError as error:
        is_deleted = proof_of(error) is Proof.DOES_NOT_EXIST
    except APIError:
        is_deleted = False
    else:
        return Trust.CONTRADICTED
    return Trust.WHOLE if is_deleted and any(page.data for page in pages) else Trust.UNPROVEN


def confirm(client: ClaudeClient, part: Part, listing: Listing) -> Listing:
    """List once more, with another query, what is newer than the watermark. Used before a part is sent again.

    :return: the listing, with the batches that it lacked. It is contradicted if it lacked any, or if the response shows
        that something on the way answers every query with the same page.
    """
    if part.watermark is None:
        return listing
    try:
        page = client.list_batches(before_id=part.watermark, limit=limits.LIST_LIMIT)
    except APIStatusError as error:
        is_deleted = proof_of(error) in (Proof.DOES_NOT_EXIST, Proof.REFUSED)
        return listing if is_deleted else replace(listing, trust=Trust.CONTRADICTED)
    for batch in page.data:
        if batch.id == part.watermark:
            return replace(listing, trust=Trust.CONTRADICTED)
        if batch.id not in listing.by_id:
            listing = listing.with_batch(batch)
    return listing
