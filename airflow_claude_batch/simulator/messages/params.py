"""Rules for one request's params. A request that breaks one becomes an errored row, as in the API.

Observed error messages are quoted, the others are plausible. Sources: batch-processing docs, the migration guides,
the errors page, and captures of 2026-09-02.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_claude_batch.simulator.messages.catalogue import BUILT_IN, Catalogue
from airflow_claude_batch.simulator.messages.content import (
    CURRENT_VERSION,
    cache_problem,
    is_prefill,
    messages_problem,
    system_problem,
)
from airflow_claude_batch.simulator.messages.field_types import type_problem
from airflow_claude_batch.simulator.messages.models import EFFORTS, EXTENDED_OUTPUT_TOKENS, THINKING_TYPES, Model
from airflow_claude_batch.simulator.messages.outcomes import Outcome, invalid, unknown_model
from airflow_claude_batch.simulator.messages.prompts import prompt_tokens
from airflow_claude_batch.simulator.messages.schemas import INVALID, encode_schema, is_schema, schema_problem
from airflow_claude_batch.simulator.messages.tools import is_offered, name_of, offers_tools, server_of, toolset_of

Params = dict[str, Any]

EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
_INTERLEAVED_BETA = "interleaved-thinking-2025-05-14"
_LOWEST_ACCEPTED_TOP_P = 0.99  # of models without sampling parameters, API reference of 2026-08
_FIELDS = frozenset(
    {
        "model",
        "max_tokens",
        "messages",
        "cache_control",
        "container",
        "diagnostics",
        "inference_geo",
        "metadata",
        "output_config",
        "service_tier",
        "speed",
        "stop_sequences",
        "stream",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        "user_profile_id",
    }
)
_BETA_FIELDS = frozenset({"billing_policy", "compaction", "context_management", "mcp_servers"})
_SAMPLING_FIELDS = frozenset({"temperature", "top_p", "top_k"})
_UNSUPPORTED_FIELDS = (
    "speed",
    "fallbacks",
    "fallback_credit_token",
    "thread",
    "store",
    "previous_thread_event_id",
    "cache_hint",
    "context_hint",
)
_COUNTED_FIELDS = frozenset(
    {
        "model",
        "messages",
        "system",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "cache_control",
        "speed",
    }
)
_MAX_USER_ID = 512
_MIN_THINKING_BUDGET = 1_024
_NO_DISABLED_AT_XHIGH = ("claude-opus-5", "claude-haiku-5-5")  # thinking-troubleshooting page of 2026-11-09


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What applies to all requests of a batch: the headers of its create call, the time, and the models there are."""

    version: str
    betas: frozenset[str] = frozenset()
    user_profile_id: str | None = None
    now: datetime
    catalogue: Catalogue = BUILT_IN

    def usable_model(self, name: object) -> Model | None:
        """Find the model with that id or alias. None: it is unknown or retired."""
        return self.catalogue.usable(name, now=self.now)


def params_problem(params: Params, conditions: Conditions) -> Outcome | None:
    """Check the params of one request. Returns the outcome of an invalid request, or None."""
    problem = _shape_problem(params, conditions)
    if problem is not None:
        return invalid(problem)
    model = conditions.usable_model(params["model"])
    if model is None:
        return unknown_model(params["model"])
    for rule in _RULES:
        problem = rule(params, model, conditions)
        if problem is not None:
            return invalid(problem)
    return None


def count_problem(params: Any, conditions: Conditions) -> Outcome | None:
    """Check the params of a count_tokens call. Unlike a batch, that call fails at once."""
    if not isinstance(params, dict):
        return invalid("Input should be a valid dictionary or object to extract fields from")
    for field in ("messages", "model"):
        if field not in params:
            return invalid(f"{field}: Field required")
    extra = next(
        (field for field in params if field not in _COUNTED_FIELDS and not _is_permitted_beta(field, conditions)), None
    )
    if extra is not None:
        return invalid(f"{extra}: Extra inputs are not permitted")
    problem = type_problem(params)
    if problem is not None:
        return invalid(problem)
    model = conditions.usable_model(params["model"])
    if model is None:
        return unknown_model(params["model"])
    problems = (rule(params, model, conditions) for rule in (_messages, _tools, _system_and_cache))
    problem = next(filter(None, problems), None)
    return None if problem is None else invalid(problem)


