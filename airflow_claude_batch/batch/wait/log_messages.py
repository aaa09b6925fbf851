"""Write the log lines and error messages of waiting."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait.progress import in_words
from airflow_claude_batch.batch.wait.schedule import (
    NOT_FOUND_CONFIRM_SECONDS,
    REFUSAL_CONFIRM_SECONDS,
    PollError,
    PollErrorKind,
    classify_error,
)
from airflow_claude_batch.batch.wait.watch_list import WatchListChanges
from airflow_claude_batch.exceptions import ClaudeBatchError

#: A level, a text and its arguments: the parameters of a logger's ``log``.
LogLine = tuple[int, str, tuple[object, ...]]

_STILL_RUNNING: Final = "The message batches keep running and are billed for what they answer."


def outage_began(error: PollError, conn_id: str) -> LogLine:
    """Return the line for the start of an outage. It is logged once."""
    if classify_error(error) is PollErrorKind.UNAUTHORIZED:
        return credential_rejected(error, conn_id)
    text = "The Claude API is unavailable (connection %r). The message batches keep running, and polling continues. %s"
    return logging.WARNING, text, (conn_id, error)


def credential_rejected(error: Exception, conn_id: str) -> LogLine:
    """Return the line for a credential that is rejected, or a connection that cannot be read. It is logged once."""
    text = (
        "Connection %r cannot be used now. The message batches keep running. The connection is read again at growing "
        "intervals, and the wait fails only if that does not help for %s. %s"
    )
    return logging.WARNING, text, (conn_id, in_words(REFUSAL_CONFIRM_SECONDS), _without_secrets(error))


def outage_ended(seconds: float, conn_id: str) -> LogLine:
    """Return the line for the end of an outage. It is logged once."""
    return logging.INFO, "The Claude API is available again (connection %r), after %s.", (conn_id, in_words(seconds))


def outage_lines(changes: WatchListChanges, conn_id: str) -> Iterator[LogLine]:
    """Yield the lines that concern every waiter of the connection."""
    if changes.outage_began:
        yield outage_began(changes.outage_began, conn_id)
    if changes.outage_ended is not None:
        yield outage_ended(changes.outage_ended, conn_id)


def status_changed(batch: MessageBatch) -> LogLine:
    """Return the line for a batch that is being canceled, or has ended."""
    if not batch.ended:
        return logging.INFO, "Message batch %s is %s.", (batch.id, batch.processing_status)
    counts = {name: getattr(batch.request_counts, name) for name in batch.request_counts.__struct_fields__}
    outcome = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return logging.INFO, "Message batch %s has ended%s: %s.", (batch.id, _after(batch), outcome or "no requests")


def _after(batch: MessageBatch) -> str:
    """Return how long the API worked on a batch, by its own clock."""
    if batch.ended_at is None:
        return ""
    return f" after {in_words((batch.ended_at - batch.created_at).total_seconds())}"


def not_found(denials: Mapping[str, tuple[PollError, float]], conn_id: str) -> LogLine:
    """Return the line for batches that the API does not find. It is logged once.

    :param denials: the last response, and the seconds until the API is believed, by batch id.
    """
    error = next(iter(denials.values()))[0]
    longest = max(seconds for _, seconds in denials.values())
    text = (
        "The API does not find message batch%s %s (connection %r). Polling continues. The wait fails in about %s, "
        "unless the API finds %s until then. If the id or the connection is wrong, correct it and clear the task. %s"
    )
    many, it = ("es", "them") if len(denials) > 1 else ("", "it")
    return logging.WARNING, text, (many, ", ".join(denials), conn_id, in_words(longest), it, error)


def denied(denials: Mapping[str, PollError], conn_id: str) -> str:
    """Return the message for batches that the API keeps denying."""
    batches = f"message batch{'es' if len(denials) > 1 else ''} {', '.join(denials)}"
    first = next(iter(denials.values()))
    return _lines(
        f"The API has denied {batches} for {in_words(NOT_FOUND_CONFIRM_SECONDS)} (connection {conn_id!r}).",
        first.summary,
        "Check whether the connection now belongs to another workspace, or whether somebody deleted the batch.",
    )


def unauthorized(error: PollError, conn_id: str) -> str:
    """Return the message for a credential that the API keeps rejecting, however often the connection is read."""
    return _lines(
        f"Connection {conn_id!r} has been rejected by the API for {in_words(REFUSAL_CONFIRM_SECONDS)}.",
        error,
        _STILL_RUNNING,
        "Fix the connection, then clear the task: it resumes the same message batches.",
    )


def unreadable(error: Exception, conn_id: str) -> str:
    """Return the message for a connection that Airflow does not give us."""
    return _lines(
        f"Connection {conn_id!r} cannot be read: {_without_secrets(error)}",
        _STILL_RUNNING,
        "Fix the connection, then clear the task: it resumes the same message batches.",
    )


def watcher_failed(error: Exception) -> str:
    """Return the message for an unexpected error in the watcher itself."""
    return _lines(
        f"Waiting failed unexpectedly: {_without_secrets(error)}",
        _STILL_RUNNING,
        "Clear the task, or let it retry: it resumes the same message batches.",
    )


def _without_secrets(error: Exception) -> str:
    """Return an error's text if it is one of ours. Other errors may quote a connection, and this goes to a database."""
    return str(error) if isinstance(error, ClaudeBatchError) else f"{type(error).__name__}, see the triggerer's log."


def _lines(*lines: object) -> str:
    return "\n".join(map(str, lines))
