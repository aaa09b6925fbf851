"""What waiting says, in logs and in errors."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Final

from pendulum import duration

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.wait.schedule import PollError
from airflow_claude_batch.batch.wait.watch_list import WatchListChanges
from airflow_claude_batch.exceptions import ClaudeBatchError

#: A level, a text, and its arguments: what a logger's ``log`` takes.
Line = tuple[int, str, tuple[object, ...]]

_GO_ON: Final = "The message batches go on, and are billed. When it is mended, clear the task: it resumes them."


def outage_began(error: PollError, connection: str) -> Line:
    """Said once, when the first look fails."""
    text = "The Claude API cannot be asked (connection %r): %s The message batches go on, and so does the waiting."
    return logging.WARNING, text, (connection, error)


def outage_ended(seconds: float, connection: str) -> Line:
    """Said once, when a look succeeds again."""
    return logging.INFO, "The Claude API answers again (connection %r), after %.0f s.", (connection, seconds)


def about_the_road(report: WatchListChanges, connection: str) -> Iterator[Line]:
    """Yield what concerns everybody who waits."""
    if report.outage_began:
        yield outage_began(report.outage_began, connection)
    if report.outage_ended is not None:
        yield outage_ended(report.outage_ended, connection)


def status_changed(batch: MessageBatch) -> Line:
    """Said when a batch begins to cancel, and when it has ended."""
    if not batch.ended:
        return logging.INFO, "Message batch %s is %s.", (batch.id, batch.processing_status)
    counts = {name: getattr(batch.request_counts, name) for name in batch.request_counts.__struct_fields__}
    outcome = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return logging.INFO, "Message batch %s has ended%s: %s.", (batch.id, _after(batch), outcome or "no requests")


def _after(batch: MessageBatch) -> str:
    """How long the API had a batch, by its own clock."""
    if batch.ended_at is None:
        return ""
    return f" after {duration(seconds=max(1, round((batch.ended_at - batch.created_at).total_seconds()))).in_words()}"


def gone(errors: Mapping[str, PollError], connection: str) -> str:
    """The API denies batches, and goes on doing so."""
    first = next(iter(errors.values()))
    return (
        f"For ten minutes the API has denied {', '.join(errors)} (connection {connection!r}): {first} "
        "Either the connection belongs to another workspace by now, or what is denied was deleted."
    )


def refused(error: PollError, connection: str) -> str:
    """The API refuses the credential."""
    return f"Connection {connection!r} is refused, also after it was read again: {error} {_GO_ON}"


def unreadable(error: Exception, connection: str) -> str:
    """Airflow does not give us the connection."""
    return f"Connection {connection!r} cannot be read: {_told(error)} {_GO_ON}"


def broken(error: Exception) -> str:
    """An error of our own."""
    return f"Waiting broke: {_told(error)} The message batches go on, and are billed; a retry resumes them."


def _told(error: Exception) -> str:
    """What others raise may quote a connection, and this goes into a database: the triggerer's own log has it."""
    return str(error) if isinstance(error, ClaudeBatchError) else f"{type(error).__name__}, see the triggerer's log."
