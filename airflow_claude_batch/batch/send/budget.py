"""Estimate the cost of requests before they are sent, and compare it with ``max_cost``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, Protocol

import msgspec

from airflow_claude_batch.batch.input.element_errors import element_name
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.catalogue import ModelCatalogue
from airflow_claude_batch.batch.money.cost_limit import check_max_cost, unknown_spending_error, unpriced_error
from airflow_claude_batch.batch.money.counting import TokenCounter
from airflow_claude_batch.batch.money.estimate import Estimate, estimate_cost
from airflow_claude_batch.batch.money.expectation import Expectations
from airflow_claude_batch.batch.money.models import ModelChecker
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.money.run_history import Run
from airflow_claude_batch.batch.wait.progress import run_time_in_words

log = logging.getLogger(__name__)


class EstimateClient(TokenCounter, ModelCatalogue, Protocol):
    """Client for the free calls that an estimate needs: it counts tokens and lists models."""


def estimate_requests(
    requests: RequestFile,
    indices: Callable[[], Iterator[int]],
    prices: PriceTable,
    client: TokenCounter | None,
    *,
    models: ModelChecker,
    now: datetime,
    earlier_runs: Sequence[Run] = (),
    sampled_share: float | None = None,
) -> Estimate:
    """Estimate what these requests will cost. Check their models first, and a sample of them by counting its tokens.

    :param indices: returns the requests to estimate.
    :param client: counts the tokens of a sample, free of charge. None estimates from the lengths of the texts.
    :param now: the moment of sending.
    :param earlier_runs: of the task, the oldest first. What is expected comes from the last ones.
    :param sampled_share: share of ``max_tokens`` that the answers to a sample use. It counts more than earlier runs.
    :raises InputError: a model cannot be used, or the API is certain to refuse one of the sampled requests.
    """

    def first_of(model: str) -> int:
        return next(index for index in indices() if requests.model(index) == model)

    return estimate_cost(
        _planned(requests, indices()),
        table=prices,
        client=client,
        expectations=Expectations(earlier_runs, sampled_share=sampled_share),
        duplicates=len(requests.duplicates),
        check_models=lambda request_counts: models.check(request_counts, now, first_of),
        context_window=models.context_window,
    )


def check_budget(
    estimate: Estimate, max_cost: Decimal | None, *, name: str = "max_cost", bill: Bill | None = None
) -> None:
    """Log the estimate, and raise if it may exceed the limit together with what is already spent.

    :param max_cost: limit in USD, None for no limit.
    :param name: setting that the limit comes from, for the message.
    :param bill: what the submission has cost so far.
    :raises CostLimitError: the limit may be exceeded, or a model's price or what is spent is not known. Nothing was
        sent.
    """
    if estimate.models:
        log.info("To send in batches:\n%s", estimate.models_in_words())
    table = "\n".join(filter(None, [estimate.to_table(), run_time_in_words(estimate.run_time)]))
    log.info("Estimated cost of the requests to send:\n%s", table)
    if max_cost is None:
        return
    if bill is not None and bill.unpriced_models:
        raise unpriced_error(bill.unpriced_models, name)
    if bill is not None and (unknown := bill.unknown_answers + bill.unreadable_answers):
        raise unknown_spending_error(unknown, name)
    spent = bill.cost if bill else None
    check_max_cost(estimate, max_cost, spent=spent.usd if spent else Decimal(0), name=name)


def _planned(requests: RequestFile, indices: Iterator[int]) -> Iterator[PlannedRequest]:
    for index in indices:
        yield PlannedRequest.of(
            requests.params(index), load=partial(_params, requests, index), name=partial(_name, requests, index)
        )


def _name(requests: RequestFile, index: int) -> str:
    return element_name(index, msgspec.json.decode(requests.key(index)), argument=requests.argument)


def _params(requests: RequestFile, index: int) -> dict[str, Any]:
    params: dict[str, Any] = msgspec.json.decode(requests.params(index))
    return params
