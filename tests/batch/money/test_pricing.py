from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_claude_batch.api.wire import CacheCreation, ServerToolUse, Usage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.bill import Bill
from airflow_claude_batch.batch.money.cost import Cost, Tokens
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ConfigurationError

TABLE = PriceTable.load()
MILLION = 1_000_000


def usage(
    input_tokens: int = 0,
    output_tokens: int = 0,
    *,
    five_minutes: int = 0,
    one_hour: int = 0,
    read: int = 0,
    searches: int = 0,
    geo: str | None = None,
) -> Usage:
    return Usage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_creation=CacheCreation(five_minutes, one_hour),
        cache_creation_input_tokens=five_minutes + one_hour,
        cache_read_input_tokens=read,
        inference_geo=geo,
        server_tool_use=ServerToolUse(web_search_requests=searches),
    )


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


@pytest.mark.parametrize(
    ("amount", "written"), [("0.0021000", "0.0021"), ("1E-7", "0.0000001"), ("0.000", "0"), ("1E+2", "100")]
)
def test_exact_usd_writes_all_digits_and_no_exponent(amount: str, written: str) -> None:
    assert exact_usd(Decimal(amount)) == written


# ---------------------------------------------------------------- many answers

counts = st.integers(min_value=0, max_value=10**9)
usages = st.builds(
    usage,
    counts,
    counts,
    five_minutes=counts,
    one_hour=counts,
    read=counts,
    searches=st.integers(min_value=0, max_value=100),
    geo=st.sampled_from([None, "us", "global", "not_available"]),
)
priced_models = st.sampled_from([name for name, entry in TABLE.models.items() if entry.rates])


@given(usages, priced_models)
def test_a_cost_is_never_negative_and_never_above_what_it_is_compared_with(answer: Usage, model: str) -> None:
    cost = TABLE.usage_cost(answer, model)

    assert cost is not None
    assert min(msgspec.structs.astuple(cost)) >= 0
    assert cost.usd <= cost.without_batch <= 2 * cost.usd


@given(usages, usages, priced_models)
def test_price_is_additive(one: Usage, other: Usage, model: str) -> None:
    def price(*answers: Usage) -> Cost:
        cost = TABLE.token_cost(Tokens.total(map(Tokens.of, answers)), model)
        assert cost is not None
        return cost

    assert price(one) + price(other) == price(one, other)


@given(st.lists(st.tuples(usages, priced_models), max_size=20))
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


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("model", sorted(TABLE.models))
def test_every_entry_names_its_source_and_the_day_it_was_read(model: str) -> None:
    entry = TABLE.models[model]

    assert entry.source.startswith("https://platform.claude.com/docs/")
    assert entry.checked is not None
    assert date(2026, 1, 1) <= entry.checked <= date(2026, 11, 22)


@pytest.mark.parametrize("model", [name for name, entry in TABLE.models.items() if entry.rates])
def test_every_rate_follows_the_published_multiples_of_input(model: str) -> None:
    rates = TABLE.models[model].rates
    assert rates is not None

    if model != "claude-3-haiku-20240307":  # 0.30 and 0.03 for an input of 0.25, rounded by the price list itself
        assert rates.cache_write_5m == rates.input * Decimal("1.25")
        assert rates.cache_read / rates.input in {Decimal("0.1"), Decimal("0.05"), Decimal("0.025")}
    assert rates.cache_write_1h == rates.input * 2
    assert rates.output == rates.input * 5


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101"),
        ("claude-opus-4-0", "claude-opus-4-20250514"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
    ],
)
def test_lookup_finds_ids_and_aliases(name: str, model: str) -> None:
    entry = TABLE.lookup(name)
    assert entry is not None
    assert entry.id == model


@pytest.mark.parametrize(
    ("model", "refuses"),
    [
        (
            "claude-opus-5-5",
            {"forced_tool_use", "prefill", "sampling_parameters", "thinking_disabled", "thinking_enabled"},
        ),
        ("claude-haiku-5-5", {"prefill", "sampling_parameters", "thinking_enabled"}),
        ("claude-sonnet-4-6", {"prefill"}),
        ("claude-haiku-4-5", {"inference_geo"}),
    ],
)
def test_the_table_knows_what_a_model_refuses(model: str, refuses: set[str]) -> None:
    entry = TABLE.lookup(model)
    assert entry is not None
    assert entry.refuses == refuses


# ---------------------------------------------------------------- lifecycle

