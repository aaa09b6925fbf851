"""Read the rows of a submission, one by one: a file of any size takes the same memory."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from typing import Any, Final

import msgspec

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.results_folder import folder_of_file
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.submissions import FoundSubmission, read_output
from airflow_claude_batch.batch.land.manifest import Manifest
from airflow_claude_batch.batch.land.rows import RESULTS_FILE
from airflow_claude_batch.batch.money.amounts import rounded_usd
from airflow_claude_batch.commands.lookup import find_named, name_of
from airflow_claude_batch.commands.submission_fields import folder_of, standing
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.exceptions import ResultsError
from airflow_claude_batch.rows import Row, read_rows

#: Characters of an answer in a table.
_SHOWN_CHARACTERS: Final = 200
_TABLE: Final = ("index", "key", "status", "USD", "answer or error")
_CSV: Final = (
    "index",
    "key",
    "status",
    "model",
    "stop_reason",
    "cost_usd",
    "batch_id",
    "error_type",
    "error_message",
    "output",
    "text",
)


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the rows."""
    source = _source(options, terminal)
    with terminal.progress("Reading rows", shown=not terminal.out.isatty()) as advance:
        rows = islice(_chosen(_counted(read_rows(source), advance), options), options.limit)
        if options.output == "json":
            terminal.write_json_list(map(_fields, rows))
        elif options.output == "csv":
            terminal.write_csv(_CSV, map(_cells, rows))
        elif not terminal.write_table(_TABLE, map(_shown, rows)):
            terminal.note("There is no such row.")
    return 0


def _source(options: argparse.Namespace, terminal: Terminal) -> Any:
    """Return what has the rows: a file, or the output of the task, which has them if they are few.

    :raises ResultsError: it is not known where they are.
    """
    if len(options.names) == 1 and "/" in options.names[0] and not options.names[0].startswith("msgbatch_"):
        return options.names[0]
    with create_session() as session:
        found = find_named(session, options.names, options.map_index)
        outputs = [output for each in found if (output := read_output(session, each.key))]
    if standing(found[0], timezone.utcnow()).is_live:
        terminal.note("The submission is in progress. These are the rows that are landed.")
    return _of_submission(found[0], outputs)


def _of_submission(found: FoundSubmission, outputs: list[Manifest]) -> Any:
    """Prefer the file that every format has. Where this machine cannot reach it, the output may have the rows."""
    folder = folder_of(found)
    if folder is None:
        raise ResultsError(f"{name_of(found.key)} does not say where its rows are.", "It has sent nothing, or ran dry.")
    path = f"{folder}/{RESULTS_FILE}"
    with_rows = next((output for output in outputs if output.responses is not None), None)
    if with_rows is not None and folder_of_file(path)[0].size(RESULTS_FILE) is None:
        return with_rows
    return path


def _counted(rows: Iterator[Row], advance: Any) -> Iterator[Row]:
    for row in rows:
        advance(1)
        yield row


def _chosen(rows: Iterator[Row], options: argparse.Namespace) -> Iterator[Row]:
    statuses, keys = frozenset(options.status or ()), frozenset(options.key or ())
    for row in rows:
        if statuses and row.status not in statuses and not ("failed" in statuses and row.status != "succeeded"):
            continue
        if keys and keys.isdisjoint(_forms(row.key)):
            continue
        yield row


def _forms(key: Any) -> set[str]:
    """Return the texts that name a key: ``17`` names the rows of "17" and of 17."""
    return {key, json.dumps(key)} if isinstance(key, str) else {json.dumps(key)}


def _fields(row: Row) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(row)
    return fields


def _cells(row: Row) -> tuple[Any, ...]:
    error = row.error or {}
    return (
        row.index,
        _text(row.key),
        row.status,
        row.model,
        row.stop_reason,
        row.cost_usd,
        row.batch_id,
        error.get("type"),
        error.get("message"),
        None if row.output is None else json.dumps(_fields(row)["output"], ensure_ascii=False),
        row.text,
    )


def _shown(row: Row) -> tuple[object, ...]:
    return (
        row.index,
        _text(row.key),
        row.status,
        None if row.cost_usd is None else rounded_usd(Decimal(row.cost_usd)),
        _answer(row)[:_SHOWN_CHARACTERS],
    )


def _answer(row: Row) -> str:
    if row.status == "succeeded":
        return row.text or ""
    return ": ".join(str(part) for part in ((row.error or {}).get(name) for name in ("type", "message")) if part)


def _text(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, ensure_ascii=False)
