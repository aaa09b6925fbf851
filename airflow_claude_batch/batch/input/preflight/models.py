"""Checks what single models refuse. ``prices.json`` says which, under ``refuses``."""

from __future__ import annotations

from collections.abc import Set
from typing import Any, Final, NamedTuple

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.messages import INNER_LIST, content_blocks, is_prefill
from airflow_claude_batch.batch.input.preflight.refusal import kind_of, refuse
from airflow_claude_batch.batch.money.prices import Feature, ModelPrice

#: Raises the limit of one answer, in batches only; batch-processing, 2026-10-08.
EXTENDED_OUTPUT_BETA: Final = "output-300k-2026-03-24"
#: Models that refuse sampling parameters take a ``top_p`` from here on; API reference of messages, 2026-10.
LEAST_TOP_P: Final = 0.99
MOST_IMAGES_OF_SMALL_WINDOW: Final = 100
_LARGE_WINDOW: Final = 500_000


class _UsedFeature(NamedTuple):
    """Something in a request that some models refuse."""

    feature: Feature
    name: str
    remedy: str


def check_model(request: Request, model: ModelPrice, conditions: Conditions, kinds: Set[str]) -> None:
    """Raise if the request asks for something that its model refuses.

    :param kinds: the types of all content blocks in the messages.
    :raises InvalidMessageError: names the element, the model and the remedy.
    """
    _check_answer_length(request, model, conditions)
    if kinds and (model.max_input_tokens or _LARGE_WINDOW) < _LARGE_WINDOW:
        _check_images(request, model)
    for used in _used_features(request.params):
        if used.feature in model.refuses:
            remedy = used.remedy
            if used is _PREFILL and request.is_single_message:
                remedy = f"{remedy} {INNER_LIST}"
            refuse(request, used.feature, f"{model.id} refuses {used.name}.", remedy)


def _check_answer_length(request: Request, model: ModelPrice, conditions: Conditions) -> None:
    is_extended = EXTENDED_OUTPUT_BETA in conditions.betas
    limit = (is_extended and model.extended_max_tokens) or model.max_tokens
    given = request.params["max_tokens"]
    if limit is None or given <= limit:
        return
    remedy = "Lower 'max_tokens'."
    if model.extended_max_tokens and limit < given <= model.extended_max_tokens:
        remedy = f"Lower 'max_tokens', or add {EXTENDED_OUTPUT_BETA} to the betas of the connection's extra."
    problem = f"'max_tokens' of {model.id} must be at most {limit}, not {short_repr(given)}."
    refuse(request, "max_tokens_of_model", problem, remedy)


def _check_images(request: Request, model: ModelPrice) -> None:
    """Models with a window of 200,000 tokens take fewer images."""
    images = sum(block["type"] == "image" for block in content_blocks(request.params["messages"]))
    if images > MOST_IMAGES_OF_SMALL_WINDOW:
        problem = f"the request has {images} images, and {model.id} takes {MOST_IMAGES_OF_SMALL_WINDOW}."
        refuse(request, "image_count", problem, "Split the request, or use a model with a larger window.")


def _used_features(params: dict[str, Any]) -> list[_UsedFeature]:
    used = []
    if is_prefill(params["messages"][-1]):
        used.append(_PREFILL)
    if len(params["messages"]) > 1 and any(message["role"] == "system" for message in params["messages"]):
        used.append(_SYSTEM_MESSAGES)
    if len(params) > 3:
        used += _used_in_parameters(params)
    return used


def _used_in_parameters(params: dict[str, Any]) -> list[_UsedFeature]:
    used = []
    if kind_of(params.get("tool_choice")) in ("any", "tool"):
        used.append(_FORCED_TOOL_USE)
    if params.get("inference_geo") is not None:
        used.append(_INFERENCE_GEO)
    if params.get("tools") and any((kind_of(tool) or "").startswith("computer_2") for tool in params["tools"]):
        used.append(_COMPUTER)
    used += _used_for_thinking(params)
    temperature, top_p = params.get("temperature"), params.get("top_p")
    narrows = top_p is not None and top_p < LEAST_TOP_P
    if temperature not in (None, 1) or narrows or params.get("top_k") is not None:
        used.append(_SAMPLING_PARAMETERS)
    if temperature is not None and top_p is not None:
        used.append(_TEMPERATURE_AND_TOP_P)
    return used


def _used_for_thinking(params: dict[str, Any]) -> list[_UsedFeature]:
    kind = kind_of(params.get("thinking"))
    effort = (params.get("output_config") or {}).get("effort")
    used = [_THINKING[kind]] if kind in _THINKING else []
    if effort is not None:
        used.append(_EFFORT)
    if effort in _HIGH_EFFORTS:
        used.append(_HIGH_EFFORTS[effort])
        if kind in ("disabled", "between_tools"):
            used.append(_NO_THINKING_AT_HIGH_EFFORT)
    return used


_FORCED_TOOL_USE: Final = _UsedFeature(
    "forced_tool_use", "a forced tool_choice", "Use output_schema, or output_config.format, for structured answers."
)
_THINKING: Final = {
    "enabled": _UsedFeature(
        "thinking_enabled", "thinking of type 'enabled'", "Use type 'adaptive' with output_config.effort."
    ),
    "disabled": _UsedFeature(
        "thinking_disabled", "thinking of type 'disabled'", "Leave 'thinking' out, or lower output_config.effort."
    ),
    "adaptive": _UsedFeature(
        "thinking_adaptive", "thinking of type 'adaptive'", "Use {'type': 'enabled', 'budget_tokens': …}."
    ),
    "between_tools": _UsedFeature(
        "thinking_between_tools",
        "thinking of type 'between_tools'",
        "Only claude-sonnet-5-5 takes it. Use 'disabled' or 'adaptive', or leave 'thinking' out.",
    ),
}
_NO_THINKING_AT_HIGH_EFFORT: Final = _UsedFeature(
    "no_thinking_at_high_effort",
    "effort above high without thinking",
    "Lower output_config.effort to high, or use thinking of type 'adaptive'.",
)
_EFFORT: Final = _UsedFeature("effort", "'effort'", "Leave 'effort' out, or use a newer model.")
_HIGH_EFFORTS: Final = {
    "xhigh": _UsedFeature("effort_xhigh", "the effort 'xhigh'", "Use another effort, such as 'high'."),
    "max": _UsedFeature("effort_max", "the effort 'max'", "Use another effort, such as 'high'."),
}
_PREFILL: Final = _UsedFeature(
    "prefill", "a conversation that ends with an assistant's turn", "End the conversation with a user's turn."
)
_SYSTEM_MESSAGES: Final = _UsedFeature(
    "system_messages", "system messages in a conversation", "Put the instructions into the parameter 'system'."
)
_SAMPLING_PARAMETERS: Final = _UsedFeature(
    "sampling_parameters", "temperature, top_p and top_k", "Remove these parameters."
)
_TEMPERATURE_AND_TOP_P: Final = _UsedFeature("temperature_and_top_p", "temperature beside top_p", "Remove one of them.")
_INFERENCE_GEO: Final = _UsedFeature(
    "inference_geo", "inference_geo", "Leave 'inference_geo' out, or use a model of 4.6 or newer."
)
_COMPUTER: Final = _UsedFeature(
    "dated_computer_tools", "the tools computer_20…", "Use {'type': 'computer_toolset_20260801'}."
)
