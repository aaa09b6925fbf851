"""Show everything that is known of one submission."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.snapshot_values import count_of, seconds_of, usd_of
from airflow_claude_batch._airflow.submissions import read_output
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.list_submissions import usd_in_words
from airflow_claude_batch.commands.lookup import find_named, name_of
from airflow_claude_batch.commands.submission_fields import details
from airflow_claude_batch.commands.terminal import Terminal


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the submission."""
    with create_session() as session:
        found = find_named(session, options.names, options.map_index)
        fields = details(found, read_output(session, found[0].key), timezone.utcnow())
    if options.output == "json":
        terminal.write_json(fields)
    else:
        _write(fields, terminal)
    return 0


def _write(fields: Mapping[str, Any], terminal: Terminal) -> None:
    lines = [(name, value) for name, value in _lines(fields) if value]
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        terminal.write(f"{name.ljust(width)}  {value}")
    for title, columns, rows in (
        ("Message batches", ("batch", "state", "requests", "created, UTC", "expires, UTC"), _parts(fields)),
        ("Bill by model", ("model", "rows", "input tokens", "output tokens", "USD"), _models(fields)),
        ("Task instances", ("DAG / run / task", "state", "changed, UTC"), _tasks(fields)),
    ):
        if shown := list(rows):
            terminal.write()
            terminal.write(f"{title}:")
            terminal.write_table(columns, shown)


def _lines(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "submission", fields["submission_id"]
    yield "task", name_of(TaskKey(fields["dag_id"], fields["run_id"], fields["task_id"], fields["map_index"]))
    yield "state", f"{fields['state']} ({fields['detail']})" if fields["detail"] else fields["state"]
    yield "failure", fields["failure"] or ""
    yield "waits for", fields["reason"] or "" if fields["state"] == "running" else ""
    yield "requests", f"{fields['requests']:,}"
    yield "rows", ", ".join(f"{count:,} {status}" for status, count in fields["counts"].items() if count_of(count))
    yield "reused", f"{quantity(fields['reused'], 'answer')} of earlier runs" if fields["reused"] else ""
    yield "cost", f"{usd_in_words({**fields, 'estimated_usd': None})} USD" if fields["cost_usd"] is not None else ""
    yield "estimate", _estimate(fields["estimate"])
    yield "approval", _approval(fields["approval"])
    yield "usually", _usual(fields["usual_seconds"])
    yield "created, UTC", _time(fields["created_at"])
    yield "ended, UTC", _time(fields["ended_at"])
    yield "connection", fields["conn_id"] or ""
    yield "folder", fields["folder"] or ""
    yield "results", fields["results_path"] or ""


def _estimate(estimate: Any) -> str:
    usd = estimate.get("usd") if isinstance(estimate, Mapping) else None
    amounts = [usd_of(usd.get(name)) for name in ("expected", "lower", "upper")] if isinstance(usd, Mapping) else []
    known = [rounded_usd(amount) for amount in amounts if amount is not None]
    return f"{known[0]} USD, between {known[1]} and {known[2]}" if len(known) == 3 else ""


def _approval(approval: Any) -> str:
    if not isinstance(approval, Mapping):
        return ""
    usd = usd_of(approval.get("usd"))
    limit = "" if usd is None else f", up to {rounded_usd(usd)} USD"
    return f"by {approval.get('by')} at {_time(str(approval.get('at')))}{limit}"


def _usual(seconds: list[Any] | None) -> str:
    if not seconds:
        return ""
    shortest, longest = (seconds_of(value) or timedelta(0) for value in seconds[:2])
    least, most = _rounded(shortest), _rounded(longest)
    return most if least == most else f"{least} to {most}"


def _rounded(time: timedelta) -> str:
    return str(timedelta(seconds=round(time.total_seconds())))


def _parts(fields: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for part in fields["parts"]:
        count = part["requests"]
        yield (
            part["batch_id"] or "(not known yet)",
            (part["state"] or "").replace("_", " "),
            None if count is None else f"{count:,}",
            _time(part["created_at"]),
            _time(part["expires_at"]),
        )
    if (more := fields["batches"] - len(fields["parts"])) > 0:
        yield (f"… and {more:,} more", "", "", "", "")


def _models(fields: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for model, part in fields["models"].items():
        part = part if isinstance(part, Mapping) else {}
        usage, counts = (value if isinstance(value := part.get(name), Mapping) else {} for name in ("usage", "counts"))
        usd = usd_of(part.get("usd"))
        yield (
            model,
            f"{sum(filter(None, map(count_of, counts.values()))):,}",
            f"{sum(_tokens(usage, name) for name in _PROMPT):,}",
            f"{_tokens(usage, 'output_tokens'):,}",
            "unknown" if usd is None else rounded_usd(Decimal(usd)),
        )


_PROMPT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def _tokens(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) else 0


def _tasks(fields: Mapping[str, Any]) -> Iterator[tuple[object, ...]]:
    for each in fields["task_instances"]:
        key = TaskKey(each["dag_id"], each["run_id"], each["task_id"], each["map_index"])
        yield name_of(key), each["task_state"] or "cleared", _time(each["changed_at"])


def _time(at: str | None) -> str:
    return "" if at is None else at[:19].replace("T", " ")
