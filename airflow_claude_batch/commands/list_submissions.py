"""List submissions: those that have changed last first."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.submissions import iterate_submissions
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.commands import orphans
from airflow_claude_batch.commands.definition import WrongUsageError
from airflow_claude_batch.commands.lookup import id_of, name_of
from airflow_claude_batch.commands.submission_fields import summary
from airflow_claude_batch.commands.terminal import Terminal

_COLUMNS = ("submission", "state", "requests", "batches", "USD", "changed, UTC", "DAG / run / task")


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the submissions, or the message batches that none of them knows."""
    if options.orphans:
        if options.open or options.ended or options.dag or options.state or options.day:
            raise WrongUsageError("--orphans lists batches, not submissions. It goes with --days and --limit only.")
        return orphans.run(options, terminal)
    if options.open and options.ended:
        raise WrongUsageError("Give --open or --ended. Without them, both are listed.")
    found = islice(_summaries(options, timezone.utcnow()), options.limit)
    if options.output == "json":
        terminal.write_json_list(found)
    elif not terminal.write_table(_COLUMNS, map(_row, found)):
        terminal.note("There is no such submission.")
    return 0


def _summaries(options: argparse.Namespace, now: datetime) -> Iterator[dict[str, Any]]:
    """Yield each submission once: as the task instance shows it that has changed last, a sensor or the operator."""
    seen = set[str]()
    with create_session() as session:
        for found in iterate_submissions(session, dag_ids=options.dag or None, day=options.day):
            if (id_ := id_of(found)) in seen:
                continue
            seen.add(id_)
            fields = summary(found, now)
            if options.ended if fields["is_open"] else options.open:
                continue
            if options.state in (None, fields["state"]):
                yield fields


def _row(fields: dict[str, Any]) -> tuple[object, ...]:
    state = f"{fields['state']} ({fields['detail']})" if fields["detail"] else fields["state"]
    return (
        fields["submission_id"],
        state,
        f"{fields['requests']:,}",
        f"{fields['batches']:,}",
        usd_in_words(fields),
        fields["changed_at"][:16].replace("T", " "),
        name_of(TaskKey(fields["dag_id"], fields["run_id"], fields["task_id"], fields["map_index"])),
    )


def usd_in_words(fields: dict[str, Any]) -> str:
    """Return the cost of a submission, or before its end what was estimated."""
    if fields["cost_usd"] is not None:
        bound = "" if fields["cost_is_complete"] else ">= "
        return f"{bound}{rounded_usd(Decimal(fields['cost_usd']))}"
    return "" if fields["estimated_usd"] is None else f"~{rounded_usd(Decimal(fields['estimated_usd']))}"
