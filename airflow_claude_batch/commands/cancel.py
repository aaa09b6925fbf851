"""Cancel message batches: say what is billed, ask, and say what came of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from airflow_claude_batch._airflow.compat import timezone
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.cancel import Canceling, try_to_cancel
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.batches import NamedBatch, open_clients
from airflow_claude_batch.commands.process import one_line
from airflow_claude_batch.commands.running_batches import running_batches
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.exceptions import APIError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

_BILLED: Final = (
    "What is answered by now, or is being answered, is billed. The rest is not processed, and not billed.",
    "A task that waits for a batch lands its answers. A later try or a clear of the task sends the rest again.",
)
#: The result of a batch that nobody has agreed to cancel.
_DECLINED: Final = "declined"
_WORDS: Final = {
    Canceling.ACCEPTED: "canceling",
    Canceling.ENDED: "had ended before",
    Canceling.FAILED: "could not be canceled",
    _DECLINED: "not canceled",
}


@dataclass(frozen=True, slots=True)
class _Running:
    named: NamedBatch
    batch: MessageBatch


@dataclass(frozen=True, slots=True)
class _Outcome:
    named: NamedBatch
    requests: int | None
    #: A ``Canceling``, or ``_DECLINED``.
    result: str
    error: str | None = None


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Cancel the batches, and return 1 if one of them may run on."""
    with create_session() as session:
        named, remarks = running_batches(session, options.ids, options.conn_id, timezone.utcnow())
    with open_clients() as client_of:
        running, outcomes = _look(named, client_of)
        may_cancel = bool(running) and _may_cancel(running, terminal, yes=options.yes)
        for each in running:
            outcomes.append(_cancel(each, client_of) if may_cancel else _outcome(each, _DECLINED))
    if not outcomes:
        terminal.note("There is no message batch to cancel.")
    _write(outcomes, options, terminal)
    for remark in remarks:
        terminal.note(remark)
    return int(bool(remarks) or any(each.result in (Canceling.FAILED, _DECLINED) for each in outcomes))


def _look(
    named: Sequence[NamedBatch], client_of: Callable[[str], ClaudeClient]
) -> tuple[list[_Running], list[_Outcome]]:
    """Ask the API which batches run."""
    running, outcomes = [], []
    for each in named:
        try:
            batch = client_of(each.conn_id).retrieve_batch(each.id)
        except APIError as error:
            outcomes.append(_Outcome(each, None, Canceling.FAILED, one_line(error)))
            continue
        if batch.ended:
            outcomes.append(_Outcome(each, batch.request_counts.total, Canceling.ENDED))
        else:
            running.append(_Running(each, batch))
    return running, outcomes


def _may_cancel(running: Sequence[_Running], terminal: Terminal, *, yes: bool) -> bool:
    """Say what will be canceled and what that means. Ask, unless ``--yes`` was given."""
    for each in running:
        count, owner = quantity(each.batch.request_counts.total, "request"), each.named.owner_name
        terminal.note(
            f"{each.named.id}: {count}, created {each.batch.created_at:%Y-%m-%d %H:%M} UTC, {owner or 'unknown'}"
        )
    for line in _BILLED:
        terminal.note(line)
    if strangers := [each.named.id for each in running if each.named.owner is None]:
        terminal.note(
            f"Warning: no task of this Airflow knows {', '.join(strangers)}. Another Airflow, service or person of the "
            "workspace may have sent it and wait for it."
        )
        if not yes:
            terminal.note("Nothing was canceled. Add --yes if it is really meant.")
            return False
    return yes or terminal.confirm(f"Cancel {quantity(len(running), 'message batch')}?")


def _cancel(running: _Running, client_of: Callable[[str], ClaudeClient]) -> _Outcome:
    result, error = try_to_cancel(client_of(running.named.conn_id), running.named.id)
    return _outcome(running, result, None if error is None else one_line(error))


def _outcome(running: _Running, result: str, error: str | None = None) -> _Outcome:
    return _Outcome(running.named, running.batch.request_counts.total, result, error)


def _write(outcomes: Sequence[_Outcome], options: argparse.Namespace, terminal: Terminal) -> None:
    if options.output == "json":
        terminal.write_json_list(map(_fields, outcomes))
        return
    terminal.write_table(("batch", "requests", "result", "task"), _rows(outcomes))
    for each in outcomes:
        if each.error is not None:
            terminal.note(f"{each.named.id}: {each.error}")


def _rows(outcomes: Sequence[_Outcome]) -> Iterator[tuple[object, ...]]:
    for each in outcomes:
        count = "" if each.requests is None else f"{each.requests:,}"
        yield each.named.id, count, _WORDS[each.result], each.named.owner_name


def _fields(outcome: _Outcome) -> dict[str, Any]:
    owner = outcome.named.owner
    return {
        "batch_id": outcome.named.id,
        "conn_id": outcome.named.conn_id,
        "requests": outcome.requests,
        "result": outcome.result,
        "error": outcome.error,
        "dag_id": None if owner is None else owner.key.dag_id,
        "run_id": None if owner is None else owner.key.run_id,
        "task_id": None if owner is None else owner.key.task_id,
        "map_index": None if owner is None else owner.key.map_index,
    }
