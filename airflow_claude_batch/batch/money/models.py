"""Where models stand before requests are sent to them: by the API's own catalogue, else by the price table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from airflow_claude_batch.api.wire import ModelInfo
from airflow_claude_batch.batch.money.prices import RETIREMENT_SLACK, Lifecycle, State
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import APIError, InputError, NotFoundError

log = logging.getLogger(__name__)

#: So many models are looked up in one run; it is rare that a submission names more than two.
MAX_LOOKUPS: Final = 10


class ModelCatalogue(Protocol):
    """What knows the models; the API's client does."""

    def retrieve_model(self, model_id: str, /) -> ModelInfo:
        """Look a model up, by its id or an alias.

        :raises NotFoundError: there is none.
        :raises APIError: it could not be looked up.
        """
        ...


class ModelChecker:
    """The models that requests name, each looked up once; after the first failure no more is asked.

    :param catalogue: None leaves it to the table.
    """

    def __init__(self, prices: PriceTable, catalogue: ModelCatalogue | None) -> None:
        self._prices = prices
        self._catalogue = catalogue
        self._found: dict[str, ModelInfo | None] = {}
        self._named: tuple[str, ...] = ()

    def check(self, named: Mapping[str, int], now: datetime, first: Callable[[str], int]) -> None:
        """Warn of what is near its end, and refuse what is past it.

        :param named: the number of requests of each model.
        :param now: the moment of sending.
        :param first: the index of the first request that names a model.
        :raises InputError: a model is retired, or does not run in message batches.
        """
        self._named = tuple(named)
        for model, count in named.items():
            info = self._info(model)
            lifecycle = self._lifecycle(model, info, now)
            reason = lifecycle.warning if lifecycle.state == "retired" else _unfit(model, info)
            if reason:
                raise InputError(
                    f"messages[{first(model)}], and {count:,} requests in all, cannot be answered: {reason}. None of "
                    "them was sent."
                )
            if lifecycle.warning:
                log.warning("%s", lifecycle.warning)
            if info and self._prices.lookup(model) is None:
                log.warning("%s", self._prices.lifecycle(model, now).warning)

    def count(self, indices: Sequence[int], model_of: Callable[[int], str]) -> Mapping[str, int]:
        """How many of some checked requests name each model, without reading them if all name the same."""
        if len(self._named) == 1:
            return {self._named[0]: len(indices)}
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
            log.warning("%s is not in the API's catalogue of models: it may refuse every request that names it", model)
        except (APIError, InputError) as error:
            log.info("The API's catalogue of models cannot be asked, so the price table decides: %s", error)
            self._catalogue = None
        return None


def _state(info: ModelInfo, now: datetime) -> State:
    if info.lifecycle == "retired" or (info.retires_at and now >= info.retires_at):
        return "retired"
    if info.retires_at and now >= info.retires_at - RETIREMENT_SLACK:
        return "retires_soon"
    return "deprecated" if info.lifecycle == "deprecated" else "active"


def _unfit(model: str, info: ModelInfo | None) -> str | None:
    if info is None or info.batch_supported is not False:
        return None
    return f"{model} does not run in message batches, says the API's catalogue of models"
