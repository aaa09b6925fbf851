"""One message batch: its state and its JSON.

Requests with invalid params are found at the creation. As in the API, they show only after the batch has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_claude_batch.simulator.batches.create_body import StoredRequests
from airflow_claude_batch.simulator.clock import timestamp
from airflow_claude_batch.simulator.messages.canned_answers import CannedAnswer
from airflow_claude_batch.simulator.messages.outcomes import (
    EXPIRED,
    SUCCEEDED,
    Outcome,
)
from airflow_claude_batch.simulator.messages.params import Conditions, Params
from airflow_claude_batch.simulator.messages.prompts import NO_CACHE_USE, CacheUse

LIFETIME = timedelta(hours=24)
RESULTS_LIFETIME = timedelta(days=29)  # since the creation, batch-processing docs
KINDS = ("processing", "succeeded", "errored", "canceled", "expired")

OutcomeScript = Callable[[str, Params, int], "str | None"]


@dataclass(slots=True, eq=False)
class Batch:
    """One message batch.

    :param number: its position in the order of creation, over all workspaces.
    :param problems: outcomes of requests with invalid params, by position.
    :param cached: positions of requests that contain ``cache_control``.
    :param attempts: for an outcome function: number of batches so far with each request's params, this one included.
    :param ends_at: when it will end, unless it is canceled or its duration changes.
    :param finished_share: share of its requests that finish before it ends.
    :param unfinished: outcome of the others.
    :param outcomes: outcomes by position, except ordinary successes.
    :param canned: canned answers by position, found when the batch ended.
    """

    id: str
    number: int
    workspace: str
    created_at: datetime
    requests: StoredRequests
    conditions: Conditions
    problems: dict[int, Outcome]
    cached: list[int]
    attempts: list[int]
    ends_at: datetime
    unlisted_until: datetime
    unlisted_calls: int = 0
    finished_share: float = 1.0
    unfinished: Outcome = EXPIRED
    cancel_initiated_at: datetime | None = None
    ended_at: datetime | None = None
    deleted: bool = False
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    canned: dict[int, CannedAnswer] = field(default_factory=dict)
    cache_uses: dict[int, CacheUse] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    downloads: int = 0

    @property
    def request_count(self) -> int:
        return len(self.requests)

    @property
    def processing_status(self) -> str:
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_initiated_at is None else "canceling"

    def archived_at(self, now: datetime) -> datetime | None:
        moment = self.created_at + RESULTS_LIFETIME
        return moment if now >= moment else None

    def outcome(self, position: int) -> Outcome:
        return self.outcomes.get(position, SUCCEEDED)

    def cache_use(self, position: int) -> CacheUse:
        return self.cache_uses.get(position, NO_CACHE_USE)

    def to_json(self, *, now: datetime, base_url: str) -> dict[str, Any]:
        """Build the API's MessageBatch, with its fields in the API's order."""
        archived_at = self.archived_at(now)
        has_results = self.ended_at is not None and archived_at is None
        counts = self.counts if self.ended_at is not None else {"processing": self.request_count}
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.processing_status,
            "request_counts": {kind: counts.get(kind, 0) for kind in KINDS},
            "ended_at": timestamp(self.ended_at),
            "created_at": timestamp(self.created_at),
            "expires_at": timestamp(self.created_at + LIFETIME),
            "archived_at": timestamp(archived_at),
            "cancel_initiated_at": timestamp(self.cancel_initiated_at),
            "results_url": f"{base_url}/v1/messages/batches/{self.id}/results" if has_results else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """Choices where the API's behavior is open or unknown. `Simulator` documents them."""

    queue_limit: int | None = None
    cancel_seconds: float = 0.0
    cancel_succeeded_share: float = 0.0
    cancel_ended: Literal["error", "unchanged"] = "error"
    unknown_cursor: Literal["error", "empty"] = "error"
    results_base_url: str | None = None
    shuffle: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBatch:
    """The content of a create call after all checks of its body."""

    workspace: str
    requests: StoredRequests
    conditions: Conditions
    problems: dict[int, Outcome]
    cached: list[int]
    digests: list[bytes] | None = None
    unlisted_seconds: float = 0.0
    unlisted_calls: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the list, newest first."""

    batches: list[Batch]
    has_more: bool
