"""List the message batches of the workspace that no submission of this Airflow knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.known_batches import read_known_batches
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.orphans.inspect import inspect_results
from airflow_claude_batch.batch.orphans.known import KnownBatches
from airflow_claude_batch.batch.orphans.listing import WorkspaceListing, list_workspace
from airflow_claude_batch.batch.orphans.orphan import Orphan, Sender, judge
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.hooks import ClaudeHook

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient
    from airflow_claude_batch.api.wire import MessageBatch

_COLUMNS: Final = ("batch", "state", "age", "requests", "succeeded", "USD", "sent by")
#: What changed last so long before the oldest batch knows none of the listed ones.
_MOST_PLACES: Final = 5
_CLOCKS_DIFFER: Final = timedelta(days=1)
#: The API is younger, and dates do not go back as far as ``--days`` can.
_LONGEST: Final = timedelta(days=36_500)
_SENDERS: Final = {
    Sender.OURS: "this package",
    Sender.OPEN_CREATE: "a create call of",
    Sender.STRANGER: "another program",
    Sender.UNKNOWN: "not known before it ends",
}


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the orphans, newest first. Remarks on what is not known go to stderr."""
    now = timezone.utcnow()
    since = now - min(timedelta(days=options.days), _LONGEST)
    hook = ClaudeHook(options.conn_id or ClaudeHook.default_conn_name)
    with hook.get_conn() as client:
        with terminal.progress("Listing message batches") as advance:
            listing = _list(client, since, advance)
        # The listing comes first: what is created later is no orphan, and what was recorded meanwhile neither.
        known = _known(options, listing, since, terminal)
        unknown = [batch for id_, batch in listing.batches.items() if id_ not in known.owners]
        with terminal.progress("Reading first results", len(unknown)) as advance:
            orphans = [_orphan(client, batch, known, now, advance) for batch in unknown[: options.limit]]
    if options.output == "json":
        terminal.write_json_list(_fields(orphan, now) for orphan in orphans)
    else:
        terminal.write_table(_COLUMNS, (_row(orphan, now) for orphan in orphans))
    for remark in _remarks(options, listing, known, unknown, orphans):
        terminal.note(remark)
    return 0


def _list(client: ClaudeClient, since: datetime, advance: Any) -> WorkspaceListing:
    done = 0

    def on_page(count: int) -> None:
        nonlocal done
        advance(count - done)
        done = count

    return list_workspace(client, since=since, on_page=on_page)


def _known(options: argparse.Namespace, listing: WorkspaceListing, since: datetime, terminal: Terminal) -> KnownBatches:
    with create_session() as session, terminal.progress("Reading folders of submissions") as advance:
        return read_known_batches(
            session,
            listing.batches,
            since=since - _CLOCKS_DIFFER,
            results_paths=options.results_path or (),
            on_folder=advance,
        )


def _orphan(client: ClaudeClient, batch: MessageBatch, known: KnownBatches, now: datetime, advance: Any) -> Orphan:
    inspection = inspect_results(client, batch, settings.price_table()) if batch.ended else None
    advance(1)
    return judge(batch, inspection, known, now=now)


def _row(orphan: Orphan, now: datetime) -> tuple[object, ...]:
    batch = orphan.batch
    return (
        batch.id,
        batch.processing_status.replace("_", " "),
        _age(now - batch.created_at),
        f"{batch.request_counts.total:,}",
        f"{batch.request_counts.succeeded:,}" if batch.ended else "",
        _usd(orphan),
        _sender(orphan),
    )


def _usd(orphan: Orphan) -> str:
    if orphan.usd is None:
        return "unknown" if orphan.batch.ended else "not known yet"
    return f"{'' if orphan.is_exact else '~'}{rounded_usd(Decimal(orphan.usd))}"


def _sender(orphan: Orphan) -> str:
    if orphan.sender is Sender.OPEN_CREATE:
        return f"a create call of {orphan.owner}"
    if orphan.sender is Sender.UNKNOWN:
        if orphan.problem is not None:
            return f"unknown: {orphan.problem}"
        if orphan.owner is not None:
            return f"perhaps a create call of {orphan.owner}"
        return "a task may record it soon" if orphan.is_young else _SENDERS[Sender.UNKNOWN]
    return f"{_SENDERS[orphan.sender]}, like {orphan.owner}" if orphan.owner else _SENDERS[orphan.sender]


def _age(age: timedelta) -> str:
    hours = max(age, timedelta()) // timedelta(hours=1)
    if hours >= 48:
        return f"{hours // 24} days"
    return f"{hours} h" if hours else f"{max(age, timedelta()) // timedelta(minutes=1)} min"


def _fields(orphan: Orphan, now: datetime) -> dict[str, Any]:
    batch, counts = orphan.batch, orphan.batch.request_counts
    return {
        "batch_id": batch.id,
        "state": batch.processing_status,
        "created_at": batch.created_at.isoformat(),
        "ended_at": batch.ended_at and batch.ended_at.isoformat(),
        "expires_at": batch.expires_at and batch.expires_at.isoformat(),
        "age_seconds": round((now - batch.created_at).total_seconds()),
        "requests": counts.total,
        "succeeded": counts.succeeded if batch.ended else None,
        "usd": orphan.usd,
        "usd_is_exact": orphan.is_exact,
        "sender": orphan.sender.value,
        "owner": orphan.owner,
        "is_young": orphan.is_young,
        "problem": orphan.problem,
    }


def _remarks(
    options: argparse.Namespace,
    listing: WorkspaceListing,
    known: KnownBatches,
    unknown: list[MessageBatch],
    orphans: list[Orphan],
) -> Iterator[str]:
    days = quantity(options.days, "day")
    yield f"{quantity(len(listing.batches), 'batch')} of the last {days}, {len(unknown):,} of them unknown here."
    if len(orphans) < len(unknown):
        yield f"The newest {len(orphans):,} are shown: see more with --limit."
    if listing.broken_off is not None:
        yield f"The listing broke off, so older batches are missing: {listing.broken_off}"
    if listing.unreadable:
        yield f"{quantity(listing.unreadable, 'row')} of the listing could not be read."
    for place in known.unread[:_MOST_PLACES]:
        yield f"Not read, so its batches may be shown as unknown: {place}."
    if (more := len(known.unread) - _MOST_PLACES) > 0:
        yield f"{more:,} more places could not be read."
    if orphans:
        yield (
            "Another Airflow or program with a key of this workspace may know them: that cannot be told from here. "
            "Other workspaces need their own --conn-id."
        )
    if any(orphan.sender is Sender.OURS for orphan in orphans):
        yield "To land what this package has sent: adopt ID --into DAG RUN TASK."
    if any(orphan.sender is Sender.STRANGER for orphan in orphans):
        yield (
            'To land what another program has sent: MessageBatchSensor(batch=["ID"]). '
            "A DAG with a MessageBatchEndedTrigger does so by itself."
        )
