"""Record of a message batch whose results could not be read whole so far. Part of the ledger."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from airflow_claude_batch.api.wire import BatchId, Timestamp, check_year
from airflow_claude_batch.batch.ledger.count import Count


class Trouble(StrEnum):
    """Why the results of a message batch could not be read. The values are the stored ones."""

    #: The API does not find the batch.
    NO_BATCH = "no_batch"
    #: The batch has ended, but the API does not find its results.
    NO_RESULTS = "no_results"
    #: Rows that the API counts were not in the results.
    FEWER_ROWS = "fewer_rows"


class UnreadBatch(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message batch whose results could not be read whole, at the last poll and at all since ``since``."""

    batch_id: BatchId
    trouble: Trouble
    #: The first and the last poll with this trouble, by the worker's clock.
    since: Timestamp
    last_at: Timestamp
    #: Number of such polls. 0: the results are to be read at once.
    polls: Count = 1
    #: How long the trouble has lasted for certain. One long gap between two polls may be a wrong clock.
    seconds: float = 0.0
    #: What the API said.
    reason: str = ""
    #: Rows that came, and rows that should have come.
    rows: Count = 0
    expected: Count = 0
    #: An attempt has waited for the rest until its timeout.
    waited_out: bool = False

    def __post_init__(self) -> None:
        check_year(self.since)
        check_year(self.last_at)
