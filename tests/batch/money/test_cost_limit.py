"""A limit on cost holds against the upper bound of the estimate."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from batch.money.estimates import MODEL, Counter, Params, estimated, params, plan, usd_of

from airflow_claude_batch.batch.money.cost_limit import check_max_cost
from airflow_claude_batch.batch.money.estimate import estimate_cost
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import CostLimitError


def many(count: int = 1_000, *, max_tokens: int = 1_000) -> list[Params]:
    return [params(max_tokens=max_tokens) for _ in range(count)]


def test_an_estimate_up_to_max_cost_passes() -> None:
    estimate = estimated(many(), Counter())

    check_max_cost(estimate, usd_of(estimate).upper)


def test_an_upper_bound_above_max_cost_is_refused_even_if_less_is_expected() -> None:
    estimate = estimated(many(), Counter())
    max_cost = usd_of(estimate).upper - Decimal("0.000001")

    assert usd_of(estimate).expected < max_cost
    with pytest.raises(CostLimitError):
        check_max_cost(estimate, max_cost)


def test_cost_limit_error_has_the_cost_and_what_would_fit() -> None:
    with pytest.raises(CostLimitError) as refusal:
        check_max_cost(estimated(many(), Counter()), Decimal("2.50"))

    assert str(refusal.value) == (
        "1,000 requests may cost up to $10.22 (expected: $2.70), above max_cost, $2.50.\n"
        "Nothing was sent.\n"
        "The upper bound assumes that every answer uses all of its max_tokens.\nWhat would fit: max_tokens of 227 "
        "instead of 1,000, or about 244 requests of this kind, or max_cost=10.23."
    )


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda: many(max_tokens=227), id="max_tokens"),
        pytest.param(lambda: many(244), id="requests"),
    ],
)
def test_what_the_error_proposes_does_fit(change: Callable[[], list[Params]]) -> None:
    check_max_cost(estimated(change(), Counter()), Decimal("2.50"))


def test_mixed_max_tokens_get_a_share_proposed() -> None:
    with pytest.raises(CostLimitError, match="max_tokens at 21 % of what they are, or about 239 requests"):
        check_max_cost(estimated([*many(500), *many(500, max_tokens=500)], Counter()), Decimal("1.85"))


def test_cost_just_above_the_limit_is_shown_with_all_its_digits() -> None:
    with pytest.raises(CostLimitError, match=r"up to \$10\.225.* above max_cost, \$10\.22\.\n"):
        check_max_cost(estimated(many(), Counter()), Decimal("10.22"))


def test_prompt_that_alone_exceeds_the_limit_gets_no_max_tokens_proposed() -> None:
    with pytest.raises(CostLimitError) as refusal:
        check_max_cost(estimated(many(), Counter()), Decimal("0.1"))

    assert "max_tokens of" not in str(refusal.value)
    assert "What would fit: about 9 requests of this kind, or max_cost=10.23." in str(refusal.value)


def test_single_request_above_the_limit_gets_only_its_price_proposed() -> None:
    with pytest.raises(CostLimitError, match=r"What would fit: max_cost=0\.03\.$"):
        check_max_cost(estimated([params("x" * 40_000)], Counter()), Decimal("0.001"))


def test_limit_with_free_output_gets_no_max_tokens_proposed() -> None:
    rates = dict.fromkeys(("input", "cache_write_5m", "cache_write_1h", "cache_read"), 5)
    table = PriceTable.load({"models": {MODEL: {"rates": {**rates, "output": 0}}}})

    with pytest.raises(CostLimitError, match=r"What would fit: about 88 requests of this kind, or max_cost=0\.29\.$"):
        check_max_cost(estimate_cost(plan(many()), table=table, client=Counter()), Decimal("0.025"))


def test_max_cost_cannot_be_held_for_a_model_without_a_price() -> None:
    estimate = estimated([params(model="claude-7-novella")], Counter())

    with pytest.raises(
        CostLimitError, match=r"no price is known for claude-7-novella\.\nNothing was sent\.\nAdd the model to"
    ):
        check_max_cost(estimate, Decimal(1_000_000))
