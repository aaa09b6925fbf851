"""Checks that models still run before requests are sent to them.

The API's catalogue of models decides. Where it cannot be read, the price table does.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from airflow_claude_batch.api.model_info import ModelInfo
from airflow_claude_batch.api.other_platforms import platform_of_model
from airflow_claude_batch.batch.money.catalogue import CatalogueReader, Lookup, ModelCatalogue
from airflow_claude_batch.batch.money.prices import RETIREMENT_SLACK, Lifecycle, State
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import InputError

log = logging.getLogger(__name__)

# Betas that enlarge the context window, such as context-1m-2025-08-07: a million tokens; beta-headers, 2026-10.
_WINDOW_BETA: Final = re.compile(r"context-(\d+)m-")
_MOST_NAMES: Final = 6  # of the catalogue in one message


class ModelChecker:
    """Checks the models that requests name. Looks each one up once, and none after the first failure.

    :param catalogue: the API's catalogue; None leaves the decision to the price table.
    :param argument: what gave the elements, for errors: ``messages`` or ``rows``.
    """

    def __init__(self, prices: PriceTable, catalogue: ModelCatalogue | None, *, argument: str = "messages") -> None:
        self._argument = argument
        self._prices = prices
        self._reader = CatalogueReader(catalogue, [(model, *entry.aliases) for model, entry in prices.models.items()])
        self._betas = catalogue.betas if catalogue is not None else ()
        self._checked: tuple[str, ...] = ()

    def check(self, request_counts: Mapping[str, int], now: datetime, first_index: Callable[[str], int]) -> None:
        """Log a warning for models that retire soon, and raise for models that cannot be used.

        :param request_counts: the number of requests of each model.
        :param now: the moment of sending.
        :param first_index: returns the index of the first request that names a model.
        :raises InputError: a model is retired, does not run in message batches, or is unknown to Anthropic's API.
        """
        self._checked = tuple(request_counts)
        for model, count in request_counts.items():
            self._check_form(model, count, first_index)
            lookup = self._reader.look_up(model)
            info, lifecycle = lookup.info, self._lifecycle(model, lookup.info, now)
            if lifecycle.state == "retired":
                problem, remedy = f"{lifecycle.problem}", lifecycle.remedy or "Name another model."
                raise self._unusable(first_index(model), count, problem, remedy)
            if info is not None and info.batch_supported is False:
                problem = f"{model} does not run in message batches, by the API's catalogue of models."
                raise self._unusable(first_index(model), count, problem, "Name another model.")
            if lookup.is_missing:
                self._check_missing(model, lookup, count, first_index)
            if lifecycle.warning:
                log.warning("%s", lifecycle.warning)
            if info and self._prices.lookup(model) is None:
                log.warning("%s", self._prices.lifecycle(model, now).warning)

    def context_window(self, model: str) -> int | None:
        """Return the most tokens that a prompt for a checked model may have. None if nothing says it."""
        info, entry = self._reader.look_up(model).info, self._prices.lookup(model)
        window = (info and info.max_input_tokens) or (entry and entry.max_input_tokens)
        if not window or window < 0:
            return None
        return max(window, *(1_000_000 * int(beta[1]) for beta in map(_WINDOW_BETA.match, self._betas) if beta), 0)

    def resolve(self, model: str) -> str | None:
        """Return the id of the model that a name stands for now, by the API's catalogue. None if nothing tells."""
        info = self._reader.look_up(model).info
        return info.id if info is not None else None

    def count(self, indices: Sequence[int], model_of: Callable[[int], str]) -> Mapping[str, int]:
        """Count the requests of each model among checked ones. Reads none of them if only one model was checked."""
        if len(self._checked) == 1:
            return {self._checked[0]: len(indices)}
        return Counter(map(model_of, indices))

    def _check_form(self, model: str, count: int, first_index: Callable[[str], int]) -> None:
        """Raise if a name is one of a platform without message batches. A gateway may use such names.

        :raises InputError: the calls go to Anthropic's API, which has no such names.
        """
        if not self._reader.is_anthropic or self._prices.is_overridden(model):
            return
        if found := platform_of_model(model):
            remedy = f"Write {found.model}." if found.model else "Write the id of the model itself: claude-opus-5-5."
            problem = f"{_shown(model)} is a model's name on {found.platform} only."
            raise self._unusable(first_index(model), count, problem, remedy)

    def _check_missing(self, model: str, lookup: Lookup, count: int, first_index: Callable[[str], int]) -> None:
        """Warn of a model that the catalogue does not have. Raise if that is certain.

        A model of the price overrides is one that the deployment knows: not every model is in the catalogue.
        """
        remedy = _which_model(lookup)
        if lookup.is_certain and not self._prices.is_overridden(model):
            problem = f"the API has no model {_shown(model)}."
            overrides = "If your organization can use it, name it in the price overrides ([claude_batch] prices)."
            raise self._unusable(first_index(model), count, problem, f"{remedy} {overrides}")
        log.warning(
            "%s is not in the API's catalogue of models.\nThe API may refuse %s, after the batch has run.\n%s",
            _shown(model).strip("'"),
            "the request that names it" if count == 1 else f"all {count:,} requests that name it",
            remedy,
        )

    def _unusable(self, first_index: int, count: int, problem: str, remedy: str) -> InputError:
        unsent = "names it and was not sent." if count == 1 else "name it and were not sent."
        return InputError(
            f"{self._argument}[{first_index}]: {problem}", f"{quantity(count, 'request')} {unsent}", remedy
        )

    def _lifecycle(self, model: str, info: ModelInfo | None, now: datetime) -> Lifecycle:
        by_table = self._prices.lifecycle(model, now)
        if info is None:
            return by_table
        retires_on = info.retires_at.date() if info.retires_at else None
        return Lifecycle(model=model, state=_state(info, now), retires_on=retires_on, replacement=by_table.replacement)


def _state(info: ModelInfo, now: datetime) -> State:
    if info.lifecycle == "retired" or (info.retires_at and now >= info.retires_at):
        return "retired"
    if info.retires_at and now >= info.retires_at - RETIREMENT_SLACK:
        return "retires_soon"
    return "deprecated" if info.lifecycle == "deprecated" else "active"


def _which_model(lookup: Lookup) -> str:
    if lookup.alike:
        return f"Did you mean {' or '.join(lookup.alike)}?"
    if lookup.usable:
        return f"Models of the catalogue are {', '.join(lookup.usable[:_MOST_NAMES])}."
    return "Check its name."


def _shown(model: str) -> str:
    return repr(model) if len(model) <= 60 else f"{model[:57]!r}..."
