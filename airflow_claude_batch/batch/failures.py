"""Evaluate a submission's rows, and build the errors for an end that was not asked for.

Each error says what happened, what it means for money, and what to do.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import ANSWERED, ASKED, FINAL, Row, Status, count_where, indices_where
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.ledger.unread_batch import Trouble, UnreadBatch
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import (
    BatchIncompleteError,
    BatchTimeoutError,
    ResultsError,
    SubmissionUnknownError,
)

log = logging.getLogger(__name__)

#: How many failed rows a message names.
_NAMED_ROWS = 5
#: How many rows of invalid answers are searched for unreadable ones.
_SEARCHED_ROWS = 1000
#: How requests end that are not billed.
_UNBILLED = frozenset({Status.REFUSED, Status.ERRORED, Status.EXPIRED, Status.CANCELED, Status.REUSED})


def evaluate_outcome(
    landing: Landing,
    policy: Policy,
    manifest: Manifest,
    *,
    unrepaired: str | None = None,
    not_asked: str | None = None,
) -> tuple[BatchIncompleteError | None, bool]:
    """Compare the requests without an answer with ``allow_failed``.

    :param unrepaired: why no repair round was sent, None if there was no reason.
    :param not_asked: why requests were not asked directly, None if there was no reason.
    :return: the error, None if no more failed than allowed; and whether a retry with the same input would fail again.
    """
    failed = len(landing.statuses) - count_where(landing.statuses, ANSWERED)
    allowed = policy.allowed_failures(len(landing.statuses))
    if failed <= allowed:
        if failed:
            log.warning(
                "%d of %s ended without an answer. allow_failed=%r permits up to %d.",
                failed,
                quantity(len(landing.statuses), "request"),
                policy.allow_failed,
                allowed,
            )
        return None, False
    retryable = len(landing.statuses) - count_where(landing.statuses, FINAL)
    error = incomplete_error(
        landing, manifest, failed=failed, allowed=allowed, unrepaired=unrepaired, not_asked=not_asked
    )
    return error, failed - retryable > allowed


def incomplete_error(
    landing: Landing,
    manifest: Manifest,
    *,
    failed: int,
    allowed: int,
    unrepaired: str | None = None,
    not_asked: str | None = None,
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
    if not_asked:
        lines.append(f"Not all of them were asked directly: {not_asked}")
    return BatchIncompleteError(*lines, *_remedies(landing))


def timeout_error(ledger: Ledger, policy: Policy, *, outage: Exception | None = None) -> BatchTimeoutError:
    """Build the error for a submission that did not end within its timeout.

    :param outage: because of it, the state of the batches could not be found out at last.
    """
    unread = {batch.batch_id: batch for batch in ledger.unread}
    open_ids = [batch_id for batch_id in ledger.open_batch_ids if batch_id not in unread]
    lines = [f"The submission did not end within its timeout of {policy.timeout}."]
    if outage is not None:
        lines.append(f"The last error: {_one_line(outage)}.")
    if not ledger.open_batch_ids and outage is None:
        lines.append("No message batch of it is running any more. What was answered is landed.")
    elif open_ids:
        lines.append(_state(open_ids, policy, known=outage is None))
    lines += [_unread_line(batch) for batch in unread.values() if batch.polls]
    lines.append(
        "Retry or clear the task: it lands what was answered since, and sends only requests without an answer."
    )
    if any(batch.trouble == Trouble.FEWER_ROWS and batch.polls for batch in unread.values()):
        lines.append(UNREAD_REMEDY)
    return BatchTimeoutError(*lines)


def _state(ids: Sequence[str], policy: Policy, *, known: bool) -> str:
    if not known:
        return (
            f"The state of {quantity(len(ids), 'message batch')} could not be found out: {', '.join(ids)}. What is "
            "answered is billed. What was read is landed, and the API keeps the rest for 29 days."
        )
    if policy.on_timeout == "leave":
        return (
            f"{_subject(ids)} still running and billed for what is answered: {', '.join(ids)}. What was answered "
            "is landed."
        )
    return (
        f"{_subject(ids)} canceled but not ended yet, and billed for what is answered: {', '.join(ids)}. What was "
        "answered is landed."
    )


#: What to do about results that stay incomplete.
UNREAD_REMEDY: Final = (
    "If the results stay incomplete, check what proxies between this worker and the API do to downloads. To send the "
    "requests without a row again, and pay for those that were answered twice, set on_lost='resend' on the task that "
    "sends them, and clear it."
)


def _unread_line(batch: UnreadBatch) -> str:
    """Say which rows of a batch did not come, and what that means for money."""
    if batch.trouble == Trouble.FEWER_ROWS:
        missing = max(batch.expected - batch.rows, 0)
        return (
            f"Message batch {batch.batch_id} has ended, but only {batch.rows:,} of {quantity(batch.expected, 'row')} "
            f"came in {quantity(batch.polls, 'reading')}. {missing:,} may be answered and paid for: the API keeps them "
            "for 29 days. The rows that came are landed, and nothing was sent again."
        )
    what = "The results of message batch" if batch.trouble == Trouble.NO_RESULTS else "Message batch"
    were = "were" if batch.trouble == Trouble.NO_RESULTS else "was"
    return (
        f"{what} {batch.batch_id} {were} not found in {quantity(batch.polls, 'poll')} ({_one_line(batch.reason)}). "
        "What it answers is billed. Nothing was sent again."
    )


def unread_results_error(unread: Sequence[UnreadBatch]) -> BatchTimeoutError:
    """Build the error for a sensor whose timeout has expired while rows were missing."""
    return BatchTimeoutError(
        f"The sensor's timeout has expired, and the results of {quantity(len(unread), 'message batch')} did not come "
        "whole.",
        *map(_unread_line, unread),
        "Clear the sensor to read them again at no cost.",
        UNREAD_REMEDY,
    )


def unplaced_rows_error(batch_id: str, custom_ids: Sequence[str], rows: int) -> ResultsError:
    """Build the error for results with a part's own token whose custom_id names no request of it."""
    shown = ", ".join(repr(custom_id[:64]) for custom_id in custom_ids[:_NAMED_ROWS])
    return ResultsError(
        f"{quantity(len(custom_ids), 'row')} of {batch_id} cannot be assigned to requests of this task.",
        f"Their custom_ids begin as this task has made them, but were changed on the way: {shown}.",
        f"The answers are paid for and stay at the API for 29 days. {quantity(rows, 'row')} of the batch were "
        "read, and those that name a request are landed. Nothing was sent again.",
        "Let the gateway between this worker and the API pass custom_ids as they are, then clear the task: it reads "
        "the results again at no cost.",
    )


