"""Record of a part: what one create call carries, and the message batch that it became. Part of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from airflow_claude_batch.api.wire import BatchId, MessageBatch, Timestamp, check_year
from airflow_claude_batch.batch.ledger.count import Count


class AnswerUse(StrEnum):
    """How the answers of a part are used. The values are the stored ones."""

    #: The part was made from the current input.
    CURRENT = "ours"
    #: The part was made from an earlier input. Its indices are not valid now; answers are matched by content.
    PREVIOUS_INPUT = "moved"
    #: The answers are not used: the batch is canceled.
    DISCARD = "unwanted"


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Requests of one create call: those between ``first`` and ``last`` that had no final answer at that time.

    A sample has only some of them, which it names.
    """

    #: Prefix of every custom_id in the part. It identifies our batch among all others.
    token: str
    #: Indices of the first and the last request.
    first: Count
    last: Count
    #: Number of requests. Not every request between the first and the last has to be in the part.
    count: Count
    #: Size of the create call's body in bytes.
    size: Count
    #: Attempt that made the part, and its round.
    attempt: str
    round: Count
    #: When the intent was written, by the API's clock if the API sent it.
    intended_at: Timestamp
    #: The same moment by the worker's clock. None in parts of earlier releases, or if the API did not send its clock.
    intended_at_worker: Timestamp | None = None
    #: Newest batch of the workspace at that time, and its creation time. None in an empty workspace.
    watermark: BatchId | None = None
    watermark_at: Timestamp | None = None
    #: Batches created just before the watermark, which were listed too. So they are not the part's.
    listed_before: tuple[BatchId, ...] = ()
    #: Entries of that listing which could not be read.
    unreadable_before: Count = 0
    #: The API itself refused the create call, so its batch is looked for without a grace.
    refused: bool = False
    #: The API's clock at the first search, if it was not known when the intent was written.
    searched_since: Timestamp | None = None
    #: Batches that the part may have become, and those whose results turned out to be somebody else's.
    candidates: tuple[BatchId, ...] = ()
    foreign: tuple[BatchId, ...] = ()
    #: Candidates with an odd count or creation time. Only their results can tell that they are not the part's.
    odd_candidates: tuple[BatchId, ...] = ()
    #: The search has taken so long that batches which are no candidates yet cannot be the part's.
    has_all_candidates: bool = False
    #: None while the part is an intent.
    batch_id: BatchId | None = None
    created_at: Timestamp | None = None
    expires_at: Timestamp | None = None
    #: The rows of the batch are in the published results.
    landed: bool = False
    #: Number of requests without a row, although the rows are published. They are not sent again.
    missing: Count = 0
    answers: AnswerUse = AnswerUse.CURRENT
    #: The requests of a sample, ascending. Empty in all other parts.
    sample: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        if not self.first <= self.last or self.count > self.last - self.first + 1:
            raise ValueError("a part counts more requests than lie between its first and its last")
        check_year(self.intended_at)

    def with_batch(self, batch: MessageBatch) -> Part:
        """Return the part with its batch, without what only the search for it needs."""
        return msgspec.structs.replace(
            self,
            batch_id=batch.id,
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            listed_before=(),
            unreadable_before=0,
            refused=False,
            searched_since=None,
            candidates=(),
            odd_candidates=(),
            foreign=(),
            has_all_candidates=False,
        )

    @property
    def indices(self) -> Sequence[int]:
        """The requests that may be in the part. Those that had an answer before are not."""
        return self.sample or range(self.first, self.last + 1)

    @property
    def is_intent(self) -> bool:
        """Return whether no batch of the part is known yet."""
        return self.batch_id is None

    @property
    def is_open(self) -> bool:
        """Return whether the part has a batch whose rows are not published yet."""
        return self.batch_id is not None and not self.landed
