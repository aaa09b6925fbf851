"""Answers that do not satisfy the output schema: which are worth asking for again, and with how much room.

A request that is asked again stays the same request: its identity is what the author wrote. That a cut answer is given
more tokens is how it is asked this time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_claude_batch.batch.land.parse_result import CUT_OFF
from airflow_claude_batch.batch.money.pricing import PriceTable

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.request_file import RequestFile
    from airflow_claude_batch.batch.land.landing import Landing

GROWTH: Final = 2


def raise_token_limits(landing: Landing, requests: RequestFile, prices: PriceTable) -> None:
    """Let the requests whose answers were cut off be sent with twice the tokens that did not suffice."""
    for index in landing.repairable():
        answer = landing.answer(index)
        if answer.stop_reason != CUT_OFF or index in requests.duplicates:
            continue
        wanted = GROWTH * max(answer.usage.output_tokens, requests.max_tokens(index))
        cap = prices.max_answer_tokens(answer.model)
        requests.raise_max_tokens(index, wanted if cap is None else min(wanted, cap))