def refused_canary_error(landing: Landing) -> BatchIncompleteError | None:
    """Build the error for a first request that was refused before any was accepted. None if that is not the case."""
    if Status.REFUSED not in landing.statuses or not ASKED.isdisjoint(set(landing.statuses) - {Status.REFUSED}):
        return None
    return BatchIncompleteError(
        "The request that was sent first (canary=True) was refused.",
        f"The request: {_failed_rows(landing, 1, {Status.REFUSED})[0]}.",
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
        "A sensor sends nothing. Rows that were landed before are kept.",
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
        sent = " that was sent" if Status.REUSED in landing.statuses else ""
        return f"No request{sent} was answered, so nothing was billed."
    return "What was answered is billed and kept."


def _remedies(landing: Landing) -> Iterator[str]:
    """Say which of the failed requests a clear sends again, and what the others need."""
    statuses = set(landing.statuses)
    if Status.NONE in statuses:
        yield (
            "Requests without a row are sent again, and paid again if they were answered, only with "
            "on_lost='resend' on the task that sends them."
        )
    if any(status not in FINAL | {Status.NONE} for status in statuses):
        yield (
            "Retry or clear the task that sent them: it sends only requests that the API may still answer, and pays "
            "for nothing twice."
        )
    if Status.REFUSED in statuses:
        yield "Change the refused requests, then clear the task: only changed requests are sent."
    unreadable = (landing.rows.is_unreadable(index) for index in _invalid(landing))
    found = set(islice(unreadable, _SEARCHED_ROWS))
    if Status.REPAIRABLE_OUTPUT in statuses or False in found:
        yield "Answers that do not match the output schema are sent again, and paid again, with repair_invalid=True."
    if True in found:
        yield (
            "Results that cannot be read may be answers that were paid for, so they are not sent again. Their rows "
            "have the lines as they came, in raw. With reuse_answers=False a clear pays for all answers again."
        )


def _invalid(landing: Landing) -> Iterator[int]:
    """Yield the requests whose results are invalid, and would be so again."""
    for index in indices_where(landing.statuses, {Status.INVALID_OUTPUT}):
        if index not in landing.matcher.duplicates:
            yield index


def _failed_rows(landing: Landing, most: int, statuses: Collection[Status] = frozenset(Status) - ANSWERED) -> list[str]:
    """Describe the first rows without a usable answer: key, status and reason."""
    failed = islice(indices_where(landing.statuses, statuses), most)
    lines = (landing.line(index, missing="no result row came") for index in failed)
    return [_describe(msgspec.json.decode(line, type=Row)) for line in lines]


def _describe(row: Row) -> str:
    error = None if row.status in ("expired", "canceled") else row.error  # the word says it
    why = f" ({error.get('type')}: {error.get('message')})" if error else ""
    return f"key {row.key!r:.80}: {row.status}{why:.200}"


def _subject(batch_ids: Sequence[str]) -> str:
    return f"{quantity(len(batch_ids), 'message batch')} {'is' if len(batch_ids) == 1 else 'are'}"


def _one_line(message: object) -> str:
    return " ".join(str(message).split("\n")).removesuffix(".")
