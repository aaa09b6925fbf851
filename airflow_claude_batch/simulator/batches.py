"""Message batches: their states, and the rules by which they come, end and go.

A batch's ending is worked out when somebody first looks after its time has come, but dated to that time.
Which requests have invalid params is known from the creation on, and shown, as in the API, only at the end.
"""

from __future__ import annotations

import math
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from airflow_claude_batch.simulator.catalogue import usable_model
from airflow_claude_batch.simulator.clock import Clock, timestamp
from airflow_claude_batch.simulator.creation import Item, StoredRequests
from airflow_claude_batch.simulator.errors import Refusal
from airflow_claude_batch.simulator.ids import new_id
from airflow_claude_batch.simulator.outcomes import (
    CANCELED,
    EXPIRED,
    INTERNAL_ERROR,
    SUCCEEDED,
    ParsedResult,
)
from airflow_claude_batch.simulator.params import Conditions, Params
from airflow_claude_batch.simulator.prompts import NO_CACHE_USE, CacheUse, PromptCache

LIFETIME = timedelta(hours=24)
RESULTS_KEPT = timedelta(days=29)  # counted from the creation, batch-processing docs
KINDS = ("processing", "succeeded", "errored", "canceled", "expired")

OutcomeScript = Callable[[str, Params, int], "str | None"]


@dataclass(slots=True, eq=False)
class Batch:
    """One message batch.

    :param number: its place in the order of creation, over all workspaces.
    :param problems: the endings of requests with invalid params, by position.
    :param cached: positions of requests that carry ``cache_control``.
    :param attempts: for scripted outcomes: in how many batches each request's params have been by now.
    :param ends_at: when it ends, as things stand.
    :param unfinished: what becomes of requests that are not done by then, and `finished_share` how many are.
    :param endings: how requests ended, by position, other than succeeded in the ordinary way.
    """

    id: str
    number: int
    workspace: str
    created_at: datetime
    requests: StoredRequests
    conditions: Conditions
    problems: dict[int, ParsedResult]
    cached: list[int]
    attempts: list[int]
    ends_at: datetime
    unlisted_until: datetime
    unlisted_calls: int = 0
    finished_share: float = 1.0
    unfinished: ParsedResult = EXPIRED
    cancel_initiated_at: datetime | None = None
    ended_at: datetime | None = None
    deleted: bool = False
    endings: dict[int, ParsedResult] = field(default_factory=dict)
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
        moment = self.created_at + RESULTS_KEPT
        return moment if now >= moment else None

    def ending(self, position: int) -> ParsedResult:
        return self.endings.get(position, SUCCEEDED)

    def cache_use(self, position: int) -> CacheUse:
        return self.cache_uses.get(position, NO_CACHE_USE)

    def wire(self, *, now: datetime, base_url: str) -> dict[str, Any]:
        """The API's MessageBatch, fields in the order of the wire."""
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
class Rules:
    """What the simulator's owner decides where the API leaves room; explained at `simulator.Simulator`."""

    queue_limit: int | None = None
    cancel_seconds: float = 0.0
    cancel_succeeded_share: float = 0.0
    cancel_ended: Literal["error", "unchanged"] = "error"
    unknown_cursor: Literal["error", "empty"] = "error"
    results_base_url: str | None = None
    shuffle: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A checked create that only needs to be accepted."""

    workspace: str
    requests: StoredRequests
    conditions: Conditions
    problems: dict[int, ParsedResult]
    cached: list[int]
    digests: list[bytes] | None = None
    unlisted_seconds: float = 0.0
    unlisted_calls: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the list, newest first."""

    batches: list[Batch]
    has_more: bool


