"""The list prices and lifecycles of the models, dated and sourced: ``prices.json``, and what a deployment overrides.

A table ages, so a model that is not in it is never an error here, and every entry can be overridden.
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
LARGEST_AMOUNT: Final = 1_000_000  # of anything here; what is beyond it is a slip of the pen
MOST_DECIMALS: Final = 20  # sums keep all their digits
RETIREMENT_SLACK: Final = timedelta(hours=48)  # a batch may run 24 h, and its repair round another 24 h

Feature = Literal[
    "inference_geo",  # before Claude 4.6
    "forced_tool_use",  # tool_choice of type any or tool
    "prefill",  # messages that end with an assistant's turn
    "sampling_parameters",  # temperature, top_p, top_k off their defaults; API version 2026-10-21 has none at all
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
                f"an amount cannot be negative or without end: from 0 to {LARGEST_AMOUNT:,}, with {MOST_DECIMALS} "
                "decimal places at most"
            )


class Rates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens by the Messages API. A message batch pays ``batch_factor`` of it."""

    input: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal
    output: Decimal

    def __post_init__(self) -> None:
        _check_amounts(*msgspec.structs.astuple(self))


class LongPrompt(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rates of a whole request, its output too, whose prompt has more than ``above_tokens`` tokens."""

    above_tokens: Count
    rates: Rates


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is known of a model that matters to the price of a batch, and to whether it will run.

    ``rates`` is None where no list price is published any more. ``inference_geo`` has the factors on all token
    prices. ``max_tokens`` caps one answer, ``extended_max_tokens`` does under the beta ``output-300k-2026-03-24``.
    ``refuses`` names what the model answers with an error. ``checked`` is the day on which ``source`` was read.
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
        """Whether a prompt (input, cache reads and cache writes together) is billed by the long-prompt rates."""
        return self.long_prompt is not None and prompt_tokens > self.long_prompt.above_tokens

    def rates_for(self, *, long_prompt: bool) -> Rates | None:
        """The rates of one of the two tiers; of the only one where there is no other."""
        return self.long_prompt.rates if self.long_prompt and long_prompt else self.rates

    def state_at(self, now: datetime) -> State:
        """Where the model stands at ``now`` (aware).

        A day of retirement has no hour, so the model is taken for retired when that day is over, and for retiring
        soon from :data:`RETIREMENT_SLACK` before it begins, both in UTC.
        """
        if self.state == "retired" or self.retires_on is None:
            return self.state
        begins = datetime.combine(self.retires_on, time(), UTC)
        if now >= begins + timedelta(days=1):
            return "retired"
        return "retires_soon" if now >= begins - RETIREMENT_SLACK else self.state


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifecycle:
    """Where a model stands at a moment. ``retires_soon``: a batch sent then may outlive the model."""

    model: str
    state: State
    retires_on: date | None = None
    replacement: str | None = None

    @property
    def warning(self) -> str | None:
        """One sentence for the log; None if there is nothing to warn of."""
        day = f" on {self.retires_on}" if self.retires_on else ""
        said = {
            "active": None,
            "deprecated": f"is deprecated and retires{day}" if day else "is deprecated",
            "retires_soon": f"retires{day}, and a batch sent now may still run then",
            "retired": f"was retired{day}",
            "unknown": "is not in the price table: its cost will not be known",
        }[self.state]
        advice = f"; {self.replacement} replaces it" if self.replacement else ""
        return said and f"{self.model} {said}{advice}"


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is the same for every model.

    ``batch_factor`` is the share of the rates that a message batch pays. ``web_search`` is USD for one search, which
    batches pay in full. ``sources`` names the pages that facts of each kind are from.
    """

    currency: Literal["USD"]
    batch_factor: Decimal
    web_search: Decimal
    sources: dict[str, str]

    def __post_init__(self) -> None:
        _check_amounts(self.batch_factor, self.web_search)


def read_prices(overrides: Mapping[str, Any] | None = None) -> tuple[Terms, dict[str, ModelPrice]]:
    """Read the package's prices, by model id, and lay ``overrides`` over them.

    Overrides have the shape of ``prices.json`` and only what differs, such as
    ``{"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}}``. A new model needs all five rates to be priced.

    :raises ConfigurationError: names the entry that is wrong, and what it may have.
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
    """Every id and alias, with the id it stands for.

    :raises ConfigurationError: one name stands for two models.
    """
    names = {model: model for model in models}
    for price in models.values():
        for alias in price.aliases:
            if names.setdefault(alias, price.id) != price.id:
                raise _wrong(price.id, f"its alias {alias!r} belongs to {names[alias]!r}")
    return names


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one set of overrides over another; mappings in them are merged likewise."""
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
        f"The price overrides cannot be used, because of {entry!r}: {reason}. Correct or remove that entry. "
        f"There may be {', '.join(Terms.__struct_fields__)} and models; a model may have {', '.join(fields)}; "
        f"rates are {', '.join(Rates.__struct_fields__)}, USD per million tokens."
    )
