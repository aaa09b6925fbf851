"""What tokens cost in a message batch.

Money is exact: rates are decimals, tokens are integers, nothing is rounded, and the cost of many answers is the sum
of their costs to the last digit. A model without a price has no cost: it is named, never guessed and never an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from airflow_claude_batch.api.wire import Usage
from airflow_claude_batch.batch.money.prices import Lifecycle, ModelPrice, Terms, names_of, read_prices


class Tokens(NamedTuple):
    """What a bill counts: tokens, by the rate that they cost, and web searches."""

    input: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0
    output: int = 0
    web_searches: int = 0

    @classmethod
    def of(cls, usage: Usage) -> Tokens:
        """Sort a usage. Cache writes that it does not break down have the API's default lifetime, 5 minutes."""
        written, tools, all_written = usage.cache_creation, usage.server_tool_use, usage.cache_creation_input_tokens
        five_minutes = written.ephemeral_5m_input_tokens if written else 0
        one_hour = written.ephemeral_1h_input_tokens if written else 0
        columns = (
            usage.input_tokens,
            max(five_minutes, all_written - one_hour) if all_written else five_minutes,
            one_hour,
            usage.cache_read_input_tokens or 0,
            usage.output_tokens,
            (tools.web_search_requests or 0) if tools else 0,
        )
        return tuple.__new__(cls, columns)  # cls(*columns) takes twice as long, for each of a million answers

    @property
    def prompt(self) -> int:
        """The tokens of the whole prompt, wherever they were read from."""
        return self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read

    @property
    def cached(self) -> int:
        """The tokens that were written to the prompt cache or read from it."""
        return self.cache_write_5m + self.cache_write_1h + self.cache_read

    @classmethod
    def total(cls, counts: Iterable[Tokens]) -> Tokens:
        """Sum each column."""
        return cls(*map(sum, zip(*counts, strict=True)))

    def to_manifest(self) -> dict[str, int]:
        """The counts by the names of the API's usage."""
        return {
            "input_tokens": self.input,
            "cache_creation_input_tokens": self.cache_write_5m + self.cache_write_1h,
            "ephemeral_5m_input_tokens": self.cache_write_5m,
            "ephemeral_1h_input_tokens": self.cache_write_1h,
            "cache_read_input_tokens": self.cache_read,
            "output_tokens": self.output,
            "web_search_requests": self.web_searches,
        }


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """USD, column by column, as a message batch is billed.

    ``without_batch`` is what the same usage costs by the Messages API, and ``without_cache`` what it costs in a
    batch that reads the whole prompt as plain input.
    """

    input: Decimal = Decimal(0)
    cache_write_5m: Decimal = Decimal(0)
    cache_write_1h: Decimal = Decimal(0)
    cache_read: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    web_search: Decimal = Decimal(0)
    without_batch: Decimal = Decimal(0)
    without_cache: Decimal = Decimal(0)

    @property
    def usd(self) -> Decimal:
        """The sum to pay."""
        prompt = self.input + self.cache_write_5m + self.cache_write_1h + self.cache_read
        return prompt + self.output + self.web_search

    def __add__(self, other: Cost) -> Cost:
        return Cost(**{name: getattr(self, name) + getattr(other, name) for name in self.__struct_fields__})


