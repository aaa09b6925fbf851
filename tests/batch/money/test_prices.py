"""The price table: sources, lifecycles and overrides."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from batch.money.usages import MILLION, TABLE, usage

from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import ConfigurationError


@pytest.mark.parametrize("model", sorted(TABLE.models))
def test_every_entry_names_its_source_and_the_day_it_was_read(model: str) -> None:
    entry = TABLE.models[model]

    assert entry.source.startswith("https://platform.claude.com/docs/")
    assert entry.checked is not None


def test_no_entry_was_read_long_before_or_after_the_others() -> None:
    """A day with a wrong year or month stands out, whatever the day is today."""
    days = sorted(entry.checked for entry in TABLE.models.values() if entry.checked)

    assert date(2026, 1, 1) <= days[0]
    assert days[-1] - days[0] <= timedelta(days=366)


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
            {"forced_tool_use", "prefill", "sampling_parameters", "thinking_disabled", "thinking_enabled"}
            | {"dated_computer_tools", "thinking_between_tools"},
        ),
        (
            "claude-haiku-5-5",
            {"prefill", "sampling_parameters", "thinking_enabled", "thinking_between_tools", "dated_computer_tools"}
            | {"no_thinking_at_high_effort", "temperature_and_top_p"},
        ),
        ("claude-sonnet-4-6", {"prefill", "effort_xhigh", "system_messages", "thinking_between_tools"}),
        (
            "claude-haiku-4-5",
            {"inference_geo", "effort", "system_messages", "temperature_and_top_p", "thinking_adaptive"}
            | {"thinking_between_tools"},
        ),
    ],
)
def test_the_table_knows_what_a_model_refuses(model: str, refuses: set[str]) -> None:
    entry = TABLE.lookup(model)
    assert entry is not None
    assert entry.refuses == refuses


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
