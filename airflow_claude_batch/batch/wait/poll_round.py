"""Poll many message batches in one round, with as few API calls as possible.

A round is a generator without I/O. It yields the calls to make, is sent their responses, and returns the result. The
watcher drives it with an async client, the blocking wait with a sync one.

A single batch is retrieved. Several are read from the listing, newest first, until the oldest of them has passed. The
rest is retrieved one by one. The workspace may hold far more batches than ours, so the round leaves the listing for
single calls as soon as its pages contain few of ours.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from airflow_claude_batch.api.limits import DEFAULT_LIST_LIMIT, LIST_LIMIT
from airflow_claude_batch.api.listing import older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.batch.wait.schedule import PollError, PollErrorKind, classify_error
from airflow_claude_batch.exceptions import MalformedResponseError

#: A page with fewer of our batches than this costs more, in bytes and decoding, than retrieving them.
MIN_MATCHES_PER_PAGE: Final = 10
#: How many batches are retrieved at the same time, and in one round at most. Those left over come first in the next.
CONCURRENT_RETRIEVES: Final = 8
MAX_RETRIEVES_PER_ROUND: Final = 64
#: How far our clock may differ from the API's when ``created_at`` is an estimate of ours.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """A call that retrieves one batch."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """A call that reads a page of the listing: the newest batches, or those older than ``after_id``."""

    limit: int
    after_id: str | None = None


Call = Retrieve | ListPage
Response = MessageBatch | BatchPage | PollError
PollRound = Generator[list[Call], list[Response], "PollResult"]


@dataclass(slots=True)
class PollResult:
    """The result of a poll round.

    :param batches: the watched batches that the API showed, by id.
    :param denied: the error of each batch that the API does not know or refuses to show.
    :param error: the error that ended the round early, or None.
    :param may_list: False if the listing was refused: some credentials may retrieve but not list.
    :param listed: whether a page of the listing was read.
    :param list_error: the error of the listing, or None.
    :param retrieved: the batches that were retrieved, not read from the listing.
    :param calls: how many API calls the round made.
    """

    batches: dict[str, MessageBatch] = field(default_factory=dict)
    denied: dict[str, PollError] = field(default_factory=dict)
    error: PollError | None = None
    may_list: bool = True
    listed: bool = False
    list_error: PollError | None = None
    retrieved: set[str] = field(default_factory=set)
    calls: int = 0


def poll_round(
    due: Mapping[str, datetime | None],
    *,
    watched: Collection[str],
    may_list: bool = True,
    is_probe: bool = False,
    unconfirmed: Collection[str] = (),
    check: str | None = None,
) -> PollRound:
    """Poll the batches that are due.

    :param due: when each batch was created, None if unknown; the most urgent first.
    :param watched: all batches to look for. A page may also contain some that are not due yet.
    :param may_list: False if the listing failed a short time ago.
    :param is_probe: the last round failed, so try a single call before several at once.
    :param unconfirmed: batches whose end is believed only from a call for them alone, not from a listing.
    :param check: a batch to retrieve although it is listed, to find out whether the listing is out of date.

    Example, as the blocking wait drives it::

        round = poll_round(watch_list.due(now), watched=watch_list.batch_ids)
        try:
            calls = next(round)
            while True:
                calls = round.send([call_api(call) for call in calls])
        except StopIteration as stop:
            result = stop.value
    """
    result = PollResult(may_list=may_list)
    if may_list and len(due) > 1:
        yield from _read_listing(due, watched, unconfirmed, result)
        if check in result.batches and not result.error:
            yield from _check_listing(check, result)
    remaining = [batch_id for batch_id in due if batch_id not in result.batches]
    yield from _retrieve(remaining[:MAX_RETRIEVES_PER_ROUND], result, 1 if is_probe else CONCURRENT_RETRIEVES)
    return result


def _read_listing(
    due: Mapping[str, datetime | None], watched: Collection[str], unconfirmed: Collection[str], result: PollResult
) -> Generator[list[Call], list[Response], None]:
    oldest = _oldest(due.values())
    limit = min(LIST_LIMIT, max(DEFAULT_LIST_LIMIT, 2 * len(watched)))
    cursor, remaining, poor_pages = None, set(due), 0
    while True:
        [page] = yield [ListPage(limit, cursor)]
        result.calls += 1
        if not isinstance(page, BatchPage):
            _record_refused_page(page, cursor, result)
            return
        result.listed = True
        believed = [batch for batch in page.data if not (batch.ended and batch.id in unconfirmed)]
        result.batches.update((batch.id, batch) for batch in believed if batch.id in watched)
        before = len(remaining)
        remaining.difference_update(batch.id for batch in believed)
        poor_pages += before - len(remaining) < min(MIN_MATCHES_PER_PAGE, before)
        if len(remaining) <= max(1, poor_pages * MIN_MATCHES_PER_PAGE) or _is_last(page, oldest):
            return
        cursor, limit = older_edge(page), min(LIST_LIMIT, 2 * limit)


def _check_listing(batch_id: str, result: PollResult) -> Generator[list[Call], list[Response], None]:
    """Retrieve a listed batch. If it has ended and the listing does not say so, forget what the listing says."""
    listed = result.batches[batch_id]
    [response] = yield [Retrieve(batch_id)]
    result.calls += 1
    result.retrieved.add(batch_id)
    if not isinstance(response, MessageBatch):
        return
    if response.ended and not listed.ended:
        result.list_error = MalformedResponseError("The listing of message batches is out of date: a cache gave it.")
        result.batches.clear()
    result.batches[batch_id] = response


def _oldest(created: Iterable[datetime | None]) -> datetime | None:
    """Return a time before which no batch was created, or None unless the creation time of all is known."""
    times = list(created)
    known = [time for time in times if time]
    return min(known) - CLOCK_TOLERANCE if len(known) == len(times) else None


def _is_last(page: BatchPage, oldest: datetime | None) -> bool:
    if not page.has_more or not page.data:
        return True
    return oldest is not None and page.data[-1].created_at < oldest


def _record_refused_page(error: Response, cursor: str | None, result: PollResult) -> None:
    """Go on with single calls if the listing is refused: their responses show what is wrong, if anything is."""
    if not isinstance(error, PollError):
        return
    result.list_error = error
    if classify_error(error) is PollErrorKind.OUTAGE:
        result.error = error
    elif cursor is None:
        result.may_list = False


def _retrieve(
    batch_ids: list[str], result: PollResult, first_calls: int
) -> Generator[list[Call], list[Response], None]:
    refused: dict[str, PollError] = {}
    start, count = 0, first_calls
    while start < len(batch_ids) and not result.error:
        chunk = batch_ids[start : start + count]
        responses = yield [Retrieve(batch_id) for batch_id in chunk]
        result.calls += len(chunk)
        for batch_id, response in zip(chunk, responses, strict=True):
            _record_response(batch_id, response, result, refused)
        start, count = start + len(chunk), CONCURRENT_RETRIEVES
        if refused and not _was_let_in(result):
            break
    if refused and _was_let_in(result):
        result.denied.update(refused)
    elif refused and not result.error:
        result.error = next(iter(refused.values()))


def _was_let_in(result: PollResult) -> bool:
    """Tell whether the credential was accepted in this round. Then a refusal concerns its batch alone."""
    return result.listed or bool(result.batches)


def _record_response(batch_id: str, response: Response, result: PollResult, refused: dict[str, PollError]) -> None:
    result.retrieved.add(batch_id)
    if isinstance(response, MessageBatch):
        result.batches[batch_id] = response
    elif isinstance(response, PollError):
        match classify_error(response):
            case PollErrorKind.DENIED:
                result.denied[batch_id] = response
            case PollErrorKind.UNAUTHORIZED:
                refused[batch_id] = response
            case PollErrorKind.OUTAGE:
                result.error = response
