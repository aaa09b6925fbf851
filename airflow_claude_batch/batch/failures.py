"""How a submission is judged once its rows are landed, and what is said when it did not go as asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from airflow_claude_batch.batch.land.landing import Landing
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import ANSWERED, FINAL, Row, Status
from airflow_claude_batch.batch.ledger.ledger import Ledger
from airflow_claude_batch.batch.policy import Policy
from airflow_claude_batch.exceptions import (
    BatchIncompleteError,
    BatchTimeoutError,
    SubmissionUnknownError,
)

_NAMED = 5


def evaluate_outcome(
    landing: Landing, policy: Policy, manifest: Manifest, *, unrepaired: str | None = None
) -> tuple[BatchIncompleteError | None, bool]:
    """The failure, if more requests than allowed are without an answer, and whether a retry could not mend it.

    :param unrepaired: why they were not sent again.
    """
    failed = sum(status not in ANSWERED for status in landing.statuses)
    allowed = policy.allowed_failures(len(landing.statuses))
    if failed <= allowed:
        return None, False
    mendable = sum(status not in FINAL for status in landing.statuses)
    told = _incomplete(landing, failed, allowed, manifest) + (f" Not sent again: {unrepaired}" if unrepaired else "")
    return BatchIncompleteError(told), failed - mendable > allowed


def timeout_error(ledger: Ledger, policy: Policy) -> BatchTimeoutError:
    """The timeout is over; says what still runs and bills."""
    if not ledger.open_parts:
        state = "No batch of it runs any more."
    elif policy.on_timeout == "leave":
        state = f"Still running, and billed for what they answer: {', '.join(ledger.open_batch_ids)}."
    else:
        state = f"Canceled, but not ended yet: {', '.join(ledger.open_batch_ids)}."
    return BatchTimeoutError(
        f"The submission did not end within {policy.timeout}. {state} What was answered is landed and kept; a retry "
        "or a clear of the task takes it from there and sends only what has no answer."
    )


def refused_canary_error(landing: Landing) -> BatchIncompleteError | None:
    """The failure of a submission whose first request was refused before any was accepted: all would be."""
    if Status.REFUSED not in landing.statuses or not FINAL.isdisjoint(set(landing.statuses) - {Status.REFUSED}):
        return None
    return BatchIncompleteError(
        f"The request that went first was refused: {'; '.join(_first_failures(landing, 1))}. The others, which "
        "probably would have been too, were not sent. Correct the parameters and clear the task."
    )


def collection_timeout_error(batch_ids: Sequence[str], error: Exception | None = None) -> BatchTimeoutError:
    """A sensor's time is over; it stops nothing.

    :param error: why the batches could not be looked at.
    """
    if error is None:
        state = f"Still running, and billed for what they answer: {', '.join(batch_ids)}. What was answered is landed"
    else:
        state = f"Whether these batches still run could not be found out ({error}): {', '.join(batch_ids)}"
    return BatchTimeoutError(f"The time to wait is over. {state}; clearing this task waits again.")


def unknown_batches_error(not_found: Mapping[str, str]) -> SubmissionUnknownError:
    """Batches that a sensor was given and that the API denies; why, by id."""
    denied = "; ".join(f"{batch_id} ({reason})" for batch_id, reason in not_found.items())
    return SubmissionUnknownError(
        f"The API does not have these message batches, or not their results: {denied}. Either the ids are wrong, the "
        "connection's credential belongs to another workspace, or the batches were deleted or are older than 29 days. "
        "Nothing was landed of them."
    )


def lost_batch_error(batch_id: str, reason: str) -> SubmissionUnknownError:
    """A batch that the ledger names cannot be found, or its results cannot."""
    return SubmissionUnknownError(
        f"{batch_id} was made by this task but cannot be found any more ({reason}). Either the connection's "
        "credential belongs to another workspace now (then restore it), or the batch was deleted or is older than "
        "29 days. Nothing was sent again. A retry looks again; on_lost='resend' sends its unanswered requests again "
        "and pays for them again."
    )


def _incomplete(landing: Landing, failed: int, allowed: int, manifest: Manifest) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in manifest.counts.items() if count)
    return (
        f"{failed} of {manifest.request_count} requests ended without an answer (allow_failed permits {allowed}): "
        f"{counts}. First: {'; '.join(_first_failures(landing))}. All rows are landed in {manifest.results_path}. A "
        "retry or a clear of the task that sent them sends only requests that the API may still answer; permanently "
        "refused ones need another input, or reuse_answers=False; invalid outputs are asked for, and paid, again with "
        "repair_invalid=True."
    )


def _first_failures(landing: Landing, most: int = _NAMED) -> list[str]:
    """The first rows without an answer, by key, with the reason."""
    named: list[str] = []
    for line in landing.lines(missing="no result row came"):
        row = msgspec.json.decode(line, type=Row)
        if row.status != "succeeded":
            why = f" ({row.error.get('type')}: {row.error.get('message')})" if row.error else ""
            named.append(f"{row.key!r:.80} {row.status}{why:.200}")
        if len(named) == most:
            break
    return named