def _shape_problem(params: Params, conditions: Conditions) -> str | None:
    if params.get("stream"):
        # The quotation marks are part of the observed text.
        return '"`stream=True` is not supported in the Message Batches API"'
    for field in ("messages", "model", "max_tokens"):
        if field not in params:
            return f"{field}: Field required"
    for field in _UNSUPPORTED_FIELDS:
        if params.get(field) is not None:
            return f"{field}: not supported in the Message Batches API"
    for field in params:
        if field not in _FIELDS and not _is_permitted(field, conditions):
            return f"{field}: Extra inputs are not permitted"
    if not params["model"] and not isinstance(params["model"], str):
        return "model: Input should be a valid string"
    return type_problem(params)


def _is_permitted(field: str, conditions: Conditions) -> bool:
    if field in _SAMPLING_FIELDS:
        return conditions.version < CURRENT_VERSION
    return _is_permitted_beta(field, conditions)


def _is_permitted_beta(field: str, conditions: Conditions) -> bool:
    return field in _BETA_FIELDS and bool(conditions.betas)


def _max_tokens(params: Params, model: Model, conditions: Conditions) -> str | None:
    wanted = params["max_tokens"]
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return "max_tokens: Input should be a valid integer"
    if wanted < 1:
        return "max_tokens: must be greater than or equal to 1"
    extended = model.extended_output and EXTENDED_OUTPUT_BETA in conditions.betas
    cap = EXTENDED_OUTPUT_TOKENS if extended else model.max_tokens
    if wanted > cap:
        return f"max_tokens: {wanted} > {cap}, which is the maximum allowed number of output tokens for {model.id}"
    return None


def _messages(params: Params, model: Model, conditions: Conditions) -> str | None:
    messages = params["messages"]
    problem = messages_problem(messages, version=conditions.version, has_betas=bool(conditions.betas))
    if problem is None and model.rejects_prefill and is_prefill(messages[-1]):
        return "This model does not support assistant message prefill. The conversation must end with a user message."
    return problem


def _length(params: Params, model: Model, _conditions: Conditions) -> str | None:
    tokens = prompt_tokens(params)
    if tokens > model.max_input_tokens:
        return f"prompt is too long: {tokens} tokens > {model.max_input_tokens} maximum"
    return None


def _sampling(params: Params, model: Model, _conditions: Conditions) -> str | None:
    for field in _SAMPLING_FIELDS.intersection(params):
        value = params[field]
        if not isinstance(value, int | float) or isinstance(value, bool):
            return f"{field}: Input should be a valid number"
        if model.rejects_sampling and not _is_accepted_sampling(field, value):
            return f"`{field}` is deprecated for this model."
    return None


def _is_accepted_sampling(field: str, value: float) -> bool:
    """Tell whether a model without sampling parameters takes the value, as one that changes nothing."""
    return (field == "temperature" and value == 1) or (field == "top_p" and _LOWEST_ACCEPTED_TOP_P <= value <= 1)


def _tools(params: Params, model: Model, _conditions: Conditions) -> str | None:
    tools = params.get("tools") or []
    problems = (_tool_problem(f"tools.{index}", tool) for index, tool in enumerate(tools))
    problem = next(filter(None, problems), None)
    if problem is not None:
        return problem
    for named in (map(name_of, tools), map(server_of, tools)):
        names = [name for name in named if name]
        if len(set(names)) != len(names):
            return "tools: Tool names must be unique."
    return _tool_choice_problem(params, model)


def _tool_problem(place: str, tool: dict[str, Any]) -> str | None:
    if toolset_of(tool):
        return f"{place}.name: Extra inputs are not permitted" if "name" in tool else None
    if not name_of(tool) and not server_of(tool):
        return f"{place}.name: Field required"
    if tool.get("input_schema") is None:
        is_custom = tool.get("type") in (None, "custom")
        return f"{place}.custom.input_schema: Field required" if is_custom else None
    if tool["input_schema"].get("type") is None:
        return f"{place}.custom.input_schema.type: Field required"
    if tool["input_schema"]["type"] != "object":
        return f"{place}.custom.input_schema.type: Input should be 'object'"
    if not is_schema(encode_schema(tool["input_schema"])):
        return f"{place}.custom.input_schema: {INVALID}"
    return None


