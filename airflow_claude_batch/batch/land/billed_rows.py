"""Read the results of a message batch without keeping them: who sent each request, and what its answer costs."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.api.wire import decode_result_line
from airflow_claude_batch.batch.land.parse_result import parse_result
from airflow_claude_batch.batch.land.rows import PAID
from airflow_claude_batch.batch.money.pricing import Charge, PriceTable
from airflow_claude_batch.exceptions import MalformedResponseError

if TYPE_CHECKING:
    from airflow_claude_batch.api.client import ClaudeClient


class BilledRow(msgspec.Struct, frozen=True, gc=False):
    """One line of the results.

    :ivar custom_id: None if the line cannot be read.
    :ivar is_answer: the request was answered, and is billed.
    :ivar charge: None without an answer, or if its usage cannot be read.
    """

    custom_id: str | None = None
    is_answer: bool = False
    charge: Charge | None = None


def read_billed_rows(client: ClaudeClient, batch_id: str, prices: PriceTable) -> Generator[BilledRow]:
    """Yield a row for each line of an ended batch's results, in any order. A line that cannot be read costs no other.

    Close the generator if it is not read to its end: it holds a connection.

    :raises APIError: the results cannot be read, or their stream is cut.
    """
    with client.stream_results(batch_id) as lines:
        for line in lines:
            try:
                result = decode_result_line(line)
            except MalformedResponseError:
                yield BilledRow()
                continue
            parsed = parse_result(result, batch_id, prices)
            yield BilledRow(result.custom_id, parsed.status in PAID, parsed.charge)
