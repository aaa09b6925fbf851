"""Answers that do not satisfy the output schema: which are worth asking for again, and with how much room.

A request that is asked again stays the same request: its identity is what the author wrote. That a cut answer is given
more tokens is how it is asked this time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_claude_batch.api.wire import Usage
from airflow_claude_batch.batch.money.pricing import PriceTable

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.request_file import Requests
    from airflow_claude_batch.batch.land.landing import Landing

CUT_OFF: Final = "max_tokens"
GROWTH: Final = 2
#: The same request would end so again.
_LASTING: Final = frozenset({"refusal", "model_context_window_exceeded", "pause_turn", "tool_use"})


def is_worthwhile(stop_reason: str | None, usage: Usage, model: str, prices: PriceTable) -> bool:
    """Whether another answer may be valid: of those cut off, if the model gives longer ones."""
    if stop_reason != CUT_OFF:
        return stop_reason not in _LASTING
    cap = _cap(model, prices)
    return cap is None or usage.output_tokens < cap


def make_room(landing: Landing, requests: Requests, prices: PriceTable) -> None:
    """Let the requests whose answers were cut off be sent with twice the tokens that did not suffice."""
    for index in landing.repairable():
        answer = landing.answer(index)
        if answer.stop_reason != CUT_OFF or index in requests.twins:
            continue
        wanted = GROWTH * max(answer.usage.output_tokens, requests.max_tokens(index))
        cap = _cap(answer.model, prices)
        requests.raise_max_tokens(index, wanted if cap is None else min(wanted, cap))


def _cap(model: str, prices: PriceTable) -> int | None:
    price = prices.lookup(model)
    return price.max_tokens if price else None
