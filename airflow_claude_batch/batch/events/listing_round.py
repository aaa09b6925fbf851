"""Read the newest message batches of a workspace, and the older ones that are still of interest.

A round is a generator without I/O, as :func:`~airflow_claude_batch.batch.wait.poll_round.poll_round` is: it yields the
calls to make, is sent their responses, and returns the result. Most rounds are one call.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.limits import LIST_LIMIT
from airflow_claude_batch.api.listing import check_moves, older_edge
from airflow_claude_batch.api.wire import BatchPage, MessageBatch
from airflow_claude_batch.batch.wait.poll_round import Call, ListPage, PollResult, Response, poll_round
from airflow_claude_batch.batch.wait.schedule import PollError
from airflow_claude_batch.exceptions import APIError, MalformedResponseError

#: So many batches in a row that are too old end the walk. One does not: the clocks of the API's nodes differ.
OLDER_IN_A_ROW: Final = 20
#: The first page holds the new batches of most rounds, and the old ones that end the walk.
FIRST_PAGE: Final = 2 * OLDER_IN_A_ROW
#: The exact size varies, so that a cache on the way, which keeps pages by their URL, has no old one.
PAGE_SIZES: Final = 60
#: More batches than this, that the walk has not met, are looked for in the listing. Fewer are retrieved.
MAX_SINGLE_CALLS: Final = 10


@dataclass(slots=True)
class Reading:
    """The batches as one round has read them.

    :param back_to: every batch created at or after this time is in it. None: every batch.
    :param wanted: the older batches that it looked for.
    :param now: when it was read, by the API's clock if a response has told it.
    :param denied: the error of each wanted batch that the API does not know or refuses to show.
    :param error: why the round is of no use, or None.
    :param unreadable: how many entries of the listing are no batch in any known form.
    """

    back_to: datetime | None
    wanted: frozenset[str]
    now: datetime
    batches: dict[str, MessageBatch] = field(default_factory=dict)
    denied: dict[str, PollError] = field(default_factory=dict)
    error: PollError | None = None
    unreadable: int = 0
    calls: int = 0

    def covers(self, back_to: datetime | None, wanted: Collection[str]) -> bool:
        """Tell whether the reading goes back to this time, and has looked for these batches."""
        if self.back_to is not None and (back_to is None or back_to < self.back_to):
            return False
        return all(batch_id in self.batches or batch_id in self.wanted for batch_id in wanted)


ListingRound = Generator[list[Call], list[Response], Reading]


def listing_round(
    back_to: datetime | None, wanted: Sequence[str], *, now: datetime, number: int = 0, is_probe: bool = False
) -> ListingRound:
    """Read every batch created at or after a time, and the wanted ones.

    :param wanted: ids of batches, which may be older. The first come first, because a round may be too short for all.
    :param now: this machine's time.
    :param number: the number of the round. Page sizes vary with it.
    :param is_probe: the last round failed, so try a single call before several at once.
    """
    reading = Reading(back_to, frozenset(wanted), now)
    yield from _walk(reading, FIRST_PAGE + number % PAGE_SIZES)
    missing = [batch_id for batch_id in wanted if batch_id not in reading.batches]
    if missing and reading.error is None:
        may_list = len(missing) > MAX_SINGLE_CALLS
        polled = yield from poll_round(
            dict.fromkeys(missing), watched=missing, may_list=may_list, is_probe=is_probe and not may_list
        )
        _add(polled, reading)
    return reading


def _walk(reading: Reading, limit: int) -> Generator[list[Call], list[Response], None]:
    """Walk from the newest batch back to the first of those that are too old."""
    cursor, passed, older_in_a_row = None, set[str](), 0
    while True:
        [page] = yield [ListPage(limit, cursor)]
        reading.calls += 1
        if not isinstance(page, BatchPage):
            reading.error = _error_of(page)
            return
        if cursor is None and page.server_time is not None:
            reading.now = page.server_time
        reading.unreadable += page.unreadable
        for batch in page.data:
            reading.batches[batch.id] = batch
            is_older = reading.back_to is not None and batch.created_at < reading.back_to
            older_in_a_row = older_in_a_row + 1 if is_older else 0
        if not page.has_more or older_in_a_row >= OLDER_IN_A_ROW:
            return
        try:
            cursor = _next_cursor(page, passed)
        except MalformedResponseError as error:
            reading.error = error
            return
        limit = min(LIST_LIMIT, 2 * limit)


def _next_cursor(page: BatchPage, passed: set[str]) -> str:
    if not page.data:
        raise MalformedResponseError("The listing of message batches says that there is more, but shows nothing.")
    cursor = older_edge(page)
    check_moves(cursor, passed)
    passed.add(cursor)
    return cursor


def _error_of(response: Response) -> PollError:
    if isinstance(response, MessageBatch | BatchPage):
        return APIError("The listing of message batches was answered with something else.")
    return response


def _add(polled: PollResult, reading: Reading) -> None:
    reading.batches.update(polled.batches)
    reading.denied.update(polled.denied)
    reading.calls += polled.calls
    reading.error = polled.error
