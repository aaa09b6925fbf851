"""Checks parameters that do not go together. They, and the messages, are right each by itself."""

from __future__ import annotations

from typing import Final

from airflow_claude_batch.batch.input.element_errors import short_repr
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.preflight.messages import (
    INNER_LIST,
    asks_for_citations,
    content_blocks,
    is_prefill,
)
from airflow_claude_batch.batch.input.preflight.refusal import kind_of, refuse

#: With thinking, ``top_p`` has a range of its own.
_LOWEST_TOP_P: Final = 0.95
_USERS_TURN: Final = "End the conversation with a user's turn"


def check_combinations(request: Request) -> None:
    """Raise if parameters of the request do not go together.

    :raises InvalidMessageError: names the element, the parameters and the remedy.
    """
    if request.params.get("thinking") is not None:
        _check_thinking(request)
    if request.params.get("output_config") is not None:
        _check_output_format(request)


def _check_thinking(request: Request) -> None:
    params = request.params
    kind = kind_of(params["thinking"])
    if kind not in ("enabled", "adaptive"):
        return
    if is_prefill(params["messages"][-1]):
        problem = "the beginning of an answer does not go with thinking."
        refuse(request, "prefill_with_thinking", problem, f"{_USERS_TURN}, or leave 'thinking' out.")
    if kind == "enabled" and kind_of(params.get("tool_choice")) in ("any", "tool"):
        problem = "a forced tool_choice does not go with thinking of type 'enabled'."
        remedy = "Set tool_choice to {'type': 'auto'}, or leave 'thinking' out."
        refuse(request, "forced_tool_with_thinking", problem, remedy)
    if params.get("top_k") is not None or params.get("temperature") not in (None, 1):
        problem = "top_k and a temperature other than 1 do not go with thinking."
        refuse(request, "sampling_with_thinking", problem, "Remove temperature and top_k, or leave 'thinking' out.")
    top_p = params.get("top_p")
    if top_p is not None and top_p < _LOWEST_TOP_P:
        problem = f"with thinking, 'top_p' must be from 0.95 to 1, not {short_repr(top_p, 30)}."
        refuse(request, "sampling_with_thinking", problem, "Remove 'top_p', or leave 'thinking' out.")


def _check_output_format(request: Request) -> None:
    """An output schema goes neither with prefilled answers nor with citations."""
    params = request.params
    if params["output_config"].get("format") is None:
        return
    if is_prefill(params["messages"][-1]):
        problem = "an output schema does not go with a conversation that ends with an assistant's turn."
        remedy = f"{_USERS_TURN}, or leave output_schema out."
        refuse(
            request, "prefill_with_schema", problem, f"{remedy} {INNER_LIST}" if request.is_single_message else remedy
        )
    if any(map(asks_for_citations, content_blocks(params["messages"]))):
        problem = "an output schema does not go with citations."
        refuse(request, "citations_with_schema", problem, "Leave out the citations or output_schema.")
