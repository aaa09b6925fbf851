"""Download the results of one ended batch, and tell whether they were whole."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.evidence import Proof, proof_of
from airflow_claude_batch.api.time_limit import MIN_CALL_SECONDS, is_time_up
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.input.custom_id import has_token
from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE, keep_odd_lines
from airflow_claude_batch.batch.land.result_stream import DownloadSummary, read_results
from airflow_claude_batch.batch.land.row_counts import Completeness, RowCount, compare_rows, expected_rows
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import (
    APIConnectionError,
    APIError,
    MalformedResponseError,
    NotFoundError,
    ResultsError,
)

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: How often a truncated download is started, and how much longer each pause before it is than the one before.
TRIES: Final = 5
PAUSE_SECONDS: Final = 2.0
#: How often a stream is read whose unreadable lines differ from those of the try before.
ODD_LINE_TRIES: Final = 3
#: How often a 404 of the results is asked again at once.
NOT_FOUND_TRIES: Final = 3
#: custom_ids in one log line, and characters of each.
_LOGGED_IDS: Final = 3
_LOGGED_CHARACTERS: Final = 64


class Outcome(Enum):
    """How a download ended."""

    WHOLE = "every request has a row"
    AGREED = "rows are missing, and the API counts no request for them"
    UNANSWERED = "rows are missing, all of requests that the API counts as not answered"
    PARTIAL = "rows are missing that the API may still have"
    NOT_FOUND = "the API does not find the results; believed only when it lasts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What a download brought into the landing.

    :param rows: rows of the batch that are in the landing now, or came in the last stream.
    :param expected: rows that the batch must have.
    :param reason: what the API said, if it did not find the results.
    :param unplaced: custom_ids under the part's own token that name no request of it.
    :param unmatched: number of custom_ids in this package's form that name no request.
    """

    outcome: Outcome
    rows: int = 0
    expected: int = 0
    reason: str = ""
    unplaced: Sequence[str] = ()
    unmatched: int = 0

    @property
    def missing(self) -> int:
        return max(0, self.expected - self.rows)


def download_results(
    client: ClaudeClient,
    batch: MessageBatch,
    landing: Landing,
    *,
    sleep: Callable[[float], None],
    sent: int | None = None,
    token: str | None = None,
    members: Sequence[int] | None = None,
) -> Download:
    """Read the results of an ended batch into the landing, and retry truncated downloads.

    A truncated stream may come without any error. So its rows are compared with what was sent, and with the batch's own
    counts. If two complete streams bring the same rows, it is not read again at once. Lines that cannot be read may
    have been damaged on the way, so that they are read again, too.

    :param sent: number of requests in the batch, None if that is not known.
    :param token: begins every custom_id of the batch. None if it is not known, or if the input has changed since.
    :param members: the requests that may be in the batch, None if that is not known; see :func:`keep_odd_lines`.
    :raises ResultsError: every try was truncated, or the local disk refuses. The answers stay at the API.
    :raises APIError: the API refuses, or another failure of its response.
    """
    reader = _Reader(client, batch, landing, sent, token, members)
    began = time.monotonic()
    for number in range(TRIES):
        if number:
            pause = PAUSE_SECONDS * number
            text = "The download of the results of %s was incomplete (%s); trying again in %.0f s."
            log.warning(text, batch.id, reader.problem, pause)
            sleep(pause)
        if (download := reader.read(number)) is not None:
            return download
        if is_time_up() and time.monotonic() - began >= MIN_CALL_SECONDS:
            break
    downloads = quantity(number + 1, "download")
    raise ResultsError(
        f"The results of {batch.id} were incomplete in each of {downloads} (last: {reader.problem}).",
        "They stay at the API for 29 days from the batch's creation; a retry downloads them at no cost.",
        "Clear the task later. If it fails again, check what proxies between this worker and the API do to downloads.",
    )