class MessageBatches:
    """All batches of one simulated organization.

    :param pace: seconds from creation to end, or a callable that gives them for a `Batch`.
    :param outcome: the script for outcomes, None: everything valid succeeds.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        rules: Rules,
        pace: float | Callable[[Batch], float],
        outcome: OutcomeScript | None,
    ) -> None:
        self._clock = clock
        self._rules = rules
        self._pace = pace
        self._outcome = outcome
        self._all: list[Batch] = []
        self._by_id: dict[str, Batch] = {}
        self._open: list[Batch] = []
        self._cache = PromptCache()
        self._attempts: Counter[bytes] = Counter()
        self._lock = threading.RLock()

    @property
    def counts_attempts(self) -> bool:
        """Whether a `Draft` needs digests of its params."""
        return self._outcome is not None

    def everything(self) -> list[Batch]:
        """All batches ever created, oldest first, deleted ones too."""
        with self._lock:
            self._settle()
            return list(self._all)

    def create(self, draft: Draft) -> Batch:
        """Accept a create; the batch is returned as it is at this moment, in progress.

        :raises Refusal: 429, when the processing queue would grow beyond its limit.
        """
        with self._lock:
            self._settle()
            self._check_queue(len(draft.requests))
            now = self._clock.now()
            batch = Batch(
                id=new_id("msgbatch_01"),
                number=len(self._all),
                workspace=draft.workspace,
                created_at=now,
                requests=draft.requests,
                conditions=draft.conditions,
                problems=draft.problems,
                cached=draft.cached,
                attempts=self._count_attempts(draft.digests),
                ends_at=now,
                unlisted_until=now + timedelta(seconds=draft.unlisted_seconds),
                unlisted_calls=draft.unlisted_calls,
            )
            self._schedule(batch)
            self._all.append(batch)
            self._by_id[batch.id] = batch
            self._open.append(batch)
            return replace(batch)

    def get(self, batch_id: str, *, workspace: str | None) -> Batch:
        """The batch of that id. A None workspace sees all of them.

        :raises Refusal: 404, also for a batch of another workspace.
        """
        with self._lock:
            self._settle()
            batch = self._by_id.get(batch_id)
            if batch is None or batch.deleted or workspace not in (None, batch.workspace):
                raise Refusal(404, f"Message Batch {batch_id} not found.")
            return batch

    def page(self, workspace: str, *, limit: int, after_id: str | None, before_id: str | None) -> Page:
        """A page of the workspace's batches, newest first.

        :param after_id: the page follows that batch (older ones).
        :param before_id: the page precedes that batch (newer ones, the nearest of them).
        """
        with self._lock:
            self._settle()
            newest_first = [b for b in reversed(self._all) if b.workspace == workspace and not b.deleted]
            cursor = self._position(newest_first, after_id or before_id)
            listed = self._listed(newest_first)
        if cursor is None:
            return Page([], has_more=False)
        if before_id is not None:
            newer = [batch for batch in listed if batch.number > cursor]
            return Page(newer[-limit:], has_more=len(newer) > limit)
        older = [batch for batch in listed if batch.number < cursor]
        return Page(older[:limit], has_more=len(older) > limit)

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel; a second time changes nothing."""
        with self._lock:
            self._settle()
            if batch.ended_at is not None:
                if self._rules.cancel_ended == "error":
                    raise Refusal(400, f"Batch {batch.id} has already ended and cannot be canceled.")
                return
            if batch.cancel_initiated_at is None:
                now = self._clock.now()
                batch.cancel_initiated_at = now
                drained_at = now + timedelta(seconds=self._rules.cancel_seconds)
                if drained_at <= batch.ends_at:
                    self._plan(batch, drained_at, self._rules.cancel_succeeded_share, CANCELED)

    def delete(self, batch: Batch) -> None:
        with self._lock:
            if batch.ended_at is None:
                message = "In progress batches cannot be deleted. Consider canceling the batch instead."
                raise Refusal(400, message)
            batch.deleted = True

    def set_pace(self, pace: float | Callable[[Batch], float]) -> None:
        """Change the pace, also of batches under way; none ends in the past by it."""
        with self._lock:
            self._settle()
            self._pace = pace
            for batch in self._open:
                if batch.cancel_initiated_at is None:
                    self._schedule(batch)

    def end(self, batch_id: str, *, succeeded_share: float, unfinished: ParsedResult = INTERNAL_ERROR) -> Batch:
        """End a batch now; the share that does not succeed gets ``unfinished``."""
        with self._lock:
            batch = self.get(batch_id, workspace=None)
            if batch.ended_at is None:
                self._plan(batch, self._clock.now(), succeeded_share, unfinished)
                self._settle()
            return batch

    def _settle(self) -> None:
        """End what is due, in the order of its times."""
        now = self._clock.now()
        due = sorted((batch for batch in self._open if batch.ends_at <= now), key=lambda batch: batch.ends_at)
        for batch in due:
            self._finish(batch)
        if due:
            self._open = [batch for batch in self._open if batch.ended_at is None]

    def _finish(self, batch: Batch) -> None:
        endings = dict(batch.problems)
        if self._outcome is not None:
            endings.update(self._scripted(batch, self._outcome))
        batch.endings = {**endings, **dict.fromkeys(self._left_over(batch), batch.unfinished)}
        batch.counts = Counter(ending.kind for ending in batch.endings.values())
        batch.counts["succeeded"] += batch.request_count - len(batch.endings)
        if batch.cached:
            self._use_cache(batch)
        batch.ended_at = batch.ends_at

    def _scripted(self, batch: Batch, script: OutcomeScript) -> Iterable[tuple[int, ParsedResult]]:
        for position, item in enumerate(batch.requests.items()):
            if position in batch.problems:
                continue
            said = script(item.custom_id, item.read_params(), batch.attempts[position])
            if said not in (None, "succeeded"):
                yield position, ParsedResult.parse(said)

    def _left_over(self, batch: Batch) -> list[int]:
        """The positions of the requests that are not done when the batch ends."""
        count = batch.request_count
        left = count - math.floor(count * batch.finished_share + 1e-9)
        dice = random.Random(f"{self._rules.seed}:{batch.number}")
        return dice.sample(range(count), left)

    def _use_cache(self, batch: Batch) -> None:
        items: list[Item] = batch.requests.items()
        for position in batch.cached:
            if batch.ending(position).kind != "succeeded":
                continue
            params = items[position].read_params()
            model = usable_model(params["model"], now=batch.conditions.now)
            if model is not None:
                batch.cache_uses[position] = self._cache.use(
                    params, model=model, workspace=batch.workspace, now=batch.ends_at
                )

    def _schedule(self, batch: Batch) -> None:
        seconds = self._pace(batch) if callable(self._pace) else self._pace
        lifetime = LIFETIME.total_seconds()
        ends_at = batch.created_at + timedelta(seconds=min(seconds, lifetime))
        share = 1.0 if seconds <= lifetime else lifetime / seconds
        self._plan(batch, max(ends_at, self._clock.now()), share, EXPIRED)

    @staticmethod
    def _plan(batch: Batch, ends_at: datetime, finished_share: float, unfinished: ParsedResult) -> None:
        batch.ends_at = ends_at
        batch.finished_share = finished_share
        batch.unfinished = unfinished

    def _check_queue(self, arriving: int) -> None:
        limit = self._rules.queue_limit
        queued = sum(batch.request_count for batch in self._open)
        if limit is not None and queued + arriving > limit:
            message = (
                f"This batch of {arriving} requests would exceed your organization's limit of {limit} requests "
                f"in the Message Batches processing queue ({queued} are in it)."
            )
            raise Refusal(429, message)

    def _count_attempts(self, digests: list[bytes] | None) -> list[int]:
        if digests is None:
            return []
        self._attempts.update(set(digests))
        return [self._attempts[digest] for digest in digests]

    def _position(self, newest_first: list[Batch], cursor: str | None) -> float | None:
        """Where a cursor stands in the order of creation; None if it is unknown and that means an empty page."""
        if cursor is None:
            return math.inf
        batch = next((batch for batch in newest_first if batch.id == cursor), None)
        if batch is not None:
            return batch.number
        if self._rules.unknown_cursor == "empty":
            return None
        raise Refusal(400, f"Invalid cursor: Message Batch {cursor} not found.")

    def _listed(self, batches: list[Batch]) -> list[Batch]:
        listed = []
        for batch in batches:
            if batch.unlisted_calls > 0:
                batch.unlisted_calls -= 1
            elif self._clock.now() >= batch.unlisted_until:
                listed.append(batch)
        return listed
