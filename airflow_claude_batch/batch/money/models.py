"""Checks that models still run before requests are sent to them.

The API's catalogue of models decides. Where it cannot be read, the price table does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from airflow_claude_batch.api.model_info import ModelInfo
from airflow_claude_batch.batch.money.prices import RETIREMENT_SLACK, Lifecycle, State
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import APIError, InputError, NotFoundError

log = logging.getLogger(__name__)

#: Models that are looked up in one run. A submission rarely names more than two.
MAX_LOOKUPS: Final = 10


class ModelCatalogue(Protocol):
    """Looks models up; the API's client does."""

    def retrieve_model(self, model_id: str, /) -> ModelInfo:
        """Look a model up, by its id or an alias.

        :raises NotFoundError: there is none.
        :raises APIError: it could not be looked up.
        """
        ...


class ModelChecker:
    """Checks the models that requests name. Looks each one up once, and none after the first failure.

    :param catalogue: the API's catalogue; None leaves the decision to the price table.
    """

    def __init__(self, prices: PriceTable, catalogue: ModelCatalogue | None) -> None:
        self._prices = prices
        self._catalogue = catalogue
        self._found: dict[str, ModelInfo | None] = {}
        self._checked: tuple[str, ...] = ()

    def check(self, request_counts: Mapping[str, int], now: datetime, first_index: Callable[[str], int]) -> None:
        """Log a warning for models that retire soon, and raise for models that are retired.

        :param request_counts: the number of requests of each model.
        :param now: the moment of sending.
        :param first_index: returns the index of the first request that names a model.
        :raises InputError: a model is retired, or does not run in message batches.
        """
        self._checked = tuple(request_counts)
        for model, count in request_counts.items():
            info = self._info(model)
            lifecycle = self._lifecycle(model, info, now)
            if lifecycle.state == "retired":
                problem, remedy = f"{lifecycle.problem}", lifecycle.remedy or "Name another model."
                raise _unusable(first_index(model), count, problem, remedy)
            if info is not None and info.batch_supported is False:
                problem = f"{model} does not run in message batches, by the API's catalogue of models."
                raise _unusable(first_index(model), count, problem, "Name another model.")
            if lifecycle.warning:
                log.warning("%s", lifecycle.warning)
            if info and self._prices.lookup(model) is None:
                log.warning("%s", self._prices.lifecycle(model, now).warning)

    def count(self, indices: Sequence[int], model_of: Callable[[int], str]) -> Mapping[str, int]:
        """Count the requests of each model among checked ones. Reads none of them if only one model was checked."""
        if len(self._checked) == 1:
            return {self._checked[0]: len(indices)}
        return Counter(map(model_of, indices))

    def _lifecycle(self, model: str, info: ModelInfo | None, now: datetime) -> Lifecycle:
        by_table = self._prices.lifecycle(model, now)
        if info is None:
            return by_table
        retires_on = info.retires_at.date() if info.retires_at else None
        return Lifecycle(model=model, state=_state(info, now), retires_on=retires_on, replacement=by_table.replacement)

    def _info(self, model: str) -> ModelInfo | None:
        if model not in self._found:
            self._found[model] = self._look_up(model) if len(self._found) < MAX_LOOKUPS else None
        return self._found[model]

    def _look_up(self, model: str) -> ModelInfo | None:
        if self._catalogue is None:
            return None
        try:
            return self._catalogue.retrieve_model(model)
        except NotFoundError:
            log.warning("%s is not in the API's catalogue of models. The API may refuse all of its requests.", model)
        except (APIError, InputError) as error:
            log.info("The API's catalogue of models could not be read, so the price table is used: %s", error)
            self._catalogue = None
        return None


def _state(info: ModelInfo, now: datetime) -> State:
    if info.lifecycle == "retired" or (info.retires_at and now >= info.retires_at):
        return "retired"
    if info.retires_at and now >= info.retires_at - RETIREMENT_SLACK:
        return "retires_soon"
    return "deprecated" if info.lifecycle == "deprecated" else "active"


def _unusable(first_index: int, count: int, problem: str, remedy: str) -> InputError:
    unsent = "names it and was not sent." if count == 1 else "name it and were not sent."
    return InputError(f"messages[{first_index}]: {problem}", f"{quantity(count, 'request')} {unsent}", remedy)
