"""Model of an API workspace, with everything that makes the search for a lost create call hard.

It has the operations of :class:`~airflow_claude_batch.api.client.ClaudeClient` that sending and recovery use, in
process and without HTTP, so that thousands of random histories take seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from airflow_claude_batch.api.wire import BatchPage, MessageBatch, RequestCounts
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    BadRequestError,
    NotFoundError,
    OverloadedError,
    SubmissionTakenOverError,
)

START = datetime(2026, 11, 22, 9, 0, 0, 250_000, tzinfo=UTC)
DAY = timedelta(hours=24)


class Killed(BaseException):
    """The process was killed here. None of our code runs after it."""


@dataclass(slots=True, eq=False)
class ModelBatch:
    """A message batch.

    :param owner: prefix of its custom_ids.
    :param indices: our requests in it. Empty for a batch of somebody else.
    :param listed_at: when it appears in the listing, later than its creation if the listing is delayed.
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
    """Create call whose sender is gone or has stopped waiting. It may still be accepted before ``until``."""

    token: str
    indices: tuple[int, ...]
    until: datetime


@dataclass(slots=True)
class ModelWorkspace:
    """All batches of one workspace, and the API's clock.

    :param next_outcome: what happens to the next create call, see ``create_batch``.
    :param listing_delay: how late new batches of ours are listed.
    :param late_acceptance: how long after its deadline an upload may still be accepted.
    :param page: largest number of batches on a page of the listing.
    :param unknown_cursor: response to a deleted cursor: ``error`` or ``empty``.
    :param sends_date: whether responses have a Date header.
    :param date_offset: how far that header is off.
    :param node_offset: how far the clock is off that sets ``created_at`` of new batches.
    """

    now: datetime = START
    batches: list[ModelBatch] = field(default_factory=list)
    uploads: list[Upload] = field(default_factory=list)
    next_outcome: str = "answered"
    listing_delay: timedelta = timedelta()
    late_acceptance: timedelta = timedelta()
    page: int = 1000
    unknown_cursor: str = "error"
    sends_date: bool = True
    date_offset: timedelta = timedelta()
    node_offset: timedelta = timedelta()
    calls: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    # ------------------------------------------------------------------ what others, and time, do

    def add(
        self, owner: str, count: int, *, indices: tuple[int, ...] = (), listing_delay: timedelta = timedelta()
    ) -> ModelBatch:
        number = next(self._numbers)
        created_at = self.now + self.node_offset
        batch = ModelBatch(f"msgbatch_{number:04d}", owner, count, indices, created_at, self.now + listing_delay)
        self.batches.append(batch)
        return batch

    def accept(self, upload: Upload) -> ModelBatch:
        self.uploads.remove(upload)
        return self.add(upload.token, len(upload.indices), indices=upload.indices, listing_delay=self.listing_delay)

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
                raise BadRequestError(f"Invalid cursor {cursor}", status_code=400, error_type="invalid_request_error")
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
            raise NotFoundError(f"{batch_id} has no results", status_code=404, error_type="not_found_error")
        yield (
            msgspec.json.encode({"custom_id": f"{batch.owner}-{n}-{'h' * 22}", "result": {"type": "expired"}})
            for n in range(batch.count)
        )

    def create_batch(
        self, body: Any, *, deadline_seconds: float, may_send_again: Callable[[], bool] = lambda: True
    ) -> MessageBatch:
        """Do what ``next_outcome`` says, once.

        * ``answered``: accepted.
        * ``refused``: a 529 response.
        * ``lost``: accepted, but the response is lost.
        * ``dropped``: not accepted, and the caller cannot tell.
        * ``killed before``, ``killed after``: the process is killed before or after the acceptance.
        * ``uploading``, ``killed uploading``: not accepted yet. It may be until the deadline plus ``late_acceptance``.
        """
        self.calls.append("create")
        next_outcome, self.next_outcome = self.next_outcome, "answered"
        indices = tuple(body.indices)
        if deadline_seconds <= 0:
            next_outcome = "dropped"
        if next_outcome in ("answered", "lost", "killed after"):
            batch = self.add(body.token, len(indices), indices=indices, listing_delay=self.listing_delay)
        if "uploading" in next_outcome:
            until = self.now + timedelta(seconds=deadline_seconds) + self.late_acceptance
            self.uploads.append(Upload(body.token, indices, until))
        if next_outcome.startswith("killed"):
            raise Killed
        if next_outcome == "refused":
            raise OverloadedError("overloaded", status_code=529, error_type="overloaded_error")
        if next_outcome != "answered":
            raise APIConnectionError("no answer", may_have_been_accepted=True)
        return self._wire(batch)

    def _get(self, batch_id: str) -> ModelBatch:
        found = [batch for batch in self.batches if batch.id == batch_id and not batch.deleted]
        if not found:
            raise NotFoundError(f"{batch_id} not found", status_code=404, error_type="not_found_error")
        return found[0]

    def _page(self, batches: list[ModelBatch], *, more: bool) -> BatchPage:
        data = [self._wire(batch) for batch in batches]
        # The Date header has whole seconds.
        now = (self.now + self.date_offset).replace(microsecond=0) if self.sends_date else None
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
    """Ledger store in memory that survives the killed processes."""

    data: bytes | None = None
    chunks: dict[str, bytes] = field(default_factory=dict)
    #: The next save may replace another attempt's ledger.
    has_claimed: bool = False
    #: Number of saves until one kills the process (0: never), and whether that save is still done.
    kill_at: int = 0
    kill_after: bool = False
    #: How long the process is suspended after each save.
    pause: timedelta = timedelta()
    workspace: ModelWorkspace | None = None

    def claim(self) -> None:
        self.has_claimed = True

    def load(self) -> bytes | None:
        return self.data

    def load_chunk(self, name: str) -> bytes | None:
        return self.chunks.get(name)

    def save(self, head: bytes, chunks: Mapping[str, bytes]) -> None:
        if not self.has_claimed:
            self.check_owner(json.loads(head)["attempt"])
        self.kill_at -= 1
        if self.kill_at == 0 and not self.kill_after:
            raise Killed
        self.data, self.chunks, self.has_claimed = head, dict(chunks), False
        if self.workspace is not None:
            self.workspace.advance(self.pause)
        if self.kill_at == 0:
            raise Killed

    def check_owner(self, attempt: str) -> None:
        if self.data is None or json.loads(self.data)["attempt"] != attempt:
            raise SubmissionTakenOverError("Another attempt owns the ledger.")
