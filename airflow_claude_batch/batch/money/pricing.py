"""Prices tokens in a message batch.

A model without a price has no cost: its cost is None. It is never guessed, and it is never an error. The same holds for
a usage in a form that is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from airflow_claude_batch.api.wire import BilledUsage
from airflow_claude_batch.batch.money.amounts import exact_usd
from airflow_claude_batch.batch.money.cost import Cost, Tokens
from airflow_claude_batch.batch.money.iterations import Iteration, read_iterations
from airflow_claude_batch.batch.money.prices import Lifecycle, ModelPrice, Terms, names_of, read_prices

#: Selects the rates of an answer: the model's id (as the answer names it if the table does not have the model), the
#: inference geography, and whether the prompt is billed as a long one.
RateKey = tuple[str, str | None, bool]


class Charge(msgspec.Struct, frozen=True, gc=False):
    """The charge for one answer: its tokens, the key of their rates, and the sum.

    ``usd`` equals the sum of :meth:`PriceTable.usage_cost`, as :func:`~.amounts.exact_usd` writes it. It is None for a
    model without a price, and if not everything is known that was billed (``is_known`` is False). ``iterations`` has
    what is billed apart from the usage's own tokens: compaction and advisors.
    """

    key: RateKey
    tokens: Tokens
    usd: str | None
    iterations: tuple[tuple[RateKey, Tokens], ...] = ()
    is_known: bool = True


class _TokenRates(msgspec.Struct, frozen=True):
    """The rates of one key as whole numbers, to price a million answers without decimals.

    ``rates`` has the price of one token of each column, in units of the smallest decimal place that any of them needs.
    It is empty if the model has no price. ``units_per_dollar`` says what a unit is, and ``fraction_format`` writes the
    part of an amount below a dollar. ``long_prompt`` has the rates of longer prompts, and the most tokens that a prompt
    may have without being a long one.
    """

    key: RateKey
    rates: tuple[int, ...]
    units_per_dollar: int
    fraction_format: str
    long_prompt: tuple[_TokenRates, int] | None = None

    @classmethod
    def of(cls, key: RateKey, rates: Sequence[Decimal], long_prompt: tuple[_TokenRates, int] | None) -> _TokenRates:
        places = max((-int(rate.normalize().as_tuple().exponent) for rate in rates), default=0)
        places = max(1, places)
        whole = tuple(int(rate.scaleb(places)) for rate in rates)
        return cls(key, whole, 10**places, f"%0{places}d", long_prompt)

    def usd(self, tokens: Tokens) -> str | None:
        if not self.rates:
            return None
        (a, b, c, d, e, f), (u, v, w, x, y, z) = self.rates, tokens  # written out: called for each of a million rows
        amount = a * u + b * v + c * w + d * x + e * y + f * z
        if 0 < amount < self.units_per_dollar:  # as for nearly every answer
            return f"0.{self.fraction_format % amount}".rstrip("0")
        dollars, fraction = divmod(abs(amount), self.units_per_dollar)
        digits = f"{dollars}.{self.fraction_format % fraction}".rstrip("0").rstrip(".")
        return digits if amount >= 0 else f"-{digits}"


class BatchRates(NamedTuple):
    """US dollars per million tokens in a message batch."""

    input: Decimal
    output: Decimal


class PriceTable:
    """The prices of models in a message batch. Make one with :meth:`load`.

    >>> table = PriceTable.load({"models": {"claude-opus-5-5": {"rates": {"input": "3.60"}}}})
    >>> table.charge(Usage(input_tokens=1_000_000, output_tokens=0), "claude-opus-5-5").usd
    '1.8'
    """

    def __init__(self, terms: Terms, models: Mapping[str, ModelPrice]) -> None:
        self.terms = terms
        self.models = models
        self._names = names_of(models)
        self._rates: dict[tuple[str, str | None], _TokenRates] = {}

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> PriceTable:
        """Load the prices of the package, with ``overrides`` as :func:`~.prices.read_prices` describes them.

        :raises ConfigurationError: names the override that is wrong.
        """
        return cls(*read_prices(overrides))

    @cached_property
    def full(self) -> PriceTable:
        """The prices of the same models in the Messages API, without the discount of message batches."""
        return PriceTable(msgspec.structs.replace(self.terms, batch_factor=Decimal(1)), self.models)

    def lookup(self, model: str) -> ModelPrice | None:
        """Find a model by its id or an alias. Return None if the table does not have it."""
        return self.models.get(self._names.get(model, model))

    def max_answer_tokens(self, model: str) -> int | None:
        """Return the most tokens that one answer of a model may have. Return None if the table does not say."""
        entry = self.lookup(model)
        return entry.max_tokens if entry else None

    def batch_rates(self, model: str) -> BatchRates | None:
        """Return what a million tokens of a model cost in a batch. Return None if the model has no price."""
        entry = self.lookup(model)
        rates = entry.rates_for(long_prompt=False) if entry else None
        if rates is None:
            return None
        return BatchRates(rates.input * self.terms.batch_factor, rates.output * self.terms.batch_factor)

    def is_overridden(self, model: str) -> bool:
        """Return whether the deployment's overrides have the model. Entries of the package say when they were read."""
        entry = self.lookup(model)
        return entry is not None and entry.checked is None

    def usage_cost(self, usage: BilledUsage | None, model: str, *, inference_geo: str | None = None) -> Cost | None:
        """Price one answer. Return None if a model has no price, or the usage is in a form that is not known.

        :param inference_geo: as the request asked for; default: as the usage names it.
        """
        iterations = None if usage is None else read_iterations(usage.iterations, model)
        if usage is None or iterations is None:
            return None
        geo = inference_geo or usage.inference_geo
        costs = [self._run_cost(run, geo) for run in (Iteration(model, Tokens.of(usage)), *iterations)]
        return None if None in costs else sum(filter(None, costs), Cost())

    def _run_cost(self, run: Iteration, geo: str | None) -> Cost | None:
        """Price one run of a model."""
        entry = self.lookup(run.model)
        long_prompt = entry is not None and entry.is_long(run.tokens.prompt)
        return self.token_cost(run.tokens, run.model, inference_geo=geo, long_prompt=long_prompt)

    def charge(self, usage: BilledUsage | None, model: str, *, inference_geo: str | None = None) -> Charge:
        """Price one answer faster than :meth:`usage_cost`, without columns, for a bill.

        :param usage: None if it is in a form that is not known: the charge has no tokens and no price then.
        """
        if usage is None:
            return Charge(self._rates_of(model, inference_geo, Tokens()).key, Tokens(), None, is_known=False)
        tokens, geo = Tokens.of(usage), inference_geo or usage.inference_geo
        rates = self._rates_of(model, geo, tokens)
        charge = Charge(rates.key, tokens, rates.usd(tokens))
        return charge if usage.iterations is None else self._add_iterations(charge, usage.iterations, model, geo)

    def _add_iterations(self, charge: Charge, iterations: Any, model: str, geo: str | None) -> Charge:
        """Add the runs that are billed apart. Each run has its own prompt, which decides whether that is a long one."""
        if (runs := read_iterations(iterations, model)) is None:
            return msgspec.structs.replace(charge, usd=None, is_known=False)
        rates = [self._rates_of(run.model, geo, run.tokens) for run in runs]
        amounts = [charge.usd, *(rate.usd(run.tokens) for rate, run in zip(rates, runs, strict=True))]
        known = [Decimal(amount) for amount in amounts if amount is not None]
        usd = exact_usd(sum(known, Decimal(0))) if len(known) == len(amounts) else None
        billed = tuple((rate.key, run.tokens) for rate, run in zip(rates, runs, strict=True))
        return msgspec.structs.replace(charge, usd=usd, iterations=billed)

    def _rates_of(self, model: str, geo: str | None, tokens: Tokens) -> _TokenRates:
        """Return the rates of one run of a model. They are computed once."""
        try:
            rates = self._rates[model, geo]
        except KeyError:
            rates = self._rates[model, geo] = self._token_rates(model, geo)
        if rates.long_prompt is not None and tokens.prompt > rates.long_prompt[1]:
            return rates.long_prompt[0]
        return rates

    def _token_rates(self, model: str, geo: str | None, *, is_long: bool = False) -> _TokenRates:
        """Price one token of each column: a cost is linear in them."""
        entry, columns = self.lookup(model), range(len(Tokens._fields))
        single_tokens = (Tokens(*(int(column == one) for column in columns)) for one in columns)
        costs = [self.token_cost(one, model, inference_geo=geo, long_prompt=is_long) for one in single_tokens]
        long_prompt = None
        if entry is not None and entry.long_prompt is not None and not is_long:
            long_prompt = (self._token_rates(model, geo, is_long=True), entry.long_prompt.above_tokens)
        key = (entry.id if entry else model, geo, is_long)
        return _TokenRates.of(key, [cost.usd for cost in costs if cost], long_prompt)

    def token_cost(
        self, tokens: Tokens, model: str, *, inference_geo: str | None = None, long_prompt: bool = False
    ) -> Cost | None:
        """Price tokens, also those of many answers together. Return None if the model has no price.

        ``0.5 x geo x (input x Pin + cache_5m x P5m + cache_1h x P1h + cache_read x Pread + output x Pout) / 1e6
        + 0.01 x web_searches``, with the numbers of the table.

        :param long_prompt: use the rates of long prompts, where the model has such.
        """
        entry = self.lookup(model)
        rates = entry.rates_for(long_prompt=long_prompt) if entry else None
        if entry is None or rates is None:
            return None
        per_token = entry.inference_geo.get(inference_geo or "", Decimal(1)).scaleb(-6)
        full = {name: getattr(tokens, name) * getattr(rates, name) * per_token for name in rates.__struct_fields__}
        uncached = tokens.prompt * rates.input * per_token + full["output"]
        searches, factor = tokens.web_searches * self.terms.web_search, self.terms.batch_factor
        return Cost(
            **{name: amount * factor for name, amount in full.items()},
            web_search=searches,
            without_batch=sum(full.values(), searches),
            without_cache=uncached * factor + searches,
        )

    def lifecycle(self, model: str, now: datetime) -> Lifecycle:
        """Return the lifecycle of a model at ``now`` (aware)."""
        entry = self.lookup(model)
        if entry is None:
            return Lifecycle(model=model, state="unknown")
        state = entry.state_at(now)
        return Lifecycle(model=model, state=state, retires_on=entry.retires_on, replacement=entry.replacement)
