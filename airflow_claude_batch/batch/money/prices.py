"""Reads list prices and lifecycles of the models: from ``prices.json``, and from the overrides of a deployment.

Each entry names its source and the day on which it was read. A table ages: a model that is not in it is never an error
here, and every entry can be overridden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib import resources
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec

from airflow_claude_batch.exceptions import ConfigurationError

NEWEST_TOKENIZER: Final = Decimal("2.5")  # characters per token since Claude 4.7; before 3.4: models overview
LARGEST_AMOUNT: Final = 1_000_000  # of anything here; a larger one is a mistake
MOST_DECIMALS: Final = 20  # sums keep all their digits
RETIREMENT_SLACK: Final = timedelta(hours=48)  # a batch may run 24 h, and its repair round another 24 h

Feature = Literal[
    "dated_computer_tools",  # computer_20251124 and the ones before
    "effort",
    "effort_max",
    "effort_xhigh",
    "forced_tool_use",  # tool_choice of type any or tool
    "inference_geo",  # before Claude 4.6
    "no_thinking_at_high_effort",  # thinking of type disabled or between_tools with effort xhigh or max
    "prefill",  # messages that end with an assistant's turn
    "sampling_parameters",  # temperature, top_p, top_k off their defaults; API version 2026-10-21 has none at all
    "system_messages",  # messages with the role system
    "temperature_and_top_p",  # both in one request
    "thinking_adaptive",
    "thinking_between_tools",
    "thinking_disabled",
    "thinking_enabled",  # with its budget_tokens
]
State = Literal["active", "deprecated", "retires_soon", "retired", "unknown"]
Count = Annotated[int, msgspec.Meta(ge=1)]
T = TypeVar("T")


def _check_amounts(*amounts: Decimal) -> None:
    for amount in amounts:
        exponent = amount.as_tuple().exponent  # a letter where the amount has no end
        if not isinstance(exponent, int) or exponent < -MOST_DECIMALS or not 0 <= amount <= LARGEST_AMOUNT:
            raise ValueError(
                f"an amount must be from 0 to {LARGEST_AMOUNT:,}, with at most {MOST_DECIMALS} decimal places"
            )


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens in the Messages API. A message batch pays ``batch_factor`` of them."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal

    def __post_init__(self) -> None:
        _check_amounts(*msgspec.structs.astuple(self))


class LongPrompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rates of a whole request, output included, whose prompt has more than ``above_tokens`` tokens."""

    above_tokens: Count
    rates: Rates


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model: its prices, its limits and its lifecycle.

    ``rates`` is None where no list price is published any more. ``inference_geo`` has the factors on all token
    prices. ``max_tokens`` limits one answer; under the beta ``output-300k-2026-03-24``, ``extended_max_tokens`` does.
    ``max_input_tokens`` is the context window, which limits the prompt.
    ``refuses`` names the features that the model answers with an error. ``checked`` is the day on which ``source`` was
    read.
    """

    id: str
    source: str
    checked: date | None = None
    aliases: tuple[str, ...] = ()
    rates: Rates | None = None
    long_prompt: LongPrompt | None = None
    inference_geo: dict[str, Decimal] = {}
    characters_per_token: Decimal = NEWEST_TOKENIZER
    max_tokens: Count | None = None
    max_input_tokens: Count | None = None
    extended_max_tokens: Count | None = None
    refuses: frozenset[Feature] = frozenset()
    state: Literal["active", "deprecated", "retired"] = "active"
    deprecated_on: date | None = None
    retires_on: date | None = None
    replacement: str | None = None

    def __post_init__(self) -> None:
        _check_amounts(self.characters_per_token, *self.inference_geo.values())
        if not self.characters_per_token:
            raise ValueError("characters_per_token cannot be zero")

    def is_long(self, prompt_tokens: int) -> bool:
        """Return whether a prompt is billed by the long-prompt rates. Cache reads and writes count, too."""
        return self.long_prompt is not None and prompt_tokens > self.long_prompt.above_tokens

    def rates_for(self, *, long_prompt: bool) -> Rates | None:
        """Return the rates of long or of other prompts. A model without a long-prompt tier has one set of rates."""
        return self.long_prompt.rates if self.long_prompt and long_prompt else self.rates

    def state_at(self, now: datetime) -> State:
        """Return the state of the model at ``now`` (aware).

        A day of retirement is published without an hour. The model counts as retired once that day has passed, and as
        retiring soon from :data:`RETIREMENT_SLACK` before the day begins, both in UTC.
        """
        if self.state == "retired" or self.retires_on is None:
            return self.state
        begins = datetime.combine(self.retires_on, time(), UTC)
        if now >= begins + timedelta(days=1):
            return "retired"
        return "retires_soon" if now >= begins - RETIREMENT_SLACK else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """The state of a model at a moment. ``retires_soon``: a batch sent then may outlive the model."""

    model: str
    state: State
    retires_on: date | None = None
    replacement: str | None = None

    @property
    def problem(self) -> str | None:
        """One sentence that says what is wrong with the model, None for an active one."""
        day = f" on {self.retires_on}" if self.retires_on else ""
        problem = {
            "active": None,
            "deprecated": f"is deprecated and retires{day}." if day else "is deprecated.",
            "retires_soon": f"retires{day}, and a batch sent now may still run then.",
            "retired": f"was retired{day}.",
            "unknown": "is not in the price table, so its cost will not be known.",
        }[self.state]
        return problem and f"{self.model} {problem}"

    @property
    def remedy(self) -> str | None:
        """One sentence that names the model to use instead, None if none is known."""
        return f"Use {self.replacement}, which replaces it." if self.replacement else None

    @property
    def warning(self) -> str | None:
        """The problem and the remedy for the log, None if there is nothing to warn of."""
        return self.problem and " ".join(filter(None, (self.problem, self.remedy)))


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The terms that are the same for every model.

    ``batch_factor`` is the share of the rates that a message batch pays. ``web_search`` is USD for one search, which
    batches pay in full. ``sources`` names the page of each kind of facts.
    """

    currency: Literal["USD"]
    batch_factor: Decimal
    web_search: Decimal
    sources: dict[str, str]

    def __post_init__(self) -> None:
        _check_amounts(self.batch_factor, self.web_search)


