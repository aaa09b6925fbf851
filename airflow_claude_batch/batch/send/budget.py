"""What a submission will cost, said before it is sent, and the limit that it must keep."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

import msgspec

from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost_limit import check_max_cost, unpriced_error
from airflow_claude_batch.batch.money.estimate import Estimate, estimate_cost
from airflow_claude_batch.batch.money.models import ModelCatalogue
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.sampling import PlannedRequest, TokenCounter

log = logging.getLogger(__name__)


class EstimateClient(TokenCounter, ModelCatalogue, Protocol):
    """What is asked before anything is sent; the API's client."""


def estimate_requests(
    requests: RequestFile, indices: Iterator[int], prices: PriceTable, client: TokenCounter | None
) -> Estimate:
    """Estimate the requests that are to be sent; a bounded number of them is counted by the API, free of charge."""
    return estimate_cost(_planned(requests, indices), table=prices, client=client, duplicates=len(requests.duplicates))


def check_budget(
    estimate: Estimate, max_cost: Decimal | None, *, name: str = "max_cost", bill: Bill | None = None
) -> None:
    """Log the estimate, and refuse what may, with what is spent already, cost more than allowed.

    :param name: of the setting that limits, for the message.
    :param bill: of the submission so far.
    :raises CostLimitError: says by how much, and what would fit.
    """
    log.info("Estimate of what is to be sent:\n%s", estimate.to_table())
    if max_cost is None:
        return
    if bill is not None and bill.unpriced_models:
        raise unpriced_error(bill.unpriced_models, name)
    spent = bill.cost if bill else None
    check_max_cost(estimate, max_cost, spent=spent.usd if spent else Decimal(0), name=name)


def _planned(requests: RequestFile, indices: Iterator[int]) -> Iterator[PlannedRequest]:
    for index in indices:
        yield PlannedRequest.of(_params(requests, index), load=partial(_params, requests, index))


def _params(requests: RequestFile, index: int) -> dict[str, Any]:
    params: dict[str, Any] = msgspec.json.decode(requests.params(index))
    return params
