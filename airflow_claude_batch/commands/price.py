"""Price message batches: what the answers of ended ones cost, and what running ones are expected to."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_claude_batch._airflow import settings
from airflow_claude_batch._airflow.servers import create_session
from airflow_claude_batch._airflow.snapshot_values import EstimatedCost, count_of, estimated_cost
from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.adopt.compare import Comparison, compare_results
from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.commands.batches import NamedBatch, named_batches, open_clients
from airflow_claude_batch.commands.process import one_line
from airflow_claude_batch.commands.terminal import Terminal
from airflow_claude_batch.exceptions import APIError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

_COLUMNS = ("batch", "status", "requests", "answers", "USD", "remark")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Price:
    """What is known of the price of a batch.

    :param found: of an ended batch.
    :param expected: of a running one, if its task has made an estimate.
    :param error: why it is not known.
    """

    named: NamedBatch
    batch: MessageBatch | None = None
    found: Comparison | None = None
    expected: EstimatedCost | None = None
    error: str | None = None

    @property
    def usd(self) -> Decimal | None:
        """The cost of the answers whose price is known."""
        if self.found is None:
            return None
        return sum((cost.usd for cost in self.found.bill.by_model.values() if cost), Decimal(0))

    @property
    def is_complete(self) -> bool:
        """Return whether ``usd`` is the whole cost."""
        found = self.found
        return (
            found is not None and found.is_whole and found.bill.cost is not None and not found.bill.unreadable_answers
        )


def run(options: argparse.Namespace, terminal: Terminal) -> int:
    """Write the prices, and return 1 if a batch could not be read."""
    with create_session() as session:
        named = named_batches(session, options.ids, options.conn_id)
    table = settings.price_table()
    with open_clients() as client_of:
        prices = [_price(each, client_of(each.conn_id), table, terminal) for each in named]
    if options.output == "json":
        terminal.write_json_list(map(_fields, prices))
    else:
        _write(prices, terminal)
    return int(any(each.error is not None for each in prices))


def _price(named: NamedBatch, client: ClaudeClient, table: PriceTable, terminal: Terminal) -> _Price:
    batch = None
    try:
        batch = client.retrieve_batch(named.id)
        if not batch.ended:
            return _Price(named=named, batch=batch, expected=_expected(named, batch))
        with terminal.progress(f"Reading {named.id}", batch.request_counts.total) as advance:
            found = compare_results(client, batch, None, table, on_row=lambda _: advance(1))
    except APIError as error:
        return _Price(named=named, batch=batch, error=one_line(error))
    return _Price(named=named, batch=batch, found=found)


def _expected(named: NamedBatch, batch: MessageBatch) -> EstimatedCost | None:
    """Return the batch's share of the task's estimate, by the number of requests."""
    snapshot = None if named.owner is None else named.owner.snapshot
    estimate = None if snapshot is None else snapshot.estimate
    cost, requests = estimated_cost(estimate), _requests_of(estimate)
    if cost is None or not requests:
        return None
    share = Decimal(min(batch.request_counts.total, requests)) / requests
    return EstimatedCost(*(amount * share for amount in cost))


def _requests_of(estimate: Any) -> int | None:
    return count_of(estimate.get("requests")) if isinstance(estimate, Mapping) else None


def _write(prices: Sequence[_Price], terminal: Terminal) -> None:
    if not terminal.write_table(_COLUMNS, map(_row, prices)):
        terminal.note("There is no message batch to price.")
    known = [usd for each in prices if (usd := each.usd) is not None]
    if len(known) > 1:
        terminal.write(f"{rounded_usd(sum(known, Decimal(0)))} USD in all for what has ended.")


def _row(price: _Price) -> tuple[object, ...]:
    batch, found = price.batch, price.found
    return (
        price.named.id,
        "" if batch is None else batch.processing_status.replace("_", " "),
        "" if batch is None else f"{batch.request_counts.total:,}",
        "" if found is None else f"{found.answers:,}",
        _usd_in_words(price),
        "; ".join(_remarks(price)),
    )


def _usd_in_words(price: _Price) -> str:
    if price.usd is not None:
        return f"{'' if price.is_complete else '>= '}{rounded_usd(price.usd)}"
    return "unknown" if price.expected is None else f"~{rounded_usd(price.expected.expected)}"


def _remarks(price: _Price) -> Iterator[str]:
    if price.error is not None:
        yield price.error
    if price.expected is not None:
        yield f"between {rounded_usd(price.expected.lower)} and {rounded_usd(price.expected.upper)}"
    elif price.batch is not None and not price.batch.ended:
        yield "its answers are priced once it has ended"
    if price.found is None:
        return
    if unpriced := price.found.bill.unpriced_models:
        yield f"no price is known for {', '.join(unpriced)}"
    if not price.found.is_whole:
        yield f"only {price.found.rows:,} of {quantity(price.found.expected, 'result')} could be read"


def _fields(price: _Price) -> dict[str, Any]:
    batch, found = price.batch, price.found
    bill = None if found is None else found.bill
    return {
        "batch_id": price.named.id,
        "conn_id": price.named.conn_id,
        "task": price.named.owner_name or None,
        "status": None if batch is None else batch.processing_status,
        "requests": None if batch is None else batch.request_counts.total,
        "created_at": None if batch is None else batch.created_at.isoformat(),
        "ended_at": None if batch is None or batch.ended_at is None else batch.ended_at.isoformat(),
        "answers": None if found is None else found.answers,
        "usd": None if price.usd is None else exact_usd(price.usd),
        "is_complete": price.is_complete,
        "unpriced_models": [] if bill is None else bill.unpriced_models,
        "tokens": {} if bill is None else {model: part.to_manifest() for model, part in bill.tokens_by_model.items()},
        "expected_usd": price.expected and {name: exact_usd(usd) for name, usd in price.expected._asdict().items()},
        "error": price.error,
    }
