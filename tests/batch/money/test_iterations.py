"""Tokens of compaction and advisors are billed apart from the usage, each at its own model's rates."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import BilledUsage, decode_usage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost import Cost, Tokens
from airflow_claude_batch.batch.money.pricing import PriceTable

TABLE = PriceTable.load()
MILLION = 1_000_000
MODEL = "claude-opus-5-5"  # a million tokens in a batch: 2 in, 10 out, 0.10 read, 2.50 and 4 written
ADVISOR = "claude-opus-5"  # 2.50 in, 12.50 out


def usage(iterations: Any, **fields: Any) -> BilledUsage | None:
    content = {"input_tokens": MILLION, "output_tokens": 0, "iterations": iterations, **fields}
    return decode_usage(json.dumps(content).encode())


def run(kind: str, input_tokens: int = 0, output_tokens: int = 0, **fields: Any) -> dict[str, Any]:
    zero = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"type": kind, "input_tokens": input_tokens, "output_tokens": output_tokens, **zero, **fields}


def usd(answer: BilledUsage | None, model: str = MODEL, **how: Any) -> str | None:
    charge, cost, bill = TABLE.charge(answer, model, **how), TABLE.usage_cost(answer, model, **how), Bill(TABLE)
    bill.add_charge(charge)
    assert charge.usd == (cost and exact_usd(cost.usd)) == bill.to_manifest()["usd"]
    return charge.usd


@pytest.mark.parametrize(
    ("iterations", "expected"),
    [
        pytest.param(None, "2", id="null"),
        pytest.param([], "2", id="none"),
        pytest.param(
            [run("message", MILLION), run("fallback_message", 5, model=ADVISOR)], "2", id="in the usage already"
        ),
        pytest.param([{"type": "message", "input_tokens": None}], "2", id="message in a new form"),
        pytest.param([run("compaction", MILLION, MILLION)], "14", id="compaction"),
        pytest.param(
            [run("compaction", MILLION), run("message", 1), run("compaction", MILLION)], "6", id="two compactions"
        ),
        pytest.param([run("compaction", 0, MILLION, model=ADVISOR)], "14.5", id="compaction by another model"),
        pytest.param([run("compaction", cache_read_input_tokens=MILLION)], "2.1", id="cache read"),
        pytest.param([run("compaction", cache_creation_input_tokens=MILLION)], "4.5", id="cache written"),
        pytest.param(
            [
                run(
                    "compaction",
                    cache_creation_input_tokens=MILLION,
                    cache_creation={"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": MILLION},
                )
            ],
            "6",
            id="cache written for an hour",
        ),
        pytest.param([run("compaction", MILLION, cache_creation_input_tokens=None)], "4", id="no cache"),
        pytest.param([run("advisor_message", MILLION, MILLION, model=ADVISOR)], "17", id="advisor"),
        pytest.param([run("advisor_message", MILLION, model="claude-haiku-4-5")], "2.5", id="advisor by its alias"),
        pytest.param(
            [run("advisor_message", 100_000, model="claude-haiku-5-5")], "2.005", id="short prompt of an advisor"
        ),
        pytest.param(
            [run("advisor_message", 200_000, model="claude-haiku-5-5")], "2.05", id="long prompt of an advisor"
        ),
        pytest.param([run("compaction", 1, more={"a": [1]})], "2.000002", id="new field"),
        # Unknown, never cheaper:
        pytest.param([run("reflection", MILLION)], None, id="unknown type"),
        pytest.param([run("advisor_message", 1, model="claude-7-novella")], None, id="advisor without a price"),
        pytest.param([run("advisor_message", 1)], None, id="advisor without a model"),
        pytest.param([run("advisor_message", 1, model=7)], None, id="advisor's model is a number"),
        pytest.param([{"type": "compaction", "output_tokens": 1}], None, id="compaction without input"),
        pytest.param([run("compaction", None)], None, id="null tokens"),
        pytest.param([run("compaction", 1.5)], None, id="half a token"),
        pytest.param([run("compaction", -1)], None, id="negative tokens"),
        pytest.param([run("compaction", 1, cache_creation=7)], None, id="cache in a new form"),
        pytest.param([None], None, id="entry is null"),
        pytest.param([{}], None, id="entry without a type"),
        pytest.param([{"type": None}], None, id="type is null"),
        pytest.param({"compaction": run("compaction", 1)}, None, id="object"),
        pytest.param("compaction", None, id="text"),
        pytest.param(0, None, id="number"),
    ],
)
def test_iterations_are_billed_or_the_cost_is_unknown(iterations: Any, expected: str | None) -> None:
    assert usd(usage(iterations)) == expected


def test_inference_in_the_us_costs_more_for_every_run() -> None:
    iterations = [run("compaction", MILLION), run("advisor_message", MILLION, model=ADVISOR)]

    assert usd(usage(iterations, inference_geo="us")) == "7.15"
    assert usd(usage(iterations), inference_geo="us") == "7.15"


def test_compaction_of_a_long_prompt_is_billed_as_a_long_prompt_and_the_rest_is_not() -> None:
    answer = usage([run("compaction", 180_000, 3_500)], input_tokens=23_000, output_tokens=1_000)

    half = Decimal("0.5") / MILLION
    expected = half * (
        23_000 * Decimal("0.10") + 1_000 * Decimal("0.50") + 180_000 * Decimal("0.50") + 3_500 * Decimal("2.50")
    )
    assert usd(answer, "claude-haiku-5-5") == exact_usd(expected)


def test_bill_counts_an_advisors_tokens_under_its_own_model() -> None:
    bill = Bill(TABLE)
    bill.add_usage(
        usage([run("advisor_message", 823, 1_612, model="claude-haiku-4-5"), run("compaction", 7, 9)]), MODEL
    )

    assert bill.tokens_by_model == {
        MODEL: Tokens(input=MILLION + 7, output=9),
        "claude-haiku-4-5-20251001": Tokens(input=823, output=1_612),
    }
    assert bill.tokens == Tokens(input=MILLION + 830, output=1_621)
    assert {model: cost and exact_usd(cost.usd) for model, cost in bill.by_model.items()} == {
        MODEL: "2.000104",
        "claude-haiku-4-5-20251001": "0.0044415",
    }


@pytest.mark.parametrize("answer", [None, usage([run("reflection", 1)])], ids=["no usage", "unknown iteration"])
def test_answer_with_an_unknown_cost_makes_the_bill_unknown_and_is_counted(answer: BilledUsage | None) -> None:
    bill = Bill(TABLE)
    bill.add_usage(usage(None), "claude-haiku-5-5")
    bill.add_usage(answer, MODEL)
    bill.add_usage(usage(None), MODEL)

    assert bill.cost is None
    assert bill.unknown_answers == 1
    assert bill.by_model[MODEL] is None
    assert bill.by_model["claude-haiku-5-5"] is not None
    assert bill.to_manifest()["unpriced_models"] == []
    assert bill.to_manifest()["unknown_answers"] == 1


def test_advisor_without_a_price_is_named() -> None:
    bill = Bill(TABLE)
    bill.add_usage(usage([run("advisor_message", 1, model="claude-7-novella")]), MODEL)

    assert bill.unpriced_models == ["claude-7-novella"]
    assert bill.unknown_answers == 0
    assert bill.by_model[MODEL] is not None


counts = st.integers(min_value=0, max_value=10**9)
runs = st.builds(
    run, st.just("compaction"), counts, counts, cache_read_input_tokens=counts, cache_creation_input_tokens=counts
) | st.builds(run, st.just("advisor_message"), counts, counts, model=st.sampled_from(["claude-haiku-5-5", ADVISOR]))


@given(st.lists(runs, max_size=4), st.sampled_from([MODEL, "claude-haiku-5-5"]), st.sampled_from([None, "us"]))
def test_answer_costs_what_its_runs_cost_one_by_one(entries: list[dict[str, Any]], model: str, geo: str | None) -> None:
    alone = [decode_usage(json.dumps({**entry, "iterations": None}).encode()) for entry in entries]
    models = [entry.get("model", model) for entry in entries]
    expected = [TABLE.usage_cost(one, name, inference_geo=geo) for one, name in zip(alone, models, strict=True)]

    cost = TABLE.usage_cost(usage(entries), model, inference_geo=geo)

    assert cost == sum(filter(None, expected), TABLE.usage_cost(usage(None), model, inference_geo=geo) or Cost())
    assert TABLE.charge(usage(entries), model, inference_geo=geo).usd == exact_usd(cost.usd)
