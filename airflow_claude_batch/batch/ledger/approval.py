"""Record of the question whether a submission may be sent, and of the answer to it. Part of the ledger."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from airflow_claude_batch.api.wire import Timestamp, check_year
from airflow_claude_batch.batch.ledger.count import Count


class ApprovalState(StrEnum):
    """How far the question is. The values are the stored ones."""

    #: A sample has ended, and nobody was asked yet.
    SAMPLED = "sampled"
    ASKED = "asked"
    APPROVED = "approved"
    REJECTED = "rejected"
    #: Nobody answered in time, which counts as rejected.
    TIMED_OUT = "timed_out"


class Approval(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The question about one input, and its answer.

    An approval holds for the requests that it was asked for, up to the amount that it was asked for.
    """

    #: Digest of the requests.
    input: str
    state: ApprovalState
    #: Attempt that asked last.
    attempt: str = ""
    #: When it asked, and until when it waits for an answer.
    asked_at: Timestamp | None = None
    until: Timestamp | None = None
    #: The most that the submission may cost in all, with what was spent before, in USD. None: a price is not known.
    usd: str | None = None
    #: What it was expected to cost in all.
    expected_usd: str | None = None
    #: Who answered, and when. Nobody if the time ran out.
    by: str | None = None
    answered_at: Timestamp | None = None
    #: Number of requests that were sent as a sample before the question.
    sampled: Count = 0
    #: Number of requests whose tokens the API had counted for the question.
    counted: Count = 0

    def __post_init__(self) -> None:
        for moment in (self.asked_at, self.until, self.answered_at):
            if moment is not None:
                check_year(moment)

    @property
    def is_refused(self) -> bool:
        """Return whether the answer was no, or none came in time."""
        return self.state in (ApprovalState.REJECTED, ApprovalState.TIMED_OUT)

    def permits(self, digest: str, most: Decimal | None, *, tolerance: Decimal = Decimal(0)) -> bool:
        """Return whether these requests may be sent, if the whole submission may cost this much.

        An approval of an unknown amount permits every amount.

        :param most: upper bound of the submission in USD. None if it is not known.
        :param tolerance: share of the amount by which two estimates of the same requests may differ.
        """
        if self.state is not ApprovalState.APPROVED or self.input != digest:
            return False
        return self.usd is None or (most is not None and most <= Decimal(self.usd) * (1 + tolerance))

    def waited(self, attempt: str, now: datetime) -> timedelta:
        """Return how long this attempt has waited for the answer."""
        if self.attempt != attempt or self.asked_at is None:
            return timedelta()
        until = self.until if self.until is not None else now
        return max((self.answered_at or min(now, until)) - self.asked_at, timedelta())
