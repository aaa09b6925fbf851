"""A workspace of the API as a model: what a search for a lost create can be up against, and nothing else.

It has the operations of :class:`~airflow_claude_batch.api.client.ClaudeClient` that sending and recovery use, in
process and without HTTP, so that thousands of histories take seconds.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_claude_batch.api.wire import BatchPage, MessageBatch, RequestCounts
from airflow_claude_batch.exceptions import APIConnectionError, BadRequestError, NotFoundError, OverloadedError

START = datetime(2026, 11, 22, 9, 0, 0, 250_000, tzinfo=UTC)
DAY = timedelta(hours=24)


class Killed(BaseException):
    """The process ended here. No code of ours gets to run after it."""


@dataclass(slots=True, eq=False)
class ModelBatch:
    """A batch. ``owner`` starts its custom_ids; ``listed_at`` is later than its creation where the listing lags.

    ``indices``: which requests of ours are in it; none of another's.
    """

    id: str
    owner: str
    count: int
    indices: tuple[int, ...]
    created_at: datetime
    listed_at: datetime
    ended_at: datetime | None = None
    deleted: bool = False
    archived: bool = False


@dataclass(slots=True, eq=False)
class Upload:
    """A create whose sender is gone or no longer listens: it may still be accepted, until ``until``."""

    token: str
    indices: tuple[int, ...]
    until: datetime


@dataclass(slots=True)
class ModelWorkspace:
    """All batches of one workspace, and the API's clock.

    ``fate``: what becomes of the next create; see ``create_batch``. ``lag``: how late new batches of ours are listed.
    ``slack``: how long after its deadline an upload may still be accepted. ``page``: how many a page of a listing has
    at most. ``unknown_cursor``: what a deleted cursor gives. ``tells_time``: whether answers have a Date.
    """

    now: datetime = START
    batches: list[ModelBatch] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    fate: str = "answered"
    lag: timedelta = timedelta()
    slack: timedelta = timedelta()
    page: int = 1000
    unknown_cursor: str = "error"
    tells_time: bool = True
    calls: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # ------------------------------------------------------------------ what others, and time, do

    def add(self, owner: str, count: int, *, indices: tuple[int, ...] = (), lag: timedelta = timedelta()) -> ModelBatch:
        number = next(self._numbers)
        batch = ModelBatch(f"msgbatch_{number:04d}", owner, count, indices, self.now, self.now + lag)
        self.batches.append(batch)
        return batch

    def accept(self, upload: Upload) -> ModelBatch:
        self.uploads.remove(upload)
        return self.add(upload.token, len(upload.indices), indices=upload.indices, lag=self.lag)

    def end(self, batch: ModelBatch) -> None:
        batch.ended_at = batch.ended_at or self.now

    def advance(self, by: timedelta) -> None:
        self.now += by
        self.uploads = [upload for upload in self.uploads if upload.until >= self.now]
        for batch in self.batches:
            if batch.ended_at is None and self.now >= batch.created_at + DAY:
                batch.ended_at = batch.created_at + DAY

    @property
    def ours(self) -> list[ModelBatch]:
        return [batch for batch in self.batches if batch.indices]

    # ------------------------------------------------------------------ the API

    def list_batches(self, *, before_id: str | None = None, after_id: str | None = None, limit: int = 20) -> BatchPage:
        self.calls.append("list")
        newest_first = [batch for batch in reversed(self.batches) if not batch.deleted]
        ids = [batch.id for batch in newest_first]
        cursor = before_id or after_id
        if cursor is not None and cursor not in ids:
            if self.unknown_cursor == "error":
                raise BadRequestError(f"Invalid cursor {cursor}", status_code=400)
            return self._page([], more=False)
        before = newest_first[: ids.index(before_id)] if before_id else newest_first
        matching = before[ids.index(after_id) + 1 :] if after_id else before
        listed = [batch for batch in matching if batch.listed_at <= self.now]
        limit = min(limit, self.page)
        return self._page(listed[-limit:] if before_id else listed[:limit], more=len(listed) > limit)

    def retrieve_batch(self, batch_id: str) -> MessageBatch:
        self.calls.append("retrieve")
        return self._wire(self._get(batch_id))

    @contextlib.contextmanager
    def stream_results(self, batch_id: str) -> Iterator[Iterator[bytes]]:
        self.calls.append("results")
        batch = self._get(batch_id)
        if batch.ended_at is None or batch.archived:
            raise NotFoundError(f"{batch_id} has no results", status_code=404)
        yield (
            msgspec.json.encode({"custom_id": f"{batch.owner}-{n}-{'h' * 22}", "result": {"type": "expired"}})
            for n in range(batch.count)
        )

    def create_batch(self, body: Any, *, deadline_seconds: float) -> MessageBatch:
        """Do as ``fate`` says, once.

        ``answered``; ``refused`` (529); ``lost`` (accepted, the answer did not come); ``dropped`` (not accepted, and
        nobody can tell); ``killed before``, ``killed after`` the acceptance; ``uploading`` and ``killed uploading``:
        not accepted yet, but until the deadline and ``slack`` are over it may be.
        """
        self.calls.append("create")
        fate, self.fate = self.fate, "answered"
        indices = tuple(body.indices)
        if deadline_seconds <= 0:
            fate = "dropped"
        if fate in ("answered", "lost", "killed after"):
            batch = self.add(body.token, len(indices), indices=indices, lag=self.lag)
        if "uploading" in fate:
            until = self.now + timedelta(seconds=deadline_seconds) + self.slack
            self.uploads.append(Upload(body.token, indices, until))
        if fate.startswith("killed"):
            raise Killed
        if fate == "refused":
            raise OverloadedError("overloaded", status_code=529)
        if fate != "answered":
            raise APIConnectionError("no answer", may_have_been_accepted=True)
        return self._wire(batch)

    def _get(self, batch_id: str) -> ModelBatch:
        found = [batch for batch in self.batches if batch.id == batch_id and not batch.deleted]
        if not found:
            raise NotFoundError(f"{batch_id} not found", status_code=404)
        return found[0]

    def _page(self, batches: list[ModelBatch], *, more: bool) -> BatchPage:
        data = [self._wire(batch) for batch in batches]
        # The Date header has whole seconds.
        now = self.now.replace(microsecond=0) if self.tells_time else None
        return BatchPage(
            data=data,
            has_more=more,
            first_id=data[0].id if data else None,
            last_id=data[-1].id if data else None,
            server_time=now,
        )

    def _wire(self, batch: ModelBatch) -> MessageBatch:
        ended = batch.ended_at is not None
        return MessageBatch(
            id=batch.id,
            processing_status="ended" if ended else "in_progress",
            request_counts=RequestCounts(expired=batch.count) if ended else RequestCounts(processing=batch.count),
            created_at=batch.created_at,
            expires_at=batch.created_at + DAY,
            ended_at=batch.ended_at,
            archived_at=batch.ended_at if batch.archived else None,
        )


@dataclass(slots=True)
class MemoryStore:
    """A ledger store that survives its processes: a test's variable."""

    data: bytes | None = None
    #: Which save kills the process (0: none; it is counted down), and whether the save is still done.
    kill_at: int = 0
    kill_after: bool = False
    #: How long the process stands still after each save.
    pause: timedelta = timedelta()
    workspace: ModelWorkspace | None = None

    def claim(self) -> None:
        pass

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.kill_at -= 1
        if self.kill_at == 0 and not self.kill_after:
            raise Killed
        self.data = data
        if self.workspace is not None:
            self.workspace.advance(self.pause)
        if self.kill_at == 0:
            raise Killed
