"""Read the first results of a message batch: who has sent it, and what it costs."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import MessageBatch
from airflow_claude_batch.batch.input.custom_id import parse_custom_id
from airflow_claude_batch.batch.land.billed_rows import read_billed_rows
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import APIError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient

#: Rows that are read of each batch: about 2 MB.
MOST_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What the first results of a batch say.

    :param token: begins its custom_ids if this package has sent it.
    :param custom_id: the first one that could be read.
    :param usd: what its answers cost. None if that is not known.
    :param is_exact: all answers were read. Else ``usd`` is what they cost if the others are like those that were read.
    :param problem: why the results could not be read. None if they could.
    """

    token: str | None = None
    custom_id: str | None = None
    usd: Decimal | None = None
    is_exact: bool = True
    problem: str | None = None


def inspect_results(
    client: ClaudeClient, batch: MessageBatch, prices: PriceTable, *, most_rows: int = MOST_ROWS
) -> Inspection:
    """Read the first results of an ended batch. Never raises because of the API: other batches are read, too."""
    if batch.archived_at is not None:
        return Inspection(problem="the API keeps its results no more")
    bill, token, first, answers, rows = Bill(prices), None, None, 0, 0
    try:
        with closing(read_billed_rows(client, batch.id, prices)) as lines:
            for row in islice(lines, most_rows):
                rows += 1
                first = first or row.custom_id
                ours = parse_custom_id(row.custom_id or "")
                token = token or (ours.token.lower() if ours else None)  # a gateway may change the case
                if row.is_answer:
                    answers += 1
                    if row.charge is None:
                        bill.unreadable_answers += 1
                    else:
                        bill.add_charge(row.charge)
    except APIError as error:
        if not rows:
            return Inspection(problem=error.summary.rstrip("."))
    usd, is_exact = _cost(bill, answers, batch.request_counts.succeeded)
    return Inspection(token=token, custom_id=first, usd=usd, is_exact=is_exact)


def _cost(bill: Bill, answers: int, succeeded: int) -> tuple[Decimal | None, bool]:
    """Return what all answers cost, given some of them, and whether that is exact."""
    cost = bill.cost
    if cost is None or bill.unreadable_answers:
        return None, False
    if answers >= succeeded:
        return cost.usd, True
    return (cost.usd * succeeded / answers, False) if answers else (None, False)
