"""Requests, and estimates of them by the bundled prices and a counter of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from batch.money.usages import TABLE

from airflow_claude_batch.batch.money.estimate import Estimate, ThreePointEstimate, estimate_cost
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.exceptions import APIConnectionError
from airflow_claude_batch.simulator.messages.prompts import prompt_tokens

MODEL = "claude-opus-5-5"
Params = dict[str, Any]


class Counter:
    """Counts tokens as the simulator does, and fails from call ``fails_at`` on."""

    def __init__(self, *, fails_at: int | None = None) -> None:
        self.calls = 0
        self._fails_at = fails_at

    def count_tokens(self, params: Mapping[str, Any], /) -> int:
        if self.calls == self._fails_at:
            raise APIConnectionError("connection refused")
        self.calls += 1
        return prompt_tokens(dict(params))


def params(text: str | list[Params] = "x" * 400, *, model: str = MODEL, max_tokens: int = 100, **more: Any) -> Params:
    return {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": text}], **more}


def plan(requests: Iterable[Params]) -> Iterator[PlannedRequest]:
    for request in requests:
        yield PlannedRequest.of(msgspec.json.encode(request), load=lambda request=request: request)  # type: ignore[misc]


def estimated(requests: Iterable[Params], counter: Counter | None = None, **more: Any) -> Estimate:
    return estimate_cost(plan(requests), table=TABLE, client=counter, **more)


def usd_of(estimate: Estimate) -> ThreePointEstimate[Decimal]:
    assert estimate.usd is not None
    return estimate.usd