def read_prices(overrides: Mapping[str, Any] | None = None) -> tuple[Terms, dict[str, ModelPrice]]:
    """Read the package's prices, by model id, and apply ``overrides`` to them.

    Overrides have the shape of ``prices.json``, and only what differs. A new model needs all five rates to be priced.

    >>> terms, models = read_prices({"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}})
    >>> models["claude-opus-5-5"].rates.input
    Decimal('3.60')

    :raises ConfigurationError: names the entry that is wrong, and the fields that it may have.
    """
    packaged = resources.files(__package__).joinpath("prices.json").read_bytes()
    terms = msgspec.json.decode(packaged, type=dict[str, Any])
    models: dict[str, Any] = terms.pop("models")
    changed_terms = dict(_convert("the top level", {} if overrides is None else overrides, dict[str, Any]))
    changed_models = _convert("models", changed_terms.pop("models", {}), dict[str, dict[str, Any]])
    ids = {alias: model for model, entry in models.items() for alias in entry.get("aliases", ())}
    for name, change in changed_models.items():
        model = ids.get(name, name)
        models[model] = merge(models.get(model, {}), {"source": "override", "checked": None, **change})
    return (
        _convert("the top level", merge(terms, changed_terms), Terms),
        {model: _convert(model, {**entry, "id": model}, ModelPrice) for model, entry in models.items()},
    )


def names_of(models: Mapping[str, ModelPrice]) -> dict[str, str]:
    """Map every id and alias to the id of its model.

    :raises ConfigurationError: two models have the same name.
    """
    names = {model: model for model in models}
    for price in models.values():
        for alias in price.aliases:
            if names.setdefault(alias, price.id) != price.id:
                raise _wrong(price.id, f"its alias {alias!r} belongs to {names[alias]!r}")
    return names


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two sets of overrides. Where both have a value, that of ``change`` wins; mappings are merged likewise."""
    merged = {**base, **change}
    for key in base.keys() & change.keys():
        if isinstance(base[key], Mapping) and isinstance(change[key], Mapping):
            merged[key] = merge(base[key], change[key])
    return merged


def _convert(entry: str, value: Any, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise _wrong(entry, str(error)) from error


def _wrong(entry: str, reason: str) -> ConfigurationError:
    fields = [name for name in ModelPrice.__struct_fields__ if name != "id"]
    return ConfigurationError(
        f"The price overrides are wrong at {entry!r}: {reason}.",
        f"Correct or remove that entry. The top level may have {', '.join(Terms.__struct_fields__)} and models. "
        f"A model may have {', '.join(fields)}. Its rates are {', '.join(Rates.__struct_fields__)}, in USD per million "
        "tokens.",
    )
