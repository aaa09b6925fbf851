"""One request to ask directly: what it takes of the rate limits, and what it may cost at most."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

import msgspec

from airflow_claude_batch.batch.money.cost import Tokens
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.prices import NEWEST_TOKENIZER
from airflow_claude_batch.batch.money.pricing import PriceTable


class Demand(NamedTuple):
    """What a request takes of the rate limits of its model.

    :ivar input_tokens: estimated from the length of the prompt.
    :ivar max_tokens: the most output tokens.
    """

    model: str
    input_tokens: int
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectRequest:
    """One request to ask directly.

    :param index: of the request in its submission.
    :param params: JSON, as it is sent.
    :param bound: USD that it costs at most. None if its model has no price.
    """

    index: int
    params: bytes = field(repr=False)
    demand: Demand
    bound: Decimal | None

    @classmethod
    def of(cls, index: int, params: bytes, prices: PriceTable) -> DirectRequest:
        """Measure checked params.

        :param params: JSON without blanks between its values.
        :param prices: the full ones, not those of message batches.
        """
        planned = PlannedRequest.of(params, load=lambda: msgspec.json.decode(params, type=dict))
        entry = prices.lookup(planned.model)
        per_token = entry.characters_per_token if entry else NEWEST_TOKENIZER
        # Limits belong to a model, whichever of its names a request has.
        name = entry.id if entry else planned.model
        demand = Demand(name, max(1, int(planned.bytes_length / per_token)), planned.max_tokens)
        return cls(index=index, params=params, demand=demand, bound=upper_bound(planned, prices))


def upper_bound(request: PlannedRequest, prices: PriceTable) -> Decimal | None:
    """Return what a request costs at most in USD. Return None if its model has no price.

    No token is shorter than a byte, all of ``max_tokens`` is used, and what is marked for the cache is written to it.
    What server tools add is outside of the bound, and so are images and documents given by reference.
    """
    entry = prices.lookup(request.model)
    cached = min(request.cached_bytes, request.bytes_length)
    is_long_lived = request.cache_ttl == "1h"
    tokens = Tokens(
        input=request.bytes_length - cached,
        cache_write_5m=0 if is_long_lived else cached,
        cache_write_1h=cached if is_long_lived else 0,
        output=request.max_tokens,
    )
    costs = [
        prices.token_cost(tokens, request.model, inference_geo=request.inference_geo, long_prompt=is_long)
        for is_long in ((False, True) if entry is not None and entry.is_long(tokens.prompt) else (False,))
    ]
    amounts = [cost.usd for cost in costs if cost is not None]
    return max(amounts) if len(amounts) == len(costs) else None
