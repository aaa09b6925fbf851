"""Evaluate a submission's rows, and build the errors for an end that was not asked for.

Each error says what happened, what it means for money, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import ANSWERED, FINAL, Row, Status
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import (
    BatchIncompleteError,
    BatchTimeoutError,
    SubmissionUnknownError,
)

#: How many failed rows a message names.
_NAMED_ROWS = 5
#: How requests end that are not billed.
_UNBILLED = frozenset({Status.REFUSED, Status.ERRORED, Status.EXPIRED, Status.CANCELED})


def evaluate_outcome(
    landing: Landing, policy: Policy, manifest: Manifest, *, unrepaired: str | None = None
) -> tuple[BatchIncompleteError | None, bool]:
    """Compare the requests without an answer with ``allow_failed``.

    :param unrepaired: why no repair round was sent, None if there was no reason.
    :return: the error, None if no more failed than allowed; and whether a retry with the same input would fail again.
    """
    failed = sum(status not in ANSWERED for status in landing.statuses)
    allowed = policy.allowed_failures(len(landing.statuses))
    if failed <= allowed:
        return None, False
    retryable = sum(status not in FINAL for status in landing.statuses)
    error = incomplete_error(landing, manifest, failed=failed, allowed=allowed, unrepaired=unrepaired)
    return error, failed - retryable > allowed


def incomplete_error(
    landing: Landing, manifest: Manifest, *, failed: int, allowed: int, unrepaired: str | None = None
) -> BatchIncompleteError:
    """Build the error for more failed requests than ``allow_failed`` permits."""
    counts = ", ".join(f"{count:,} {word}" for word, count in manifest.counts.items() if count)
    lines = [
        f"{failed:,} of {quantity(manifest.request_count, 'request')} ended without an answer "
        f"(allow_failed permits {allowed:,}).",
        f"{counts}. The first: {'; '.join(_failed_rows(landing, _NAMED_ROWS))}.",
        f"{_billed(landing, manifest)} All rows are in {manifest.results_path}.",
    ]
    if unrepaired:
        lines.append(f"No repair round was sent: {unrepaired}")
    return BatchIncompleteError(*lines, *_remedies(landing))


def timeout_error(ledger: Ledger, policy: Policy) -> BatchTimeoutError:
    """Build the error for a submission that did not end within its timeout."""
    ids = ledger.open_batch_ids
    if not ids:
        state = "No message batch of it is running any more."
    elif policy.on_timeout == "leave":
        state = f"{_subject(ids)} still running and billed for what is answered: {', '.join(ids)}."
    else:
        state = f"{_subject(ids)} canceled but not ended yet, and billed for what is answered: {', '.join(ids)}."
    return BatchTimeoutError(
        f"The submission did not end within its timeout of {policy.timeout}.",
        f"{state} What was answered is landed.",
        "Retry or clear the task: it lands what was answered since, and sends only requests without an answer.",
    )


def refused_canary_error(landing: Landing) -> BatchIncompleteError | None:
    """Build the error for a first request that was refused before any was accepted. None if that is not the case."""
    if Status.REFUSED not in landing.statuses or not FINAL.isdisjoint(set(landing.statuses) - {Status.REFUSED}):
        return None
    return BatchIncompleteError(
        "The request that was sent first (canary=True) was refused.",
        f"The request: {_failed_rows(landing, 1)[0]}.",
        "It is not billed. No other request was sent, since they would probably be refused too.",
        "Correct the parameters of the requests and clear the task.",
    )


def collection_timeout_error(batch_ids: Sequence[str], error: Exception | None = None) -> BatchTimeoutError:
    """Build the error for a sensor whose timeout has expired.

    :param batch_ids: batches that have not ended, or whose state is unknown.
    :param error: the outage because of which their state is unknown. None if they were seen running.
    """
    remedy = "The sensor canceled nothing. Clear it to wait again."
    if error is None:
        return BatchTimeoutError(
            f"The sensor's timeout has expired, and {quantity(len(batch_ids), 'message batch')} did not end.",
            f"{_subject(batch_ids)} still running and billed for what is answered: {', '.join(batch_ids)}. "
            "What was answered is landed.",
            remedy,
        )
    return BatchTimeoutError(
        "The sensor's timeout has expired during an outage.",
        f"The state of {quantity(len(batch_ids), 'message batch')} could not be found out: {', '.join(batch_ids)}.",
        f"The last error: {_one_line(error)}",
        "What still runs is billed for what is answered.",
        remedy,
    )


def unknown_batches_error(reasons: Mapping[str, str]) -> SubmissionUnknownError:
    """Build the error for batches of a sensor that the API does not have.

    :param reasons: what the API said, by batch id.
    """
    denied = "; ".join(f"{batch_id} ({_one_line(reason)})" for batch_id, reason in reasons.items())
    return SubmissionUnknownError(
        f"The API does not have {quantity(len(reasons), 'message batch')}, or not the results.",
        f"{denied}.",
        f"No row of {'it' if len(reasons) == 1 else 'them'} was landed. A sensor sends nothing.",
        "Check the ids, and that the connection's credential belongs to the workspace that created the batches. "
        "Batches that were deleted and results older than 29 days are gone.",
    )


def lost_batch_error(batch_id: str, reason: str) -> SubmissionUnknownError:
    """Build the error for a batch that the ledger names and that the API does not have, or has no results of."""
    return SubmissionUnknownError(
        f"Message batch {batch_id} was created by this task but cannot be found any more.",
        f"The reason given: {_one_line(reason)}.",
        "What it answered is billed. Nothing was sent again.",
        "Check that the connection's credential belongs to the workspace that created the batch, then retry: a retry "
        "asks for it again.",
        "If it was deleted or is older than 29 days, set on_lost='resend': its unanswered requests are sent again and "
        "paid for again.",
    )


def _billed(landing: Landing, manifest: Manifest) -> str:
    """Say what is billed. A request without a row may have been answered, and so may an earlier round have been."""
    if _UNBILLED.issuperset(landing.statuses) and not any((manifest.usage or {}).values()):
        return "No request was answered, so nothing was billed."
    return "What was answered is billed and kept."


def _remedies(landing: Landing) -> Iterator[str]:
    """Say which of the failed requests a clear sends again, and what the others need."""
    statuses = set(landing.statuses)
    if any(status not in FINAL for status in statuses):
        yield (
            "Retry or clear the task that sent them: it sends only requests that the API may still answer, and pays "
            "for nothing twice."
        )
    if Status.REFUSED in statuses:
        yield "Change the refused requests, then clear the task: only changed requests are sent."
    if not statuses.isdisjoint({Status.INVALID_OUTPUT, Status.REPAIRABLE_OUTPUT}):
        yield "Answers that do not match the output schema are sent again, and paid again, with repair_invalid=True."


def _failed_rows(landing: Landing, most: int) -> list[str]:
    """Describe the first rows without a usable answer: key, status and reason."""
    rows = (msgspec.json.decode(line, type=Row) for line in landing.lines(missing="no result row came"))
    return list(islice((_describe(row) for row in rows if row.status != "succeeded"), most))


def _describe(row: Row) -> str:
    why = f" ({row.error.get('type')}: {row.error.get('message')})" if row.error else ""
    return f"key {row.key!r:.80}: {row.status}{why:.200}"


def _subject(batch_ids: Sequence[str]) -> str:
    return f"{quantity(len(batch_ids), 'message batch')} {'is' if len(batch_ids) == 1 else 'are'}"


def _one_line(message: object) -> str:
    return " ".join(str(message).split("\n")).removesuffix(".")