RETIRES = datetime(2026, 11, 30, tzinfo=UTC)  # claude-sonnet-4-5


@pytest.mark.parametrize(
    ("model", "now", "state"),
    [
        pytest.param("claude-opus-5-5", RETIRES, "active", id="no end in sight"),
        pytest.param("claude-sonnet-4-5", RETIRES - timedelta(days=8), "deprecated", id="time enough"),
        pytest.param("claude-sonnet-4-5", RETIRES - timedelta(hours=49), "deprecated", id="two rounds fit"),
        pytest.param("claude-sonnet-4-5", RETIRES - timedelta(hours=48), "retires_soon", id="two rounds do not"),
        pytest.param("claude-sonnet-4-5", RETIRES + timedelta(hours=23), "retires_soon", id="some hour of that day"),
        pytest.param("claude-sonnet-4-5", RETIRES + timedelta(hours=24), "retired", id="the day has passed"),
        pytest.param("claude-opus-4-1", RETIRES, "retired", id="long ago"),
        pytest.param("claude-mythos-preview", RETIRES, "deprecated", id="without a date"),
        pytest.param("claude-7-novella", RETIRES, "unknown", id="not in the table"),
    ],
)
def test_lifecycle_of_a_model_at_a_moment(model: str, now: datetime, state: str) -> None:
    assert TABLE.lifecycle(model, now).state == state


def test_lifecycle_takes_a_moment_of_any_zone() -> None:
    from zoneinfo import ZoneInfo

    now = (RETIRES - timedelta(hours=48)).astimezone(ZoneInfo("America/Los_Angeles"))

    assert TABLE.lifecycle("claude-sonnet-4-5", now).state == "retires_soon"


@pytest.mark.parametrize(
    ("model", "now", "warning"),
    [
        ("claude-opus-5-5", RETIRES, None),
        (
            "claude-sonnet-4-5",
            RETIRES - timedelta(days=8),
            "claude-sonnet-4-5 is deprecated and retires on 2026-11-30. Use claude-sonnet-5-5, which replaces it.",
        ),
        (
            "claude-sonnet-4-5",
            RETIRES,
            "claude-sonnet-4-5 retires on 2026-11-30, and a batch sent now may still run then. "
            "Use claude-sonnet-5-5, which replaces it.",
        ),
        (
            "claude-opus-4-1",
            RETIRES,
            "claude-opus-4-1 was retired on 2026-08-05. Use claude-opus-4-8, which replaces it.",
        ),
        (
            "claude-mythos-preview",
            RETIRES,
            "claude-mythos-preview is deprecated. Use claude-mythos-5, which replaces it.",
        ),
        ("claude-7-novella", RETIRES, "claude-7-novella is not in the price table, so its cost will not be known."),
    ],
)
def test_lifecycle_warns_of_what_is_near_its_end(model: str, now: datetime, warning: str | None) -> None:
    assert TABLE.lifecycle(model, now).warning == warning


# ---------------------------------------------------------------- overrides

RATES = {"input": 6, "cache_write_5m": 7.5, "cache_write_1h": "12", "cache_read": 0.6, "output": "30"}


