"""What the author of a task decides about a submission."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Literal

from airflow_claude_batch.api import limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The choices of one submission; the operator's arguments of the same names.

    ``on_lost``: what to do when the API gives no way to know what became of a batch.
    ``max_requests`` and ``max_bytes`` bound a part. ``max_cost``: USD that the submission may cost in all, and
    ``max_cost_name`` which setting says so.
    ``canary`` and ``warm_cache`` send one request alone first. ``repair_invalid``: whether repair rounds ask again also
    where the answer was not valid.
    """

    wait_for_completion: bool = True
    timeout: timedelta = timedelta(hours=25)
    on_timeout: Literal["cancel", "leave"] = "cancel"
    repair_rounds: int = 1
    repair_invalid: bool = False
    allow_failed: float = 0
    on_lost: Literal["stop", "resend"] = "stop"
    max_requests: int = limits.MAX_REQUESTS
    max_bytes: int = limits.MAX_BATCH_BYTES
    max_inline_bytes: int = 48 * 1024
    max_cost: Decimal | None = None
    max_cost_name: str = "max_cost"
    canary: bool = False
    warm_cache: bool = False
    delete_batches: bool = False
    results_format: Literal["jsonl", "parquet"] = "jsonl"

    def allowed_failures(self, request_count: int) -> int:
        """How many rows may end without an answer: a whole number is a count, a fraction a share."""
        if isinstance(self.allow_failed, int):
            return self.allow_failed
        return int(Decimal(repr(self.allow_failed)) * request_count)  # as written: 0.29 of 100 is 29, in floats 28
