"""Fetching one ended batch's answers, whole."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.land.landing import DownloadSummary, Landing
from airflow_claude_batch.exceptions import APIConnectionError, MalformedResponseError, ResultsError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

log = logging.getLogger(__name__)

TRIES = 5
PAUSE_SECONDS = 2.0
_NAMED = 3


def download_results(
    client: ClaudeClient, batch: MessageBatch, landing: Landing, *, sleep: Callable[[float], None]
) -> DownloadSummary:
    """Download the results of an ended batch into the landing, again while they arrive cut.

    A stream may be cut without any error, so its rows are counted against the batch's own count. Two whole-looking
    streams of the same length are believed: then the API really has no row for some requests.

    :raises ResultsError: no try brought a whole stream; the answers stay at the API.
    :raises NotFoundError: the batch has no results (any more).
    """
    expected, before, failure = batch.request_counts.total, -1, ""
    for number in range(TRIES):
        if number:
            log.warning("Results of %s arrived cut (%s); downloading again", batch.id, failure)
            sleep(PAUSE_SECONDS * number)
        try:
            with client.stream_results(batch.id) as lines:
                intake = landing.take(batch.id, lines)
        except (APIConnectionError, MalformedResponseError) as error:
            failure, before = str(error), -1
            continue
        if intake.rows - len(intake.duplicates) >= expected or intake.rows == before:
            _report(batch, intake)
            return intake
        failure, before = f"{intake.rows} of {expected} rows", intake.rows
    raise ResultsError(
        f"The results of {batch.id} could not be downloaded whole in {TRIES} tries (last: {failure}). They stay at "
        "the API for 29 days from the batch's creation; a retry fetches them and pays nothing."
    )


def _report(batch: MessageBatch, intake: DownloadSummary) -> None:
    """Say what is odd about a whole stream."""
    short = batch.request_counts.total - (intake.rows - len(intake.duplicates))
    if short > 0:
        log.warning("%s has no result row for %d of its requests", batch.id, short)
    if intake.duplicates:
        text = "%s has %d duplicate result rows, of which the first was kept: %s"
        log.warning(text, batch.id, len(intake.duplicates), _named(intake.duplicates))
    if intake.strangers:
        text = "%s has %d result rows of requests that are not ours: %s"
        log.warning(text, batch.id, len(intake.strangers), _named(intake.strangers))


def _named(custom_ids: list[str]) -> str:
    return ", ".join(repr(custom_id[:64]) for custom_id in custom_ids[:_NAMED])