#: What decides on the price of tokens: the model's id in the table (else as the answer has it), its geography, and
#: whether the prompt is a long one.
ChargeKind = tuple[str, str | None, bool]


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What one answer is billed: its tokens, what decides on their price, and the sum.

    ``usd`` is what :meth:`PriceTable.cost` sums up to, in digits as :func:`exact_usd` writes them, or None.
    """

    kind: ChargeKind
    tokens: Tokens
    usd: str | None


class _Tariff(msgspec.Struct, frozen=True):
    """What tokens of one kind cost, to be worked out a million times with whole numbers.

    ``units`` is what a token of each column costs, in the smallest decimal place that any of them has; empty if the
    model has no price. ``one`` is a dollar in that, ``cents`` the format of what is less. ``longer`` is the tariff of
    longer prompts, with the number of tokens that are not long yet.
    """

    kind: ChargeKind
    units: tuple[int, ...]
    one: int
    cents: str
    longer: tuple[_Tariff, int] | None = None

    @classmethod
    def of(cls, kind: ChargeKind, costs: Sequence[Decimal], longer: tuple[_Tariff, int] | None) -> _Tariff:
        places = max((-int(cost.normalize().as_tuple().exponent) for cost in costs), default=0)
        places = max(1, places)
        return cls(kind, tuple(int(cost.scaleb(places)) for cost in costs), 10**places, f"%0{places}d", longer)

    def usd(self, tokens: Tokens) -> str | None:
        if not self.units:
            return None
        (a, b, c, d, e, f), (u, v, w, x, y, z) = self.units, tokens  # written out: a million rows ask
        amount = a * u + b * v + c * w + d * x + e * y + f * z
        if 0 < amount < self.one:  # as nearly every answer
            return f"0.{self.cents % amount}".rstrip("0")
        rounded_usd, rest = divmod(abs(amount), self.one)
        digits = f"{rounded_usd}.{self.cents % rest}".rstrip("0").rstrip(".")
        return digits if amount >= 0 else f"-{digits}"


class PriceTable:
    """What models cost in a message batch. Make one with :meth:`load`."""

    def __init__(self, terms: Terms, models: Mapping[str, ModelPrice]) -> None:
        self.terms = terms
        self.models = models
        self._names = names_of(models)
        self._tariffs: dict[tuple[str, str | None], _Tariff] = {}

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | None = None) -> PriceTable:
        """The package's prices under ``overrides``, which :func:`~.prices.read_prices` describes.

        :raises ConfigurationError: names the override that is wrong.
        """
        return cls(*read_prices(overrides))

    def lookup(self, model: str) -> ModelPrice | None:
        """Find a model by its id or by an alias; None if the table does not have it."""
        return self.models.get(self._names.get(model, model))

    def max_answer_tokens(self, model: str) -> int | None:
        """Return the most tokens that one answer of a model may have; None if the table does not say."""
        entry = self.lookup(model)
        return entry.max_tokens if entry else None

    def cost(self, usage: Usage, model: str, *, inference_geo: str | None = None) -> Cost | None:
        """Price one answer; None if the model has no price.

        :param inference_geo: what the request asked for; what the usage says if None.
        """
        entry, tokens = self.lookup(model), Tokens.of(usage)
        long_prompt = entry is not None and entry.is_long(tokens.prompt)
        return self.price(tokens, model, inference_geo=inference_geo or usage.inference_geo, long_prompt=long_prompt)

    def charge(self, usage: Usage, model: str, *, inference_geo: str | None = None) -> Charge:
        """What an answer is billed, to be priced and added up."""
        tokens, geo = Tokens.of(usage), inference_geo or usage.inference_geo
        try:
            tariff = self._tariffs[model, geo]
        except KeyError:
            tariff = self._tariffs[model, geo] = self._tariff(model, geo)
        if tariff.longer is not None and tokens.prompt > tariff.longer[1]:
            tariff = tariff.longer[0]
        return Charge(tariff.kind, tokens, tariff.usd(tokens))

    def _tariff(self, model: str, geo: str | None, *, is_long: bool = False) -> _Tariff:
        """What one token of each column costs tells what any do: a cost is linear in them."""
        entry, columns = self.lookup(model), range(len(Tokens._fields))
        ones = (Tokens(*(int(column == one) for column in columns)) for one in columns)
        costs = [self.price(one, model, inference_geo=geo, long_prompt=is_long) for one in ones]
        longer = None
        if entry is not None and entry.long_prompt is not None and not is_long:
            longer = (self._tariff(model, geo, is_long=True), entry.long_prompt.above_tokens)
        kind = (entry.id if entry else model, geo, is_long)
        return _Tariff.of(kind, [cost.usd for cost in costs if cost], longer)

    def price(
        self, tokens: Tokens, model: str, *, inference_geo: str | None = None, long_prompt: bool = False
    ) -> Cost | None:
        """Price tokens that may be the sum of many answers of one kind; None if the model has no price.

        ``0.5 x geo x (input x Pin + cache_5m x P5m + cache_1h x P1h + cache_read x Pread + output x Pout) / 1e6
        + 0.01 x web_searches``, with the numbers of the table.
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
        """Where a model stands at ``now`` (aware), with what to say of it."""
        entry = self.lookup(model)
        if entry is None:
            return Lifecycle(model=model, state="unknown")
        state = entry.state_at(now)
        return Lifecycle(model=model, state=state, retires_on=entry.retires_on, replacement=entry.replacement)


