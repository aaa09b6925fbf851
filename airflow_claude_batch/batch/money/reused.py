"""What reused answers cost when they were asked for."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from airflow_claude_batch.api.wire import Timestamp
from airflow_claude_batch.batch.money.amounts import exact_usd


class ReusedSums(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sums over reused answers, as they are stored.

    :ivar usd: what they cost first, in decimal digits.
    :ivar unknown: number of answers whose first cost is not known.
    :ivar oldest: when the first of them was answered, and the last.
    """

    usd: str = "0"
    unknown: int = 0
    oldest: Timestamp | None = None
    newest: Timestamp | None = None

    def with_answer(self, usd: str | None, answered_at: datetime) -> ReusedSums:
        """Add one answer."""
        return self.plus(ReusedSums(usd=usd or "0", unknown=int(usd is None), oldest=answered_at, newest=answered_at))

    def without_answer(self, usd: str | None) -> ReusedSums:
        """Take one answer out. The times stay."""
        return self.plus(ReusedSums(usd=exact_usd(-Decimal(usd or "0")), unknown=-int(usd is None)))

    def plus(self, other: ReusedSums) -> ReusedSums:
        """Return the sums over both."""
        oldest = [at for at in (self.oldest, other.oldest) if at is not None]
        newest = [at for at in (self.newest, other.newest) if at is not None]
        return ReusedSums(
            usd=exact_usd(Decimal(self.usd) + Decimal(other.usd)),
            unknown=self.unknown + other.unknown,
            oldest=min(oldest, default=None),
            newest=max(newest, default=None),
        )

    def since(self, earlier: ReusedSums) -> ReusedSums:
        """Return what was added since, with the times of all."""
        usd = exact_usd(Decimal(self.usd) - Decimal(earlier.usd))
        return msgspec.structs.replace(self, usd=usd, unknown=self.unknown - earlier.unknown)

    def to_manifest(self, count: int) -> dict[str, Any]:
        """Return the sums as the manifest shows them.

        :param count: number of rows.
        """
        return {
            "requests": count,
            "first_usd": None if self.unknown else self.usd,
            "oldest_at": msgspec.to_builtins(self.oldest),
            "newest_at": msgspec.to_builtins(self.newest),
        }
