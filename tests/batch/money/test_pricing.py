from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from batch.money.usages import MILLION, PRICED_MODELS, TABLE, USAGES, usage
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import CacheCreation, Usage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.cost import Cost, Tokens


def usd(answer: Usage, model: str, *, inference_geo: str | None = None) -> str:
    cost = TABLE.usage_cost(answer, model, inference_geo=inference_geo)
    assert cost is not None
    return exact_usd(cost.usd)


# ---------------------------------------------------------------- one answer, worked by hand


@pytest.mark.parametrize(
    ("answer", "model", "expected"),
    [
        pytest.param(usage(MILLION), "claude-opus-5-5", "2", id="input: half of 4"),
        pytest.param(usage(0, MILLION), "claude-opus-5-5", "10", id="output: half of 20"),
        pytest.param(usage(five_minutes=MILLION), "claude-opus-5-5", "2.5", id="5m write: half of 5"),
        pytest.param(usage(one_hour=MILLION), "claude-opus-5-5", "4", id="1h write: half of 8"),
        pytest.param(usage(read=MILLION), "claude-opus-5-5", "0.1", id="cache read: half of 0.20"),
        pytest.param(usage(searches=3), "claude-opus-5-5", "0.03", id="web search: 3 of 0.01, no discount"),
        pytest.param(usage(14, 5), "claude-haiku-5-5", "0.00000195", id="14 of 0.05 and 5 of 0.25"),
        pytest.param(usage(MILLION, MILLION), "claude-fable-5-2", "24", id="fable 5.2: 4 and 20"),
        pytest.param(usage(read=MILLION), "claude-mythos-5-1", "0.125", id="mythos 5.1: half of 0.25"),
        pytest.param(usage(read=MILLION), "claude-fable-5", "0.5", id="fable 5: half of 1.00"),
        pytest.param(usage(MILLION, MILLION), "claude-opus-4-8", "15", id="opus 4.8: 2.50 and 12.50"),
        pytest.param(usage(MILLION, MILLION), "claude-sonnet-5-5", "6", id="sonnet 5.5: 1 and 5"),
        pytest.param(usage(read=MILLION), "claude-sonnet-5-5", "0.05", id="sonnet 5.5 reads: half of 0.10"),
        pytest.param(usage(read=MILLION), "claude-sonnet-5", "0.1", id="sonnet 5 reads: half of 0.20"),
        pytest.param(usage(MILLION, MILLION), "claude-sonnet-4-6", "9", id="sonnet 4.6: 1.50 and 7.50"),
        pytest.param(usage(MILLION, MILLION), "claude-haiku-4-5", "3", id="haiku 4.5 by its alias: 0.50 and 2.50"),
        pytest.param(usage(MILLION, MILLION), "claude-opus-4-1-20250805", "45", id="retired: 7.50 and 37.50"),
        pytest.param(usage(MILLION, MILLION), "claude-3-5-haiku-latest", "2.4", id="retired, by its alias: 0.40 and 2"),
        pytest.param(usage(MILLION, MILLION), "claude-3-haiku-20240307", "0.75", id="retired: 0.125 and 0.625"),
    ],
)
def test_one_kind_of_token_costs_half_of_its_list_price(answer: Usage, model: str, expected: str) -> None:
    assert usd(answer, model) == expected


def test_an_answer_with_everything_costs_the_sum_of_its_columns() -> None:
    answer = usage(1_000, 200, five_minutes=3_000, one_hour=4_000, read=50_000, searches=2, geo="us")

    cost = TABLE.usage_cost(answer, "claude-opus-5-5")

    assert cost == Cost(
        input=Decimal("0.0022"),  # 1,000 x 4 x 0.5 x 1.1 / 1e6
        cache_write_5m=Decimal("0.00825"),  # 3,000 x 5
        cache_write_1h=Decimal("0.0176"),  # 4,000 x 8
        cache_read=Decimal("0.0055"),  # 50,000 x 0.20
        output=Decimal("0.0022"),  # 200 x 20
        web_search=Decimal("0.02"),
        without_batch=Decimal("0.0915"),  # twice the tokens' 0.03575, and the searches
        without_cache=Decimal("0.1498"),  # 58,000 x 4 x 0.5 x 1.1 / 1e6 + 0.0022 + 0.02
    )
    assert cost.usd == Decimal("0.05575")