_NO_TOKENS = Tokens()
_AT_ONCE = 1000


class Totals:
    """The bill of many answers. Adding one is integer arithmetic; money is worked out when it is asked for."""

    def __init__(self, table: PriceTable) -> None:
        self._table = table
        self._sums: dict[ChargeKind, Tokens] = {}
        self._uncounted: dict[ChargeKind, list[Tokens]] = {}

    def add(self, usage: Usage, model: str, *, inference_geo: str | None = None) -> None:
        """Count one answer, by the model's id as its row names it."""
        self.count(self._table.charge(usage, model, inference_geo=inference_geo))

    def count(self, charge: Charge) -> None:
        """Count one answer of which the charge is known."""
        try:
            uncounted = self._uncounted[charge.kind]
        except KeyError:
            uncounted = self._uncounted[charge.kind] = []
        uncounted.append(charge.tokens)
        if len(uncounted) == _AT_ONCE:
            self._counted()

    def _counted(self) -> dict[ChargeKind, Tokens]:
        """The sums of everything: many are added up faster than one by one."""
        for kind, tokens in self._uncounted.items():
            self._sums[kind] = Tokens.total([self._sums.get(kind, _NO_TOKENS), *tokens])
        self._uncounted.clear()
        return self._sums

    def canonical(self, model: str) -> str:
        """The id under which a model's answers are counted."""
        price = self._table.lookup(model)
        return price.id if price else model

    @property
    def tokens(self) -> Tokens:
        """All of them, also those of models without a price."""
        return Tokens.total(self._counted().values())

    @property
    def by_model(self) -> dict[str, Cost | None]:
        """The cost of each model's answers; None where the table has no price."""
        costs: dict[str, Cost | None] = {}
        for (model, geo, long_prompt), tokens in self._counted().items():
            part = self._table.price(tokens, model, inference_geo=geo, long_prompt=long_prompt)
            costs[model] = part and (costs.get(model) or Cost()) + part
        return costs

    @property
    def tokens_by_model(self) -> dict[str, Tokens]:
        """The tokens of each model's answers."""
        sums: dict[str, Tokens] = {}
        for (model, _, _), part in self._counted().items():
            sums[model] = Tokens.total([sums.get(model, _NO_TOKENS), part])
        return sums

    @property
    def unpriced_models(self) -> list[str]:
        """The models whose answers have no cost, sorted."""
        return sorted(model for model, part in self.by_model.items() if part is None)

    @property
    def cost(self) -> Cost | None:
        """The whole bill; None if a model without a price is in it."""
        parts = self.by_model.values()
        return None if None in parts else sum(filter(None, parts), Cost())

    def to_manifest(self) -> dict[str, Any]:
        """The cost as the manifest shows it: amounts are strings, or None if they are not known."""
        bill = self.cost
        return {
            "usd": bill and exact_usd(bill.usd),
            "without_batch_usd": bill and exact_usd(bill.without_batch),
            "without_cache_usd": bill and exact_usd(bill.without_cache),
            "unpriced_models": self.unpriced_models,
        }


def exact_usd(amount: Decimal) -> str:
    """Write an amount with all its digits, without an exponent or idle zeros: ``0.0021``."""
    return f"{amount.normalize():f}"