def test_an_override_changes_only_what_it_names() -> None:
    table = PriceTable.load({"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}})
    entry = table.lookup("claude-opus-5-5")

    assert entry is not None
    assert entry.rates is not None
    assert (entry.rates.input, entry.rates.output) == (Decimal("3.60"), Decimal(20))
    assert entry.max_tokens == 128_000
    assert (entry.source, entry.checked) == ("override", None)
    assert PriceTable.load().lookup("claude-opus-5-5") == TABLE.lookup("claude-opus-5-5")


def test_an_override_by_an_alias_changes_the_model() -> None:
    table = PriceTable.load({"models": {"claude-haiku-4-5": {"rates": {"input": 0.9}}}})
    cost = table.usage_cost(usage(MILLION), "claude-haiku-4-5-20251001")

    assert cost is not None
    assert cost.usd == Decimal("0.45")


def test_an_override_adds_a_model() -> None:
    table = PriceTable.load({"models": {"claude-7-novella": {"rates": RATES, "aliases": ["novella"]}}})
    cost = table.usage_cost(usage(MILLION, read=MILLION), "novella")

    assert cost is not None
    assert exact_usd(cost.usd) == "3.3"


def test_an_override_of_the_terms_holds_for_every_model() -> None:
    table = PriceTable.load({"batch_factor": 1, "web_search": "0.02"})
    cost = table.usage_cost(usage(MILLION, searches=1), "claude-opus-5-5")

    assert cost is not None
    assert cost.usd == Decimal("4.02")


def test_an_override_postpones_a_retirement() -> None:
    table = PriceTable.load({"models": {"claude-sonnet-4-5": {"retires_on": "2026-12-31"}}})

    assert table.lifecycle("claude-sonnet-4-5", RETIRES).state == "deprecated"


@pytest.mark.parametrize(
    ("overrides", "entry", "reason"),
    [
        pytest.param({"modles": {}}, "the top level", "`modles`", id="typo at the top"),
        pytest.param({"currency": "EUR"}, "the top level", "'EUR'", id="another currency"),
        pytest.param({"batch_factor": -1}, "the top level", "from 0 to 1,000,000", id="negative factor"),
        pytest.param({"batch_factor": "1e999999"}, "the top level", "from 0 to 1,000,000", id="factor without end"),
        pytest.param(
            {"batch_factor": "1e-999999"}, "the top level", "at most 20 decimal places", id="endless decimals"
        ),
        pytest.param({"\ud800": 1}, "the top level", "surrogates", id="no text"),
        pytest.param([], "the top level", "Expected `object`", id="a list"),
        pytest.param({"models": ["claude-opus-5-5"]}, "models", "Expected `object`", id="models are a list"),
        pytest.param({"models": {"claude-opus-5-5": "4"}}, "models", "got `str`", id="a model is a number"),
        pytest.param({"models": {"claude-opus-5-5": {"inptu": 4}}}, "claude-opus-5-5", "`inptu`", id="typo"),
        pytest.param(
            {"models": {"claude-opus-5-5": {"rates": {"inptu": 4}}}}, "claude-opus-5-5", "`inptu`", id="typo in rates"
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"rates": {"input": -4}}}}, "claude-opus-5-5", "from 0 to", id="negative"
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"rates": {"input": "NaN"}}}}, "claude-opus-5-5", "from 0 to", id="no number"
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"rates": {"input": "4 USD"}}}}, "claude-opus-5-5", "decimal", id="a unit"
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"inference_geo": {"us": "-1.1"}}}},
            "claude-opus-5-5",
            "from 0 to",
            id="negative geo factor",
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"characters_per_token": 0}}}, "claude-opus-5-5", "zero", id="no characters"
        ),
        pytest.param(
            {"models": {"claude-opus-5-5": {"refuses": ["everything"]}}}, "claude-opus-5-5", "everything", id="feature"
        ),
        pytest.param({"models": {"claude-opus-5-5": {"retires_on": "soon"}}}, "claude-opus-5-5", "date", id="no date"),
        pytest.param(
            {"models": {"claude-haiku-5-5": {"long_prompt": {"above_tokens": 0}}}},
            "claude-haiku-5-5",
            ">= 1",
            id="tier",
        ),
        pytest.param(
            {"models": {"claude-7-novella": {"rates": {"input": 1, "output": 5}}}},
            "claude-7-novella",
            "missing required field",
            id="a new model without all rates",
        ),
        pytest.param(
            {"models": {"claude-7-novella": {"rates": RATES, "aliases": ["claude-haiku-4-5"]}}},
            "claude-7-novella",
            "belongs to 'claude-haiku-4-5-20251001'",
            id="an alias of another",
        ),
    ],
)
def test_a_wrong_override_is_refused_by_its_name(overrides: dict[str, object], entry: str, reason: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        PriceTable.load(overrides)

    assert repr(entry) in str(refusal.value)
    assert reason in str(refusal.value)
    assert "Correct or remove that entry" in str(refusal.value)


@given(usages, st.sampled_from(sorted(TABLE.models)))
@example(Usage(input_tokens=0, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=2 * MILLION, output_tokens=0), "claude-haiku-4-5-20251001")  # a dollar
@example(Usage(input_tokens=2 * MILLION - 1, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=-5, output_tokens=0), "claude-haiku-4-5-20251001")
@example(Usage(input_tokens=0, output_tokens=-(10**9)), "claude-haiku-4-5-20251001")
def test_the_cost_of_a_row_in_digits_is_the_exact_cost(answer: Usage, model: str) -> None:
    cost = TABLE.usage_cost(answer, model)

    assert TABLE.charge(answer, model).usd == (cost and exact_usd(cost.usd))
