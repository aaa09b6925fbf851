"""Waiting that holds its thread: the synchronous twin of the watcher, on the same decisions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Protocol

from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.wait import log_messages, schedule
from airflow_claude_batch.batch.wait.poll_round import Answer, Call, ListPage, PollResult, poll_round
from airflow_claude_batch.batch.wait.schedule import WaitFor, utc_now
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult
from airflow_claude_batch.batch.wait.watch_list import WatchList, WatchListChanges
from airflow_claude_batch.exceptions import APIError, ConfigurationError

log = logging.getLogger(__name__)


class BatchReader(Protocol):
    """What waiting needs of :class:`~airflow_claude_batch.api.client.ClaudeClient`."""

    @property
    def calls_per_minute(self) -> int | None: ...
    def retrieve_batch(self, batch_id: str) -> MessageBatch: ...
    def list_batches(self, *, limit: int, after_id: str | None = None) -> BatchPage: ...


def wait_for_batches(
    client: BatchReader,
    batch_ids: Collection[str],
    *,
    wait_for: WaitFor = "all",
    poll_interval: float = 60.0,
    until: datetime | None = None,
    created_at: datetime | None = None,
    connection: str = "",
    clock: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
    observer: Observer | None = None,
) -> WaitResult:
    """Wait until all (or any) of the batches have ended, or until ``until``.

    It looks once at least: with ``until`` in the past it is what a sensor that pokes needs. Without batches it is a
    mere timer, without both it comes back at once.

    :param created_at: a guess at when the oldest was created, which saves calls at the beginning.
    :param connection: its id, for messages.
    """
    watched, slept = WatchList(), 0.0
    for batch_id in batch_ids:
        watched.add(batch_id, poll_interval=poll_interval, created_at=created_at, now=slept)
    ended: dict[str, BatchState] = {}
    while True:
        if _is_time(watched, slept):
            findings = _survey(client, watched, slept, observer or NullObserver())
            report = watched.note(findings, now=slept, calls_per_minute=client.calls_per_minute)
            _log(log_messages.about_the_road(report, connection))
            ended |= _take(findings, watched, slept, clock())
            if ended and (wait_for == "any" or not watched.batch_ids):
                return WaitResult("ended", ended | _states(watched))
            if wake := _given_up(report, ended | _states(watched), connection):
                return wake
        if schedule.is_due(until, clock()) or (until is None and not watched.batch_ids):
            return WaitResult("due", ended | _states(watched))
        pause = _pause(watched.next_look_at(), slept, until, clock())
        sleep(pause)
        slept += pause


def _is_time(watched: WatchList, now: float) -> bool:
    next_look_at = watched.next_look_at()
    return next_look_at is not None and next_look_at <= now


def _survey(client: BatchReader, watched: WatchList, now: float, observer: Observer) -> PollResult:
    asking = poll_round(watched.due(now), watched=watched.batch_ids, may_list=watched.may_list)
    try:
        calls = next(asking)
        while True:
            calls = asking.send([_ask(client, call, observer) for call in calls])
    except StopIteration as stop:
        findings: PollResult = stop.value
        return findings


def _ask(client: BatchReader, call: Call, observer: Observer) -> Answer:
    try:
        if isinstance(call, ListPage):
            return client.list_batches(limit=call.limit, after_id=call.after_id)
        return client.retrieve_batch(call.batch_id)
    except (APIError, ConfigurationError) as error:
        observer.poll_failed(error)
        return error


def _take(findings: PollResult, watched: WatchList, now: float, wall: datetime) -> dict[str, BatchState]:
    """Take in what was seen; return, and watch no more, what has ended."""
    ended = {}
    for batch in watched.see(findings.seen.values(), now=now, wall=wall):
        _log([log_messages.status_changed(batch)])
        if batch.ended:
            ended[batch.id] = BatchState.of(batch)
            watched.remove(batch.id)
    return ended


def _states(watched: WatchList) -> dict[str, BatchState]:
    seen = {batch_id: watched.last_seen(batch_id) for batch_id in watched.batch_ids}
    return {batch_id: BatchState.of(batch) for batch_id, batch in seen.items() if batch}


def _given_up(report: WatchListChanges, states: dict[str, BatchState], connection: str) -> WaitResult | None:
    if report.refused:
        return WaitResult.failed(log_messages.refused(report.refused, connection), report.refused, states)
    if report.gone:
        return WaitResult.gone(log_messages.gone(report.gone, connection), report.gone, states)
    return None


def _log(lines: Iterable[log_messages.Line]) -> None:
    for level, text, args in lines:
        log.log(level, text, *args)


def _pause(next_look_at: float | None, now: float, until: datetime | None, wall: datetime) -> float:
    pauses = [next_look_at - now] if next_look_at is not None else []
    if until is not None:
        pauses.append((until - wall).total_seconds())
    return max(0.0, min(pauses))