def _tool_choice_problem(params: Params, model: Model) -> str | None:
    choice = params.get("tool_choice")
    if choice is None:
        return None
    kind = choice.get("type")
    if kind not in ("auto", "any", "tool", "none"):
        return "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'"
    if kind == "tool" and not is_offered(choice.get("name"), params):
        return f"Tool '{choice.get('name')}' not found in provided tools"
    if kind == "any" and not offers_tools(params):
        return "tool_choice: tools must be provided when tool_choice is 'any'"
    if kind in ("any", "tool") and model.rejects_forced_tools:
        return f"tool_choice: forced tool use is not supported for {model.id}. Use 'auto' or 'none'."
    return None


def _thinking(params: Params, model: Model, conditions: Conditions) -> str | None:
    thinking = params.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type")
    if kind not in THINKING_TYPES:
        return "thinking.type: Input should be 'enabled', 'disabled', 'adaptive' or 'between_tools'"
    if kind == "disabled" and model.rejects_disabled_thinking:
        return f"thinking: disabling thinking is not supported for {model.id}"
    if kind == "disabled" and model.id in _NO_DISABLED_AT_XHIGH and effort_of(params) in ("xhigh", "max"):
        return f"thinking: disabling thinking is not supported with effort {effort_of(params)} for {model.id}"
    if kind == "enabled" and model.rejects_enabled_thinking:
        return (
            '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" and '
            '"output_config.effort" to control thinking behavior.'
        )
    if kind not in model.thinking_types:
        return f"thinking: {kind} thinking is not supported on this model"
    if kind != "enabled":
        return None
    is_interleaved = model.interleaves_enabled_thinking and _INTERLEAVED_BETA in conditions.betas
    return _budget_problem(thinking.get("budget_tokens"), None if is_interleaved else params["max_tokens"])


def effort_of(params: Params) -> str | None:
    """Return the effort that a request asks for. None: it names none."""
    effort: str | None = (params.get("output_config") or {}).get("effort")
    return effort


def _budget_problem(budget: Any, max_tokens: int | None) -> str | None:
    if budget is None:
        return "thinking.enabled.budget_tokens: Field required"
    if budget < _MIN_THINKING_BUDGET:
        return "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024"
    if max_tokens is not None and budget >= max_tokens:
        return "`max_tokens` must be greater than `thinking.budget_tokens`."
    return None


def _output_config(params: Params, model: Model, _conditions: Conditions) -> str | None:
    config = params.get("output_config")
    if config is None:
        return None
    effort = config.get("effort")
    if effort not in (None, *EFFORTS):
        return "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'"
    if effort is not None and effort not in model.efforts:
        supported = f" level {effort!r}" if model.efforts else ""
        return f"This model does not support the effort parameter{supported}."
    wanted = config.get("format")
    if wanted is None:
        return None
    if wanted.get("type") != "json_schema":
        return "output_config.format.type: Input should be 'json_schema'"
    if "schema" not in wanted:
        return "output_config.format.schema: Field required"
    return schema_problem(wanted["schema"])


def _system_and_cache(params: Params, _model: Model, _conditions: Conditions) -> str | None:
    problem = system_problem(params["system"]) if "system" in params else None
    return problem or cache_problem(params)


def _details(params: Params, model: Model, conditions: Conditions) -> str | None:
    metadata = params.get("metadata") or {}
    if len(metadata.get("user_id") or "") > _MAX_USER_ID:
        return "metadata.user_id: String should have at most 512 characters"
    extra = next((name for name in metadata if name != "user_id"), None)
    if extra is not None:
        return f"metadata.{extra}: Extra inputs are not permitted"
    if not all(stop.strip() for stop in params.get("stop_sequences") or ()):
        return "stop_sequences: each stop sequence must contain non-whitespace"
    if params.get("service_tier") not in (None, "auto", "standard_only"):
        return "service_tier: Input should be 'auto' or 'standard_only'"
    if params.get("inference_geo") is not None and not model.supports_inference_geo:
        return f"inference_geo: not supported for {model.id}"
    profile = params.get("user_profile_id")
    if profile is not None and conditions.user_profile_id not in (None, profile):
        return "user_profile_id: conflicts with the anthropic-user-profile-id header of the batch"
    return None


_RULES: tuple[Callable[[Params, Model, Conditions], str | None], ...] = (
    _max_tokens,
    _messages,
    _sampling,
    _tools,
    _thinking,
    _output_config,
    _system_and_cache,
    _length,
    _details,
)
