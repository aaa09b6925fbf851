"""Bring a message batch whose answers are paid for into the submission of a task."""

from __future__ import annotations

import argparse
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.adoption import Target, adopt_into, find_target
from airflow_claude_batch._airflow.known_batches import owner_name
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.task_ledgers import ledger_store
from airflow_claude_batch._airflow.task_rows import TaskKey
from airflow_claude_batch.api.limits import check_batch_id
from airflow_claude_batch.batch.adopt.adopt import AdoptionPlan, plan_adoption
from airflow_claude_batch.batch.adopt.change_ledger import Standing
from airflow_claude_batch.batch.adopt.compare import Comparison
from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.hooks import ClaudeHook

#: A task in one of these states is started by the scheduler; others have to be cleared.
_STARTS_BY_ITSELF = frozenset({None, "scheduled", "queued", "up_for_retry"})


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Say what an adoption would do, and do it if the user says so."""
    check_batch_id(options.batch_id)
    dag_id, run_id, task_id = options.into
    key = TaskKey(dag_id, run_id, task_id, -1 if options.map_index is None else options.map_index)
    with create_session() as session:
        target = find_target(session, options.batch_id, key, results_path=options.results_path)
    plan = _plan(options, target, terminal)
    is_done = plan.is_done
    adopted = False if is_done or not options.yes else adopt_into(target, plan)
    if options.output == "json":
        terminal.write_json(_fields(target, plan, adopted=adopted))
        return 0
    if is_done:
        terminal.write(_done(target, plan))
        return 0
    for line in _lines(target, plan):
        terminal.write(line)
    if not options.yes:
        terminal.note("Nothing was changed: add --yes to adopt it.")
    elif adopted:
        terminal.write(f"Adopted. {_next_step(target)}")
    else:
        terminal.write("Somebody else has adopted it meanwhile.")
    return 0


def _plan(options: argparse.Namespace, target: Target, terminal: Terminal) -> AdoptionPlan:
    hook = ClaudeHook(options.conn_id or target.conn_id or ClaudeHook.default_conn_name)
    with (
        create_session() as session,
        hook.get_conn() as client,
        tempfile.TemporaryDirectory(prefix="claude-batch-") as scratch,
        terminal.progress(f"Reading {options.batch_id}") as advance,
    ):
        # The results may take minutes to read: no transaction stays open meanwhile.
        session.connection(execution_options={"isolation_level": "AUTOCOMMIT"})
        return plan_adoption(
            options.batch_id,
            ledger_store(session, target.key, target.folder),
            target.folder,
            client,
            settings.price_table(),
            Path(scratch),
            on_row=lambda _: advance(1),
        )


def _lines(target: Target, plan: AdoptionPlan) -> list[str]:
    found, name = plan.comparison, owner_name(target.key)
    assert found is not None  # noqa: S101  # it is None only if there is nothing to do
    lines = [f"{plan.batch_id}: {quantity(found.answers, 'answer')}, paid for with {_usd(found.bill)}."]
    if found.requests is None:
        lines.append(
            f"There are no requests of {name} in {target.folder.uri('')}, so the answers cannot be compared now. The "
            "task lands those to requests that it still asks, by their content, and no others. If the task has a "
            "results_path of its own, name it with --results-path."
        )
    else:
        lines.append(
            f"{found.answered:,} of {quantity(found.requests, 'request')} of {name} get an answer, "
            f"worth {_usd(found.matched_bill)}."
        )
        if others := found.answers - found.matched:
            lines.append(f"{quantity(others, 'answer')} {_is(others)} to no request of this task, and not landed.")
        if rest := found.requests - found.answered:
            lines.append(f"Unless they are answered already, the other {rest:,} are sent, and paid for, by the task.")
    if not found.is_whole:
        lines.append(
            f"Only {found.rows:,} of {quantity(found.expected, 'result')} could be read now; the task reads them again."
        )
    if not plan.has_ledger:
        lines.append("The ledger of this task is lost: it gets a new one.")
    elif plan.standing is Standing.INTENDED:
        lines.append("It is the batch of a create call of this task whose response was lost.")
    elif plan.standing is Standing.DISCARDED:
        lines.append("The task had given it up: its answers were not wanted any more, or it was not found.")
    return lines


def _done(target: Target, plan: AdoptionPlan) -> str:
    name = owner_name(target.key)
    if plan.standing is Standing.LANDED:
        return f"There is nothing to do: the answers of {plan.batch_id} are in the results of {name}."
    return f"There is nothing to do: {name} knows {plan.batch_id}. {_next_step(target)}"


def _next_step(target: Target) -> str:
    key = target.key
    if target.state in _STARTS_BY_ITSELF:
        return "The next try of the task lands its answers, and pays nothing for them again."
    return (
        f"Now clear the task {key.task_id} in the run {key.run_id} of {key.dag_id}: it lands the answers, and pays "
        "nothing for them again."
    )


def _usd(bill: Bill) -> str:
    cost = bill.cost
    return "an unknown amount" if cost is None or bill.unreadable_answers else f"{rounded_usd(cost.usd)} USD"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _fields(target: Target, plan: AdoptionPlan, *, adopted: bool) -> dict[str, Any]:
    key, found = target.key, plan.comparison
    return {
        "batch_id": plan.batch_id,
        "dag_id": key.dag_id,
        "run_id": key.run_id,
        "task_id": key.task_id,
        "map_index": key.map_index,
        "adopted": adopted,
        "standing": plan.standing.name.lower(),
        "has_ledger": plan.has_ledger,
        **_found_fields(found),
    }


def _found_fields(found: Comparison | None) -> dict[str, Any]:
    names = ("requests", "answered", "answers", "matched")
    if found is None:
        return dict.fromkeys((*names, "usd", "matched_usd"))
    amounts = {"usd": _exact(found.bill), "matched_usd": _exact(found.matched_bill)}
    return {name: getattr(found, name) for name in names} | amounts


def _exact(bill: Bill) -> str | None:
    cost = bill.cost
    return None if cost is None or bill.unreadable_answers else exact_usd(Decimal(cost.usd))
