"""Decide from the numbers whether the results of an ended batch were read whole. Pure functions.

What was sent is evidence, and so are the API's ``request_counts``. A result stream that ends early looks like a whole
one. Counts may be odd too: empty, doubled, or lower than the rows. Nothing is paid for twice because of either.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_claude_batch.api.wire import RequestCounts


class Completeness(Enum):
    """What the numbers say about the rows of a batch."""

    WHOLE = "every request has a row"
    AGREED = "rows are missing, and the API counts no request for them"
    UNANSWERED = "rows are missing, all of requests that the API counts as not answered"
    PARTIAL = "rows are missing that the API may still have"


@dataclass(frozen=True, slots=True)
class RowCount:
    """Rows of one batch that were read so far, each custom_id once, and how many of them are answers."""

    rows: int
    answers: int


def expected_rows(counts: RequestCounts, sent: int | None) -> int:
    """Return how many rows a batch must have: one for each request that was sent."""
    return counts.total if sent is None else sent


def compare_rows(read: RowCount, counts: RequestCounts, sent: int | None) -> Completeness:
    """Compare the rows of a batch with what was sent and with the API's counts.

    Counts that contradict themselves, or the rows, agree with nothing. Nor does an empty stream: every batch has a row.

    :param sent: number of requests in the batch, None for a batch made elsewhere. Then the counts must tell.
    """
    expected = expected_rows(counts, sent)
    if not read.rows:
        return Completeness.PARTIAL
    if read.rows >= expected:
        return Completeness.WHOLE
    if counts.processing or counts.succeeded != read.answers:
        return Completeness.PARTIAL
    if counts.total == read.rows:
        return Completeness.AGREED
    return Completeness.UNANSWERED if counts.total == expected else Completeness.PARTIAL
