"""Direct requests: how they end, their limits, faults and books."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx
import pytest

from airflow_claude_batch.simulator import ManualClock, MessageRates, Simulator

START = datetime(2026, 11, 22, 9, tzinfo=UTC)
HEADERS = {"authorization": "Bearer sk-test", "anthropic-version": "2026-10-21"}


def params(prompt="hello", **more):
    return {"model": "claude-haiku-5-5", "max_tokens": 100, "messages": [{"role": "user", "content": prompt}]} | more


def post(simulator, **given):
    client = httpx.Client(transport=simulator.transport(), base_url="http://simulator", headers=HEADERS)
    return client.post("/v1/messages", json=params(**given))


def simulated(**rates):
    return Simulator(clock=ManualClock(START), message_rates=MessageRates(**rates))


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        ("errored:overloaded_error", 529),
        ("errored:rate_limit_error", 429),
        ("errored:api_error", 500),
        ("errored:timeout_error", 504),
        ("errored:invalid_request_error:no", 400),
        ("expired", 200),
        ("canceled", 200),
        ("refusal", 200),
    ],
)
def test_outcomes_become_statuses(outcome, status):
    assert post(Simulator(outcome=lambda *_: outcome)).status_code == status


@pytest.mark.parametrize(
    ("rates", "accepted", "retry_after"),
    [
        ({"requests": 3}, 3, "20"),
        ({"input_tokens": 7}, 3, "9"),  # each prompt has 2 tokens
        ({"output_tokens": 120}, 3, "1"),  # each reserves 100 and gives back all but 7: 113, 106 and 99 are left
    ],
)
def test_above_a_limit_requests_get_a_429_with_retry_after(rates, accepted, retry_after):
    simulator = simulated(**rates)
    responses = [post(simulator) for _ in range(accepted + 1)]
    assert [each.status_code for each in responses] == [200] * accepted + [429]
    assert responses[-1].headers["retry-after"] == retry_after
    assert responses[-1].json()["error"]["type"] == "rate_limit_error"
    simulator.advance(float(retry_after))
    assert post(simulator).status_code == 200


def test_each_model_has_limits_of_its_own():
    simulator = simulated(requests=1)
    assert [post(simulator, model=model).status_code for model in ("claude-haiku-5-5", "claude-opus-5-5")] == [200, 200]


def test_reserved_tokens_come_back_with_the_answer():
    simulator = Simulator(
        clock=ManualClock(START), message_seconds=0.01, message_rates=MessageRates(output_tokens=1000)
    )
    left = [post(simulator, max_tokens=400).headers["anthropic-ratelimit-output-tokens-remaining"] for _ in range(2)]
    assert left == ["600", "200"]
    simulator.advance(0.01)
    assert post(simulator, max_tokens=400).headers["anthropic-ratelimit-output-tokens-remaining"] == "586"


def test_the_limits_refill_in_a_minute():
    simulator = simulated(requests=2)
    assert [post(simulator).status_code for _ in range(3)] == [200, 200, 429]
    simulator.advance(60)
    assert [post(simulator).status_code for _ in range(3)] == [200, 200, 429]


def test_the_prompt_cache_is_that_of_the_batches():
    simulator = Simulator()
    system = [{"type": "text", "text": "x" * 40_000, "cache_control": {"type": "ephemeral"}}]
    usages = [post(simulator, system=system).json()["usage"] for _ in range(2)]
    assert [usage["cache_read_input_tokens"] for usage in usages] == [0, 10_000]


def test_a_body_that_is_no_object_is_refused():
    client = httpx.Client(transport=Simulator().transport(), base_url="http://simulator", headers=HEADERS)
    assert client.post("/v1/messages", json=[1]).status_code == 400
    broken = client.post("/v1/messages", content=b"{", headers={"content-type": "application/json"})
    assert json.loads(broken.content)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("name", ["requests", "input_tokens", "output_tokens"])
def test_a_limit_below_one_is_refused(name):
    with pytest.raises(ValueError, match="below 1"):
        MessageRates(**{name: 0})
