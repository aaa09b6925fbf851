"""Checks the parameter ``thinking``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from airflow_claude_batch.batch.input.element_errors import short_repr, type_name
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.conditions import Conditions
from airflow_claude_batch.batch.input.preflight.known_fields import THINKING
from airflow_claude_batch.batch.input.preflight.refusal import check_shape, did_you_mean, kind_of, refuse

SMALLEST_BUDGET: Final = 1024
_REMEDY: Final = "Give {'type': 'adaptive'}, or leave 'thinking' out."


def check_thinking(request: Request, value: Any, conditions: Conditions) -> None:
    """Raise if ``thinking`` is of no kind that the API has, or if its budget is too small or too large."""
    if value is None:
        return
    if not isinstance(value, Mapping):
        refuse(request, "thinking", f"'thinking' must be a mapping, not {type_name(value)}.", _REMEDY)
    kind = kind_of(value)
    if kind is None or kind not in THINKING:
        if kind is not None and conditions.takes_unknown:
            return
        problem = f"'thinking.type' must be one of {', '.join(THINKING)}, not {short_repr(value.get('type'), 20)}."
        refuse(request, "thinking", problem, f"{did_you_mean(kind, THINKING)}{_REMEDY}")
    what = f"'thinking' of type {kind!r}"
    check_shape(request, "thinking", value, THINKING[kind], what, strict=not conditions.takes_unknown)
    if kind == "enabled":
        _check_budget(request, value["budget_tokens"], conditions)


def _check_budget(request: Request, budget: Any, conditions: Conditions) -> None:
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < SMALLEST_BUDGET:
        problem = f"'thinking.budget_tokens' must be at least {SMALLEST_BUDGET}, not {short_repr(budget, 30)}."
        refuse(request, "budget_minimum", problem, "Raise it, or leave 'thinking' out.")
    limit = request.params.get("max_tokens")
    if isinstance(limit, int) and budget >= limit and not conditions.is_interleaved:
        problem = f"'thinking.budget_tokens' ({short_repr(budget, 12)}) must be less than 'max_tokens' ({limit})."
        refuse(
            request, "budget_maximum", problem, "Raise 'max_tokens': thinking counts as output. Or lower the budget."
        )