@dataclass(slots=True)
class _Reader:
    """Reads one batch's results, try after try. ``problem`` says what was wrong with the last one."""

    client: ClaudeClient
    batch: MessageBatch
    landing: Landing
    sent: int | None
    token: str | None
    members: Sequence[int] | None
    problem: str = ""
    _rows_before: int = -1
    _odd_before: frozenset[bytes] = frozenset()

    def read(self, number: int) -> Download | None:
        """Read the stream once. Return None if it is to be read again at once.

        :param number: of this try, from 0.
        """
        try:
            with self.client.stream_results(self.batch.id) as lines:
                summary = read_results(self.landing, self.batch.id, lines)
        except NotFoundError as error:
            if proof_of(error) is not Proof.DOES_NOT_EXIST:
                raise
            self._fail(error)
            if number + 1 < NOT_FOUND_TRIES:
                return None
            return Download(outcome=Outcome.NOT_FOUND, expected=self._expected, reason=error.summary)
        except (APIConnectionError, MalformedResponseError) as error:
            self._fail(error)
            return None
        odd = frozenset(line.raw for line in summary.odd)
        if odd and odd != self._odd_before and number + 1 < ODD_LINE_TRIES:
            self.problem, self._odd_before, self._rows_before = quantity(len(odd), "unreadable line"), odd, -1
            return None
        return self._judge(summary, is_last=number + 1 == TRIES)

    @property
    def _expected(self) -> int:
        return expected_rows(self.batch.request_counts, self.sent)

    def _fail(self, error: APIError) -> None:
        self.problem, self._rows_before = error.summary.rstrip("."), -1

    def _judge(self, summary: DownloadSummary, *, is_last: bool) -> Download | None:
        """Compare a complete stream with what was sent, with the API's counts, and with the stream before."""
        expected = self._expected
        read = _count_rows(self.landing, self.batch.id, summary, expected)
        completeness = compare_rows(read, self.batch.request_counts, self.sent)
        if completeness is not Completeness.WHOLE and summary.rows != self._rows_before and not is_last:
            self.problem, self._rows_before = f"{read.rows} of {quantity(expected, 'row')}", summary.rows
            return None
        # While rows are missing, an odd line that names no request may belong to any of them.
        is_short = completeness in (Completeness.PARTIAL, Completeness.UNANSWERED)
        members = None if is_short else self.members
        keep_odd_lines(self.landing, self.batch.id, summary, members)
        _log_anomalies(self.batch, summary, read, expected)
        token = self.token
        return Download(
            outcome=Outcome[completeness.name],
            rows=read.rows,
            expected=expected,
            unplaced=[custom_id for custom_id in summary.unknown if token and has_token(custom_id, token)],
            unmatched=sum(map(self.landing.matcher.may_name, summary.unknown)),
        )


def _count_rows(landing: Landing, batch_id: str, summary: DownloadSummary, expected: int) -> RowCount:
    """Count the rows of the batch in this stream. If they are too few, count what earlier streams brought, too."""
    strangers = sum(not landing.matcher.may_name(custom_id) for custom_id in summary.unknown)
    in_stream = summary.rows - len(summary.repeated) - strangers
    if in_stream >= max(expected, 1):
        return RowCount(in_stream, in_stream)
    rows, answers = landing.rows.count_of_batch(batch_id)
    return RowCount(max(rows, in_stream), answers)


def _log_anomalies(batch: MessageBatch, summary: DownloadSummary, read: RowCount, expected: int) -> None:
    missing = expected - read.rows
    if missing > 0:
        text = "The API has no result for %d of the %s of %s. Its counts say %d succeeded."
        log.warning(text, missing, quantity(expected, "request"), batch.id, batch.request_counts.succeeded)
    if summary.repeated:
        text = "The results of %s repeated %d of %s; the first row of each was kept: %s"
        log.warning(
            text, batch.id, len(summary.repeated), quantity(expected, "custom_id"), _first_ids(summary.repeated)
        )
    if summary.altered:
        text = "%d of %s of %s %s not in the API's form; each has what could be read, and its line in raw."
        log.warning(text, summary.altered, quantity(summary.rows, "row"), batch.id, _are(summary.altered))
    if summary.odd:
        text = "%s of the results of %s could not be read, also not when they were read again; the first: %s. They are "
        text += "kept as raw in the rows, or in %s, and are not sent again."
        log.warning(text, quantity(len(summary.odd), "line"), batch.id, summary.odd[0].reason, UNREADABLE_FILE)
    if summary.unknown:
        text = "In the results of %s, %d of %s matched no request of this submission: %s"
        log.warning(text, batch.id, len(summary.unknown), quantity(summary.rows, "row"), _first_ids(summary.unknown))


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _first_ids(custom_ids: Sequence[str]) -> str:
    return ", ".join(repr(custom_id[:_LOGGED_CHARACTERS]) for custom_id in custom_ids[:_LOGGED_IDS])
