"""What the API would refuse for this model or this version, found before anything is sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.elements import Request, check_params, named
from airflow_claude_batch.batch.input.json_errors import shown
from airflow_claude_batch.batch.money.prices import ModelPrice
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InvalidMessageError

#: Raises the cap of one answer, in batches only (batch-processing docs, 2026-10).
EXTENDED_OUTPUT_BETA: Final = "output-300k-2026-03-24"


class Preflight:
    """Checks requests one by one. Whether their models still run is seen when they are sent: see ``catalogue``."""

    def __init__(self, prices: PriceTable, *, api_version: str, betas: Collection[str]) -> None:
        self._prices = prices
        self._api_version = api_version
        self._extended = EXTENDED_OUTPUT_BETA in betas
        self._known: dict[str, ModelPrice | None] = {}

    def check(self, request: Request) -> None:
        """Refuse what cannot go well.

        :raises InvalidMessageError: names the element, the field and the remedy.
        """
        check_params(request, api_version=self._api_version)
        model = self._model(request)
        if model is None:
            return
        cap = (self._extended and model.extended_max_tokens) or model.max_tokens
        if cap is not None and request.params["max_tokens"] > cap:
            _refuse(request, f"max_tokens is {shown(request.params['max_tokens'])}; {model.id} gives at most {cap}")
        for feature, why in _used(request.params):
            if feature in model.refuses:
                _refuse(request, f"{model.id} refuses {why}")

    def _model(self, request: Request) -> ModelPrice | None:
        name = request.params["model"]
        if name not in self._known:
            self._known[name] = self._prices.lookup(name)
        return self._known[name]


def _used(params: dict[str, Any]) -> list[tuple[str, str]]:
    """Features of a request that some models refuse, and what to do instead."""
    used = []
    choice, thinking = _type_of(params.get("tool_choice")), _type_of(params.get("thinking"))
    if choice in ("any", "tool"):
        used.append(("forced_tool_use", "a forced tool_choice: use output_config.format for structured answers"))
    if thinking == "enabled":
        used.append(("thinking_enabled", 'thinking of type "enabled": use "adaptive" with output_config.effort'))
    if thinking == "disabled":
        used.append(("thinking_disabled", 'thinking of type "disabled": leave it out, or lower output_config.effort'))
    if params["messages"][-1].get("role") == "assistant":
        used.append(("prefill", "a conversation that ends with an assistant's turn: end it with a user's"))
    temperature = params.get("temperature", 1)
    as_usual = isinstance(temperature, int | float) and temperature == 1
    if not as_usual or "top_p" in params or "top_k" in params:
        used.append(("sampling_parameters", "temperature, top_p and top_k: remove them"))
    if params.get("inference_geo") is not None:
        used.append(("inference_geo", "inference_geo: leave it out, or use a model since 4.6"))
    return used


def _type_of(value: Any) -> str | None:
    kind = value.get("type") if isinstance(value, Mapping) else None
    return kind if isinstance(kind, str) else None


def _refuse(request: Request, reason: str) -> None:
    raise InvalidMessageError(f"{named(request)}: {reason}. Nothing was sent.")
