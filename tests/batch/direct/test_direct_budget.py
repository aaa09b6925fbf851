"""What direct requests may cost: bounds before sending, prices after, and an amount that is never passed."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from batch.direct.virtual import direct_request
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.direct.budget import DirectBudget, answer_cost, answer_usage
from airflow_claude_batch.batch.direct.request import DirectRequest
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.simulator import Simulator
from airflow_claude_batch.simulator.http.exchange import Request

BATCH = PriceTable.load()
FULL = PriceTable.load({"batch_factor": "1"})
HEADERS = {
    "authorization": "Bearer sk-test",
    "anthropic-version": "2026-10-21",
    "content-type": "application/json",
}


def result(**usage):
    message = {"model": "claude-haiku-5-5", "usage": {"input_tokens": 10_000, "output_tokens": 0} | usage}
    return json.dumps({"type": "succeeded", "message": message}).encode()


def test_an_answer_costs_twice_what_it_costs_in_a_batch():
    assert answer_cost(result(), FULL) == 2 * answer_cost(result(), BATCH) == Decimal("0.001")


def test_searches_cost_the_same():
    searches = {"server_tool_use": {"web_search_requests": 3}, "input_tokens": 0}
    assert answer_cost(result(**searches), FULL) == answer_cost(result(**searches), BATCH) == Decimal("0.03")


@pytest.mark.parametrize(
    "odd",
    [
        b"{}",
        b'{"type":"succeeded","message":null}',
        b'{"type":"succeeded","message":{"model":"claude-haiku-5-5"}}',
        result(input_tokens=-1),
        result(input_tokens="many"),
        result().replace(b"claude-haiku-5-5", b"claude-unpriced-9"),
    ],
)
def test_what_cannot_be_priced_has_no_cost(odd):
    assert answer_cost(odd, FULL) is None


def test_the_usage_names_what_the_limits_count():
    model, usage = answer_usage(result(output_tokens=7))
    assert (model, usage.output_tokens) == ("claude-haiku-5-5", 7)


def test_the_bound_is_all_bytes_as_tokens_and_all_of_max_tokens():
    request = direct_request(0, "x" * 98, max_tokens=1000)  # 100 bytes with its quotation marks
    assert request.bound == (100 * Decimal("0.10") + 1000 * Decimal("0.50")) / 1_000_000
    assert request.demand == ("claude-haiku-5-5", 40, 1000)


def test_a_model_without_a_price_has_no_bound():
    assert direct_request(0, model="claude-unpriced-9").bound is None


def test_an_alias_has_the_limits_of_its_model():
    alias = next(alias for model in FULL.models.values() for alias in model.aliases)
    assert direct_request(0, model=alias).demand.model == FULL.lookup(alias).id


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=300).filter(str.strip)


@given(TEXTS, st.integers(1, 500), st.sampled_from([None, "5m", "1h"]))
def test_no_answer_costs_more_than_its_bound(text, max_tokens, ttl):
    system = [{"type": "text", "text": "rules " * 900}]
    if ttl:
        system[0]["cache_control"] = {"type": "ephemeral", "ttl": ttl}
    params = {
        "model": "claude-opus-4-8",
        "max_tokens": max_tokens,
        "system": system,
        "messages": [{"role": "user", "content": text}],
    }
    body = json.dumps(params, separators=(",", ":"), ensure_ascii=False).encode()
    bound = DirectRequest.of(0, body, FULL).bound
    simulator = Simulator(answer=lambda *_: "long " * 1000)
    response = simulator.handle(Request(method="POST", path="/v1/messages", headers=HEADERS, body=body))
    cost = answer_cost(b'{"type":"succeeded","message":%b}' % response.body, FULL)
    assert Decimal(0) < cost <= bound


AMOUNTS = st.decimals("0.0001", "1", places=4)


@given(st.lists(st.tuples(AMOUNTS, st.floats(0, 1), st.sampled_from(["settle", "release", "lose", "keep"]))), AMOUNTS)
def test_the_room_is_never_passed(requests, room):
    budget = DirectBudget(room)
    for index, (bound, share, end) in enumerate(requests):
        if not budget.fits(bound):
            continue
        budget.reserve(index, bound)
        match end:
            case "settle":
                budget.settle(index, bound * Decimal(share))
            case "release":
                budget.release(index)
            case "lose":
                budget.settle(index, None)
        assert budget.spent + budget.reserved <= room


def test_without_a_limit_everything_fits():
    budget = DirectBudget(None)
    assert budget.fits(None)
    budget.reserve(1, None)
    budget.settle(1, None)
    assert budget.spent == 0
