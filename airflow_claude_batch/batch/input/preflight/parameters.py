"""Checks the parameters of a request one by one, all but ``messages``, ``tools`` and ``thinking``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import (
    SAMPLING_PARAMETERS,
    VERSION_WITHOUT_SAMPLING,
    sampling_error,
    short_repr,
    type_name,
)
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.blocks import check_system
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import (
    BETA_PARAMETERS,
    EFFORTS,
    METADATA,
    NOT_IN_A_BATCH,
    OUTPUT_CONFIG,
    OUTPUT_FORMAT,
    PARAMETERS,
)
from airflow_claude_batch.batch.input.preflight.other_apis import MEANT
from airflow_claude_batch.batch.input.preflight.refusal import (
    IF_NEW,
    check_fields,
    did_you_mean,
    kind_of,
    refuse,
)
from airflow_claude_batch.batch.input.preflight.sent_schema import what_the_api_refuses
from airflow_claude_batch.batch.input.preflight.thinking import check_thinking
from airflow_claude_batch.batch.input.preflight.tools import check_mcp_servers, check_tool_choice, check_tools

LONGEST_USER_ID: Final = 512
SMALLEST_TASK_BUDGET: Final = 20_000
_UNIT: Final = (0.0, 1.0)
#: Under a beta, only names that resemble a known one as much are refused.
_ALMOST_THE_SAME: Final = 0.9


def check_parameters(request: Request, conditions: Conditions) -> None:
    """Raise if a parameter is unknown, is not taken in batches, or has a value that the API refuses.

    :raises InvalidMessageError: names the element, the parameter and the remedy.
    """
    for name, value in request.params.items():
        check = _CHECKS.get(name)
        if check is not None:
            check(request, value, conditions)
        elif name not in _UNCHECKED:
            _check_unknown(request, name, value, conditions)


def _check_unknown(request: Request, name: Any, value: Any, conditions: Conditions) -> None:
    if name in NOT_IN_A_BATCH:
        is_off = value is None or (
            name == "research_preview_2026_02" and not (isinstance(value, str) and value == "active")
        )
        if not is_off:
            refuse(request, "batch_parameter", f"{name!r} is not available in batches.", f"Remove {name!r}.")
        return
    if conditions.takes_unknown and name != "betas" and not (conditions.finds_typos and _is_typo(name)):
        return
    if name in BETA_PARAMETERS:
        remedy = "Add the name of its beta to betas in the connection's extra."
        refuse(request, "beta_parameter", f"{name!r} is a parameter of a beta.", remedy)
    problem = f"the API has no parameter {short_repr(name, 40)}."
    remedy = MEANT.get(name) or f"{did_you_mean(name, PARAMETERS)}Remove it, or correct its name. {IF_NEW}"
    refuse(request, "unknown_parameter", problem, remedy)


def _is_typo(name: Any) -> bool:
    return isinstance(name, str) and bool(get_close_matches(name, PARAMETERS, 1, _ALMOST_THE_SAME))


def _check_model(request: Request, value: Any, _conditions: Conditions) -> None:
    if not isinstance(value, str) or not value.strip():
        problem = f"'model' must be the id of a model, not {short_repr(value)}."
        remedy = "Set model on the operator or in the element, to an id such as claude-opus-5-5."
        refuse(request, "model", problem, remedy)


def _check_max_tokens(request: Request, value: Any, _conditions: Conditions) -> None:
    remedy = "Set 'max_tokens' to a whole number of at least 1."
    if isinstance(value, bool) or not isinstance(value, int):
        refuse(request, "max_tokens", f"'max_tokens' must be a whole number, not {short_repr(value)}.", remedy)
    if value < 1:
        refuse(request, "max_tokens", f"'max_tokens' must be at least 1, not {short_repr(value)}.", remedy)


def _check_stream(request: Request, value: Any, _conditions: Conditions) -> None:
    if value is not False and value is not None:
        refuse(request, "batch_parameter", "'stream' is not available in batches.", "Remove 'stream'.")


def _check_sampling(request: Request, name: str, value: Any, conditions: Conditions) -> None:
    if conditions.api_version >= VERSION_WITHOUT_SAMPLING:
        error = sampling_error(request.index, request.key, name, conditions.api_version)
        error.rule = "sampling_version"
        raise error
    if value is None:
        return
    if name == "top_k":
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            problem = f"'top_k' must be a whole number from 0, not {short_repr(value, 40)}."
            refuse(request, "sampling_range", problem, "Correct or remove 'top_k'.")
    elif isinstance(value, bool) or not isinstance(value, int | float) or not _UNIT[0] <= value <= _UNIT[1]:
        problem = f"{name!r} must be a number from 0 to 1, not {short_repr(value, 40)}."
        refuse(request, "sampling_range", problem, f"Correct or remove {name!r}.")


def _sampling_check(name: str) -> Callable[[Request, Any, Conditions], None]:
    return lambda request, value, conditions: _check_sampling(request, name, value, conditions)


def _check_stop_sequences(request: Request, value: Any, _conditions: Conditions) -> None:
    if value is None:
        return
    remedy = "Give a list of texts, such as ['END']."
    if not isinstance(value, list | tuple):
        refuse(request, "stop_sequences", f"'stop_sequences' must be a list, not {type_name(value)}.", remedy)
    for number, text in enumerate(value):
        if not isinstance(text, str):
            problem = f"'stop_sequences[{number}]' must be a string, not {type_name(text)}."
            refuse(request, "stop_sequences", problem, remedy)
        if not text.strip():
            problem = f"'stop_sequences[{number}]' is blank: it needs a character that is no white space."
            refuse(request, "stop_sequences", problem, "Remove it.")


def _check_metadata(request: Request, value: Any, conditions: Conditions) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        refuse(request, "metadata", f"'metadata' must be a mapping, not {type_name(value)}.", "Give {'user_id': …}.")
    if not conditions.takes_unknown:
        check_fields(request, "metadata", value, METADATA, "'metadata'")
    user_id = value.get("user_id")
    if user_id is not None and not isinstance(user_id, str):
        problem = f"'metadata.user_id' must be a string, not {type_name(user_id)}."
        refuse(request, "metadata", problem, "Convert it to a string.")
    if user_id is not None and len(user_id) > LONGEST_USER_ID:
        problem = f"'metadata.user_id' has {len(user_id)} characters, and {LONGEST_USER_ID} are allowed."
        refuse(request, "metadata", problem, "Give a shorter id, such as a hash of it.")


def _check_service_tier(request: Request, value: Any, conditions: Conditions) -> None:
    if value is None or (isinstance(value, str) and (value in ("auto", "standard_only") or conditions.takes_unknown)):
        return
    problem = f"'service_tier' must be 'auto' or 'standard_only', not {short_repr(value, 40)}."
    refuse(request, "service_tier", problem, "Remove 'service_tier': a batch has a tier of its own.")


def _check_text(request: Request, name: str, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        problem = f"{name!r} must be a string, not {type_name(value)}."
        refuse(request, "text_parameter", problem, f"Correct or remove {name!r}.")


def _text_check(name: str) -> Callable[[Request, Any, Conditions], None]:
    return lambda request, value, _conditions: _check_text(request, name, value)


def _check_billing_policy(request: Request, value: Any, conditions: Conditions) -> None:
    bill_to = value.get("bill_to") if isinstance(value, Mapping) else None
    if isinstance(bill_to, str) and bill_to == "user_profile":
        problem = "a batch cannot bill a user profile ('billing_policy')."
        refuse(request, "billing_policy", problem, "Remove 'billing_policy', or set bill_to to self.")
    _check_unknown(request, "billing_policy", value, conditions)


def _check_output_config(request: Request, value: Any, conditions: Conditions) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping):
        problem = f"'output_config' must be a mapping, not {type_name(value)}."
        refuse(request, "output_config", problem, "Give a mapping such as {'effort': 'low'}.")
    if not conditions.takes_unknown:
        check_fields(request, "output_config", value, OUTPUT_CONFIG, "'output_config'")
    check_effort(request, value.get("effort"), conditions)
    _check_output_format(request, value.get("format"), conditions)
    budget = value.get("task_budget")
    total = budget.get("total") if isinstance(budget, Mapping) else None
    if isinstance(total, int) and total < SMALLEST_TASK_BUDGET:
        problem = f"'output_config.task_budget.total' must be at least {SMALLEST_TASK_BUDGET}, not {total}."
        refuse(request, "task_budget", problem, "Raise it, or remove 'task_budget'.")


def check_effort(request: Request, effort: Any, conditions: Conditions, *, inside: str = "") -> None:
    """Raise if an effort is none of those that the API knows."""
    if effort is None or (isinstance(effort, str) and (effort in EFFORTS or conditions.takes_unknown)):
        return
    problem = f"'effort' must be one of {', '.join(EFFORTS)}, not {short_repr(effort, 30)}."
    remedy = f"{did_you_mean(effort, EFFORTS)}Set 'output_config.effort' to one of these."
    refuse(request, "effort_name", problem, remedy, inside=inside)


def _check_output_format(request: Request, value: Any, conditions: Conditions) -> None:
    if value is None or (conditions.takes_unknown and kind_of(value) not in (None, "json_schema")):
        return
    remedy = "Give {'type': 'json_schema', 'schema': {…}}, or use output_schema."
    if kind_of(value) != "json_schema":
        kind = short_repr(kind_of(value), 30) if isinstance(value, Mapping) else type_name(value)
        refuse(request, "output_format", f"'output_config.format' must be of type json_schema, not {kind}.", remedy)
    if not isinstance(value.get("schema"), Mapping):
        refuse(request, "output_format", "'output_config.format' needs 'schema', a mapping.", remedy)
    if not conditions.takes_unknown:
        check_fields(request, "output_format", value, OUTPUT_FORMAT, "'output_config.format'")
        if problem := what_the_api_refuses(value["schema"]):
            remedy = "Correct it, or give the schema as output_schema: that is adapted to what the API takes."
            refuse(request, "output_format_schema", f"'output_config.format.schema': {problem:.70}.", remedy)


def _nothing(_request: Request, _value: Any, _conditions: Conditions) -> None:
    """Messages are checked after the parameters."""


_CHECKS: Final[Mapping[str, Callable[[Request, Any, Conditions], None]]] = {
    "model": _check_model,
    "max_tokens": _check_max_tokens,
    "messages": _nothing,
    "system": check_system,
    "stream": _check_stream,
    "stop_sequences": _check_stop_sequences,
    "metadata": _check_metadata,
    "service_tier": _check_service_tier,
    "inference_geo": _text_check("inference_geo"),
    "billing_policy": _check_billing_policy,
    "output_config": _check_output_config,
    "thinking": check_thinking,
    "tools": check_tools,
    "tool_choice": check_tool_choice,
    "mcp_servers": check_mcp_servers,
    **{name: _sampling_check(name) for name in SAMPLING_PARAMETERS},
}
_UNCHECKED: Final = PARAMETERS - _CHECKS.keys()
