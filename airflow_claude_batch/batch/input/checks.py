"""Checks each request against the rules of the API before anything is sent.

The API accepts a batch whose requests break these rules. Each such request then ends as an error, after the wait.
``preflight.rules`` is the table of the rules, each with the place where it is written down. Whether a model still runs
is checked when its requests are sent: see ``money.models``.
"""

from __future__ import annotations

from collections.abc import Collection, Set

from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.cache_marks import check_cache_marks, has_marks
from airflow_claude_batch.batch.input.preflight.combinations import check_combinations
from airflow_claude_batch.batch.input.preflight.conditions import Conditions, conditions_of
from airflow_claude_batch.batch.input.preflight.messages import check_messages
from airflow_claude_batch.batch.input.preflight.models import check_model
from airflow_claude_batch.batch.input.preflight.parameters import check_parameters
from airflow_claude_batch.batch.money.prices import ModelPrice
from airflow_claude_batch.batch.money.pricing import PriceTable


class RequestChecker:
    """Checks requests one by one, against the rules of the API and those of the model that each one names.

    >>> checker = RequestChecker(PriceTable.load(), api_version="2026-10-21", betas=())
    >>> checker.check(Request(0, "a", {"model": "claude-haiku-5-5", "max_tokens": 0, "messages": []}))
    Traceback (most recent call last):
    InvalidMessageError: messages[0] (key 'a'): 'max_tokens' must be at least 1, not 0.

    :param betas: names in the ``anthropic-beta`` header of the create call.
    :param allow_unknown: send parameters, fields and kinds that are not known here.
    """

    def __init__(
        self, prices: PriceTable, *, api_version: str, betas: Collection[str], allow_unknown: bool = False
    ) -> None:
        self._prices = prices
        self._conditions = conditions_of(api_version, betas, allow_unknown=allow_unknown)
        self._models: dict[str, ModelPrice | None] = {}

    def check(self, request: Request) -> None:
        """Raise if the API would refuse the request.

        :raises InvalidMessageError: names the element, the field and the remedy.
        """
        kinds = _check_any_model(request, self._conditions)
        model = self._model(request.params["model"])
        if model is not None:
            check_model(request, model, self._conditions, kinds)

    def _model(self, name: str) -> ModelPrice | None:
        if name not in self._models:
            self._models[name] = self._prices.lookup(name)
        return self._models[name]


def check_params(request: Request, *, api_version: str) -> None:
    """Raise if the API refuses these params whatever the model.

    :raises InvalidMessageError: names the element, the field and the remedy.
    """
    _check_any_model(request, conditions_of(api_version))


def _check_any_model(request: Request, conditions: Conditions) -> Set[str]:
    """Raise if the API refuses the request whatever the model. Return the kinds of its content blocks."""
    check_parameters(request, conditions)
    kinds = check_messages(request, conditions)
    if len(request.params) > 3:
        check_combinations(request)
    if has_marks(request.params, kinds):
        check_cache_marks(request, conditions)
    return kinds