@pytest.mark.parametrize(
    ("asked_for", "said", "expected"),
    [
        pytest.param("us", "not_available", "2.2", id="the request asked for it"),
        pytest.param(None, "us", "2.2", id="the answer says it"),
        pytest.param("global", "us", "2", id="the request wins"),
        pytest.param(None, "not_available", "2", id="not known"),
        pytest.param("eu", None, "2", id="a place without a factor"),
    ],
)
def test_inference_in_the_us_costs_a_tenth_more(asked_for: str | None, said: str | None, expected: str) -> None:
    assert usd(usage(MILLION, geo=said), "claude-opus-5-5", inference_geo=asked_for) == expected


def test_inference_geo_does_not_change_the_price_of_a_model_before_4_6() -> None:
    assert usd(usage(MILLION), "claude-haiku-4-5", inference_geo="us") == "0.5"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(usage(100_000, 1_000), "0.00525", id="at the threshold: 0.05 and 0.25"),
        pytest.param(usage(100_001, 1_000), "0.02625025", id="above it, the output too: 0.25 and 1.25"),
        pytest.param(usage(1, read=50_000, five_minutes=50_000), "0.01687525", id="cache tokens count as prompt"),
        pytest.param(usage(10, 200_000), "0.0500005", id="a long answer is no long prompt"),
    ],
)
def test_long_prompt_of_haiku_5_5_is_billed_by_other_rates(answer: Usage, expected: str) -> None:
    assert usd(answer, "claude-haiku-5-5") == expected


def test_cache_writes_without_a_breakdown_are_billed_as_5_minutes() -> None:
    answer = Usage(input_tokens=0, output_tokens=0, cache_creation_input_tokens=MILLION)

    assert Tokens.of(answer) == Tokens(cache_write_5m=MILLION)
    assert usd(answer, "claude-opus-5-5") == "2.5"


def test_cache_writes_that_the_breakdown_leaves_out_are_billed_as_5_minutes() -> None:
    answer = Usage(
        input_tokens=0, output_tokens=0, cache_creation=CacheCreation(1, 20), cache_creation_input_tokens=100
    )

    assert Tokens.of(answer) == Tokens(cache_write_5m=80, cache_write_1h=20)


@pytest.mark.parametrize("model", ["claude-7-novella", "claude-opus-5-20260723", "", "claude-3-sonnet-20240229"])
def test_a_model_without_a_price_has_no_cost(model: str) -> None:
    assert TABLE.usage_cost(usage(1, 1), model) is None


# ---------------------------------------------------------------- many answers


@given(USAGES, PRICED_MODELS)
def test_a_cost_is_never_negative_and_never_above_what_it_is_compared_with(answer: Usage, model: str) -> None:
    cost = TABLE.usage_cost(answer, model)

    assert cost is not None
    assert min(msgspec.structs.astuple(cost)) >= 0
    assert cost.usd <= cost.without_batch <= 2 * cost.usd


@given(USAGES, USAGES, PRICED_MODELS)
def test_price_is_additive(one: Usage, other: Usage, model: str) -> None:
    def price(*answers: Usage) -> Cost:
        cost = TABLE.token_cost(Tokens.total(map(Tokens.of, answers)), model)
        assert cost is not None
        return cost

    assert price(one) + price(other) == price(one, other)


@given(USAGES, st.sampled_from(sorted(TABLE.models)))
@example(Usage(input_tokens=0, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=2 * MILLION, output_tokens=0), "claude-haiku-4-5-20251001")  # a dollar
@example(Usage(input_tokens=2 * MILLION - 1, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=-5, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=0, output_tokens=-(10**9)), "claude-haiku-4-5-20251001")
def test_the_cost_of_a_row_in_digits_is_the_exact_cost(answer: Usage, model: str) -> None:
    cost = TABLE.usage_cost(answer, model)

    assert TABLE.charge(answer, model).usd == (cost and exact_usd(cost.usd))
