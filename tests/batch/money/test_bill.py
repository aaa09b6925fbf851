"""A bill is the exact sum of the answers."""

from __future__ import annotations

from batch.money.usages import MILLION, PRICED_MODELS, TABLE, USAGES, usage
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import Usage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost import Cost, Tokens


@given(st.lists(st.tuples(USAGES, PRICED_MODELS), max_size=20))
def test_bill_is_the_sum_of_the_answers(answers: list[tuple[Usage, str]]) -> None:
    bill = Bill(TABLE)
    for answer, model in answers:
        bill.add_usage(answer, model)

    assert bill.cost == sum((TABLE.usage_cost(answer, model) for answer, model in answers), Cost())
    assert bill.tokens == Tokens.total(Tokens.of(answer) for answer, _ in answers)
    assert set(bill.by_model) == {model for _, model in answers}


def test_bill_counts_an_alias_and_its_id_as_one_model() -> None:
    bill = Bill(TABLE)
    bill.add_usage(usage(MILLION), "claude-haiku-4-5")
    bill.add_usage(usage(MILLION), "claude-haiku-4-5-20251001")

    assert {model: exact_usd(cost.usd) for model, cost in bill.by_model.items() if cost} == {
        "claude-haiku-4-5-20251001": "1"
    }


def test_bill_with_an_unpriced_model_counts_its_tokens_and_has_no_cost() -> None:
    bill = Bill(TABLE)
    bill.add_usage(usage(1_000, 10), "claude-opus-5-5")
    bill.add_usage(usage(2_000, 20, searches=1, five_minutes=5, one_hour=7, read=9), "claude-7-novella")

    assert bill.cost is None
    assert bill.by_model["claude-opus-5-5"] is not None
    assert bill.tokens.to_manifest() == {
        "input_tokens": 3_000,
        "cache_creation_input_tokens": 12,
        "ephemeral_5m_input_tokens": 5,
        "ephemeral_1h_input_tokens": 7,
        "cache_read_input_tokens": 9,
        "output_tokens": 30,
        "web_search_requests": 1,
    }
    assert bill.to_manifest() == {
        "usd": None,
        "without_batch_usd": None,
        "without_cache_usd": None,
        "unpriced_models": ["claude-7-novella"],
    }


def test_bill_in_the_manifest_is_exact() -> None:
    bill = Bill(TABLE)
    for _ in range(3):
        bill.add_usage(usage(14, 5), "claude-haiku-5-5")

    assert bill.to_manifest() == {
        "usd": "0.00000585",
        "without_batch_usd": "0.0000117",
        "without_cache_usd": "0.00000585",
        "unpriced_models": [],
    }


def test_bill_of_nothing_is_zero() -> None:
    assert Bill(TABLE).cost == Cost()
    assert Bill(TABLE).tokens == Tokens()
