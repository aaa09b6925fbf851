"""Wait for message batches in the calling thread. It makes the same decisions as the watcher, with a sync client."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Final, Protocol

from airflow_claude_batch.api.time_limit import time_limit
from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.batch.observer import NullObserver, Observer
from airflow_claude_batch.batch.wait import log_messages, schedule
from airflow_claude_batch.batch.wait.poll_round import Call, ListPage, PollResult, Response
from airflow_claude_batch.batch.wait.progress import Known, progress
from airflow_claude_batch.batch.wait.schedule import WaitFor, utc_now
from airflow_claude_batch.batch.wait.wait_result import BatchState, WaitResult
from airflow_claude_batch.batch.wait.watch_list import WatchList, WatchListChanges
from airflow_claude_batch.exceptions import APIError, ConfigurationError

log = logging.getLogger(__name__)

#: The time for the calls of a round that begins at the deadline, or just before it.
MIN_POLL_SECONDS: Final = 15.0


class BatchReader(Protocol):
    """The part of :class:`~airflow_claude_batch.api.client.ClaudeClient` that a wait uses."""

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
    unconfirmed: Collection[str] = (),
    known: Known | None = None,
    reconnect: Callable[[], None] | None = None,
    connection: str = "",
    clock: Callable[[], datetime] = utc_now,
    sleep: Callable[[float], None] = time.sleep,
    observer: Observer | None = None,
) -> WaitResult:
    """Wait until all (or any) of the batches have ended, or until ``until``.

    The batches are polled at least once, so ``until`` in the past makes a single poll. Without batches it sleeps until
    ``until``. Without both it returns at once.

    :param poll_interval: the longest interval between two polls, in seconds. Young batches are polled more often.
    :param until: the deadline; None for none.
    :param created_at: when the oldest batch was created, if the caller knows. It saves calls at the beginning.
    :param unconfirmed: those that an earlier wait reported as ended although they were not. They are not polled at
        once, and only a call for such a batch alone is believed.
    :param known: what the task knows of its other batches, for the log.
    :param reconnect: reads the connection again and gives the client its settings. Called at growing intervals while
        the API rejects the credential.
    :param connection: the connection's id, for messages.
    :param observer: counts failed polls.

    Example::

        result = wait_for_batches(client, ["msgbatch_01AbCd"], until=datetime.now(UTC) + timedelta(hours=25))
        if result.status == "ended": ...
    """
    watch_list, slept, logged = WatchList(), 0.0, 0.0
    for batch_id in batch_ids:
        watch_list.add(
            batch_id,
            poll_interval=poll_interval,
            created_at=created_at,
            now=slept,
            is_unconfirmed=batch_id in unconfirmed,
        )
    ended: dict[str, BatchState] = {}
    while True:
        if _is_poll_due(watch_list, slept):
            with time_limit(_poll_seconds(until, clock())):
                result = _poll(client, watch_list, slept, observer or NullObserver())
            changes = watch_list.finish_round(result, now=slept, calls_per_minute=client.calls_per_minute)
            _write(log_messages.outage_lines(changes, connection))
            if changes.denials:
                _write([log_messages.not_found(changes.denials, connection)])
            ended |= _record(result, watch_list, slept, clock())
            if ended and (wait_for == "any" or not watch_list.batch_ids):
                return WaitResult("ended", ended | _states(watch_list))
            if failure := _failure(changes, ended | _states(watch_list), connection):
                return failure
            if changes.reconnect and reconnect is not None:
                reconnect()
        if schedule.is_due(until, clock()) or (until is None and not watch_list.batch_ids):
            return WaitResult("due", ended | _states(watch_list))
        pause = _pause(watch_list.next_poll_at(), slept, until, clock())
        sleep(pause)
        slept += pause
        if slept - logged >= schedule.LOG_INTERVAL_SECONDS and watch_list.batch_ids and not watch_list.outage:
            logged = slept
            log.info("%s", _progress(known or Known(), ended, watch_list, clock()))


def _is_poll_due(watch_list: WatchList, now: float) -> bool:
    next_poll_at = watch_list.next_poll_at()
    return next_poll_at is not None and next_poll_at <= now


def _poll(client: BatchReader, watch_list: WatchList, now: float, observer: Observer) -> PollResult:
    round_ = watch_list.begin_round(now)
    try:
        calls = next(round_)
        while True:
            calls = round_.send([_call(client, call, observer) for call in calls])
    except StopIteration as stop:
        result: PollResult = stop.value
        return result


def _call(client: BatchReader, call: Call, observer: Observer) -> Response:
    try:
        if isinstance(call, ListPage):
            return client.list_batches(limit=call.limit, after_id=call.after_id)
        return client.retrieve_batch(call.batch_id)
    except (APIError, ConfigurationError) as error:
        observer.poll_failed(error)
        return error


def _record(result: PollResult, watch_list: WatchList, now: float, wall: datetime) -> dict[str, BatchState]:
    """Record the batches of a round; return those that have ended and watch them no longer."""
    ended = {}
    for batch in watch_list.update_batches(result.batches.values(), now=now, wall=wall):
        _write([log_messages.status_changed(batch)])
        if batch.ended:
            ended[batch.id] = BatchState.of(batch)
            watch_list.remove(batch.id)
    return ended


def _poll_seconds(until: datetime | None, now: datetime) -> float:
    """Return how long the calls of a round may take: to the deadline, but long enough for a call that succeeds."""
    return math.inf if until is None else max(MIN_POLL_SECONDS, (until - now).total_seconds())


def _progress(known: Known, ended: dict[str, BatchState], watch_list: WatchList, now: datetime) -> str:
    ids = tuple(watch_list.batch_ids)
    return progress(known, ended.values(), watch_list.states(ids), watch_list.oldest(ids), now)


def _states(watch_list: WatchList) -> dict[str, BatchState]:
    return {id_: state for id_, state in watch_list.states(tuple(watch_list.batch_ids)).items() if state}


def _failure(changes: WatchListChanges, states: dict[str, BatchState], connection: str) -> WaitResult | None:
    if changes.unauthorized:
        text = log_messages.unauthorized(changes.unauthorized, connection)
        return WaitResult.failed(text, changes.unauthorized, states)
    if changes.confirmed_denials:
        text = log_messages.denied(changes.confirmed_denials, connection)
        return WaitResult.denied(text, changes.confirmed_denials, states)
    return None


def _write(lines: Iterable[log_messages.LogLine]) -> None:
    for level, text, args in lines:
        log.log(level, text, *args)


def _pause(next_poll_at: float | None, now: float, until: datetime | None, wall: datetime) -> float:
    pauses = [next_poll_at - now] if next_poll_at is not None else []
    if until is not None:
        pauses.append((until - wall).total_seconds())
    return max(0.0, min(pauses))
