"""One round of asking after many message batches, with as few calls as it takes.

A survey is a generator without I/O: it yields the calls to make, is sent their answers, and returns what it found.
The watcher drives it with an async client, the synchronous wait with a sync one.

One batch is retrieved. Several are read off the listing, newest first, until the oldest of them is passed; what the
listing did not show is retrieved singly. The workspace may hold far more batches than ours, so pages that show few of
ours are soon given up for single calls.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from airflow_claude_batch.api.listing import older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.batch.wait.schedule import PollError, PollErrorKind, classify_error

#: The listing's limits: 1 to 1000 (API reference), 20 by default.
SMALLEST_PAGE, LARGEST_PAGE = 20, 1000
#: A page that shows fewer of ours than this costs more (bytes, decoding) than retrieving them.
WORTH_A_PAGE = 10
#: Single calls at a time, and in one round; what is left over comes first in the next.
SINGLES_AT_ONCE, MOST_SINGLES = 8, 64
#: Our clock may differ from the API's when ``created_at`` is a guess of ours.
CLOCK_SLACK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Retrieve:
    """Ask after one batch."""

    batch_id: str


@dataclass(frozen=True, slots=True)
class ListPage:
    """Ask for a page of the listing, older than ``after_id``."""

    limit: int
    after_id: str | None = None


Call = Retrieve | ListPage
Answer = MessageBatch | BatchPage | PollError
PollRound = Generator[list[Call], list[Answer], "PollResult"]


@dataclass(slots=True)
class PollResult:
    """What a survey found.

    :param seen: the watched batches that were seen, by id.
    :param doubts: what the API said of those that it did not show.
    :param trouble: the error that ended the survey early, or None.
    :param listed: whether the credential may list: some that may retrieve may not.
    """

    seen: dict[str, MessageBatch] = field(default_factory=dict)
    doubts: dict[str, PollError] = field(default_factory=dict)
    trouble: PollError | None = None
    listed: bool = True
    calls: int = 0


def poll_round(wanted: Mapping[str, datetime | None], *, watched: Collection[str], may_list: bool = True) -> PollRound:
    """Ask after the wanted batches.

    :param wanted: when each was created, None if not known; those to be asked after first come first.
    :param watched: all that are waited for: what a page shows of them anyway is found too.
    :param may_list: false if the listing was refused before.
    """
    findings = PollResult(listed=may_list)
    if may_list and len(wanted) > 1:
        yield from _read_listing(wanted, watched, findings)
    unseen = [batch_id for batch_id in wanted if batch_id not in findings.seen]
    yield from _retrieve(unseen[:MOST_SINGLES], findings)
    return findings


def _read_listing(
    wanted: Mapping[str, datetime | None], watched: Collection[str], findings: PollResult
) -> Generator[list[Call], list[Answer], None]:
    horizon = _horizon(wanted.values())
    limit = min(LARGEST_PAGE, max(SMALLEST_PAGE, 2 * len(watched)))
    cursor, unseen, poor_pages = None, set(wanted), 0
    while True:
        [page] = yield [ListPage(limit, cursor)]
        findings.calls += 1
        if not isinstance(page, BatchPage):
            _note_page_refused(page, cursor, findings)
            return
        findings.seen.update((batch.id, batch) for batch in page.data if batch.id in watched)
        before = len(unseen)
        unseen.difference_update(batch.id for batch in page.data)
        poor_pages += before - len(unseen) < min(WORTH_A_PAGE, before)
        if len(unseen) <= max(1, poor_pages * WORTH_A_PAGE) or _is_last(page, horizon):
            return
        cursor, limit = older_edge(page), min(LARGEST_PAGE, 2 * limit)


def _horizon(created: Iterable[datetime | None]) -> datetime | None:
    times = list(created)
    known = [time for time in times if time]
    return min(known) - CLOCK_SLACK if len(known) == len(times) else None


def _is_last(page: BatchPage, horizon: datetime | None) -> bool:
    if not page.has_more or not page.data:
        return True
    return horizon is not None and page.data[-1].created_at < horizon


def _note_page_refused(error: Answer, cursor: str | None, findings: PollResult) -> None:
    """A refused listing leaves the single calls, which will say what is wrong if anything is."""
    if isinstance(error, PollError) and classify_error(error) is PollErrorKind.OUTAGE:
        findings.trouble = error
    elif cursor is None:
        findings.listed = False


def _retrieve(batch_ids: list[str], findings: PollResult) -> Generator[list[Call], list[Answer], None]:
    for start in range(0, len(batch_ids), SINGLES_AT_ONCE):
        if findings.trouble:
            return
        some = batch_ids[start : start + SINGLES_AT_ONCE]
        answers = yield [Retrieve(batch_id) for batch_id in some]
        findings.calls += len(some)
        for batch_id, answer in zip(some, answers, strict=True):
            _note(batch_id, answer, findings)


def _note(batch_id: str, answer: Answer, findings: PollResult) -> None:
    if isinstance(answer, MessageBatch):
        findings.seen[batch_id] = answer
    elif isinstance(answer, PollError):
        if classify_error(answer) is PollErrorKind.DENIED:
            findings.doubts[batch_id] = answer
        else:
            findings.trouble = answer
