"""Give requests whose answers were cut off more output tokens for the repair round.

The request keeps its identity, which is what the author wrote. More tokens only change how it is sent this time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from airflow_claude_batch.batch.land.parse_result import CUT_OFF
from airflow_claude_batch.batch.money.pricing import PriceTable

if TYPE_CHECKING:
    from airflow_claude_batch.batch.input.request_file import RequestFile
    from airflow_claude_batch.batch.land.landing import Landing

#: The new limit is this many times the tokens that did not suffice.
TOKEN_LIMIT_FACTOR: Final = 2


def raise_token_limits(landing: Landing, requests: RequestFile, prices: PriceTable) -> None:
    """Double ``max_tokens`` of every request whose answer was cut off, at most to the model's own limit."""
    for index in landing.repairable():
        answer = landing.answer(index)
        if answer.stop_reason != CUT_OFF or index in requests.duplicates:
            continue
        used = answer.usage.output_tokens if answer.usage else 0
        wanted = TOKEN_LIMIT_FACTOR * max(used, requests.max_tokens(index))
        model_limit = prices.max_answer_tokens(answer.model or requests.model(index))
        requests.raise_max_tokens(index, wanted if model_limit is None else min(wanted, model_limit))
