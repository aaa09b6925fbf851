"""Download the results of one ended batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.land.landing import DownloadSummary, Landing
from airflow_claude_batch.batch.land.place_odd_lines import UNREADABLE_FILE, keep_odd_lines
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import APIConnectionError, MalformedResponseError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

#: How often a truncated download is started, and how much longer each pause before it is than the one before.
TRIES: Final = 5
PAUSE_SECONDS: Final = 2.0
#: How often a stream is read whose unreadable lines differ from those of the try before.
ODD_LINE_TRIES: Final = 3
#: custom_ids in one log line, and characters of each.
_LOGGED_IDS: Final = 3
_LOGGED_CHARACTERS: Final = 64


def download_results(
    client: ClaudeClient,
    batch: MessageBatch,
    landing: Landing,
    *,
    sleep: Callable[[float], None],
    members: Sequence[int] | None = None,
) -> DownloadSummary:
    """Read the results of an ended batch into the landing, and retry truncated downloads.

    A truncated stream may come without any error, so its rows are compared with the batch's own request count. If two
    complete streams have the same number of rows, that number is accepted: the API has no result for some requests.
    Lines that cannot be read may have been damaged on the way, so that they are read again, too.

    :param members: the requests that may be in the batch, None if that is not known; see :func:`keep_odd_lines`.
    :raises ResultsError: every try was truncated, or the local disk refuses. The answers stay at the API.
    :raises NotFoundError: the batch has no results (any more).
    """
    expected, rows_before, problem, odd_before = batch.request_counts.total, -1, "", frozenset[bytes]()
    for number in range(TRIES):
        if number:
            pause = PAUSE_SECONDS * number
            log.warning(
                "The download of the results of %s was incomplete (%s); trying again in %.0f s.",
                batch.id,
                problem,
                pause,
            )
            sleep(pause)
        try:
            with client.stream_results(batch.id) as lines:
                summary = landing.read_results(batch.id, lines)
        except (APIConnectionError, MalformedResponseError) as error:
            problem, rows_before = error.summary.rstrip("."), -1
            continue
        odd = frozenset(line.raw for line in summary.odd)
        if odd != odd_before and number + 1 < ODD_LINE_TRIES:
            problem, odd_before, rows_before = quantity(len(summary.odd), "unreadable line"), odd, -1
            continue
        if summary.rows - len(summary.repeated) >= expected or summary.rows == rows_before:
            keep_odd_lines(landing, batch.id, summary, members)
            _log_anomalies(batch, summary)
            return summary
        problem, rows_before = f"{summary.rows} of {expected} rows", summary.rows
    raise ResultsError(
        f"The results of {batch.id} were incomplete in each of {TRIES} downloads (last: {problem}).",
        "They stay at the API for 29 days from the batch's creation; a retry downloads them at no cost.",
        "Clear the task later. If it fails again, check what proxies between this worker and the API do to downloads.",
    )


def _log_anomalies(batch: MessageBatch, summary: DownloadSummary) -> None:
    total = batch.request_counts.total
    missing = total - (summary.rows - len(summary.repeated))
    if missing > 0:
        log.warning("The API has no result for %d of the %d requests of %s.", missing, total, batch.id)
    if summary.repeated:
        text = "The results of %s repeated %d of %d custom_ids; the first row of each was kept: %s"
        log.warning(text, batch.id, len(summary.repeated), total, _first_ids(summary.repeated))
    if summary.altered:
        text = "%d of %d rows of %s are not in the API's form; each has what could be read, and its line in raw."
        log.warning(text, summary.altered, summary.rows, batch.id)
    if summary.odd:
        text = "%s of the results of %s could not be read, also not when they were read again; the first: %s. They are "
        text += "kept as raw in the rows, or in %s, and are not sent again."
        log.warning(text, quantity(len(summary.odd), "line"), batch.id, summary.odd[0].reason, UNREADABLE_FILE)
    if summary.unknown:
        text = "In the results of %s, %d of %d rows matched no request of this submission: %s"
        log.warning(text, batch.id, len(summary.unknown), summary.rows, _first_ids(summary.unknown))


def _first_ids(custom_ids: Sequence[str]) -> str:
    return ", ".join(repr(custom_id[:_LOGGED_CHARACTERS]) for custom_id in custom_ids[:_LOGGED_IDS])
