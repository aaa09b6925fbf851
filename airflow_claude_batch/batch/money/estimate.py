"""Estimates what a submission will cost before it is sent, between a lower and an upper bound.

The tokens of a sample are counted by count_tokens, which is free. The other requests are assumed to have as many tokens
per byte as the counted ones of like length. How much of its ``max_tokens`` an answer uses cannot be known. The upper
bound assumes all of it, which the API enforces. Cached prefixes are all read in the lower bound, and all written in the
upper one. What lies between is expected from earlier runs of the task, where there are any.

No bound covers what server tools add while they answer: searches, and what they read. Nor does it cover images and
documents given by reference, where none like them was counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any, Final, Generic, NamedTuple, TypeVar

from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.cost import Cost, Tokens
from airflow_claude_batch.batch.money.counting import (
    TokenCount,
    TokenCounter,
    TokenCounts,
    count_sample,
    no_window,
)
from airflow_claude_batch.batch.money.expectation import (
    GUESSED_OUTPUT_SHARE,
    Expectation,
    Expectations,
    ModelEstimate,
    RunTime,
    expected_output_in_words,
)
from airflow_claude_batch.batch.money.planned_request import PlannedRequest
from airflow_claude_batch.batch.money.prices import NEWEST_TOKENIZER
from airflow_claude_batch.batch.money.pricing import BatchRates, PriceTable
from airflow_claude_batch.batch.money.sampling import MAX_CALLS, StratifiedSample, Stratum
from airflow_claude_batch.batch.quantity import quantity

NEIGHBOURS: Final = 8  # counted requests that stand for a stratum: the median is outside of their range once in 128
COUNT_ERROR: Final = Fraction("0.02")  # a count "might differ by a small amount" from the bill; token-counting

# Tokens per byte where nothing comparable was counted. One token of an image stands for hundreds of its bytes, and no
# token is shorter than a byte.
UNCOUNTED_LOWER: Final = Fraction(0)
UNCOUNTED_UPPER: Final = Fraction(1)

N = TypeVar("N")
M = TypeVar("M")


class ThreePointEstimate(NamedTuple, Generic[N]):
    """The expected value of something, and its lower and upper bound."""

    lower: N
    expected: N
    upper: N

    def map(self, function: Callable[[N], M]) -> ThreePointEstimate[M]:
        """Apply a function to each of the three values."""
        return ThreePointEstimate(function(self.lower), function(self.expected), function(self.upper))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The estimated bill of a submission if all of its requests are answered.

    >>> estimate = estimate_cost(planned_requests, table=PriceTable.load(), client=client)
    >>> estimate.usd
    ThreePointEstimate(lower=Decimal('0.000412'), expected=Decimal('0.0009'), upper=Decimal('0.002408'))

    ``costs`` is None if a model has no price; ``unpriced_models`` names it. ``max_tokens`` has the least and the most
    that a request allows. ``measured`` is the number of requests that the API counted, and ``failure`` the reason why
    it stopped early. ``models`` has what is estimated and expected of each model, and ``rates`` its price.
    ``server_tools`` is the number of requests with tools that the API runs. ``run_time`` is how long earlier runs took,
    None if that is not known.
    """

    requests: int
    duplicates: int
    server_tools: int
    tokens: ThreePointEstimate[Tokens]
    costs: ThreePointEstimate[Cost] | None
    unpriced_models: tuple[str, ...]
    max_tokens: tuple[int, int]
    measured: int
    failure: str | None
    models: dict[str, ModelEstimate]
    rates: dict[str, BatchRates | None]
    run_time: RunTime | None

    @property
    def usd(self) -> ThreePointEstimate[Decimal] | None:
        """The cost of the whole submission in message batches, None if a model has no price."""
        return self.costs and self.costs.map(lambda cost: cost.usd)

    @property
    def output_share(self) -> float:
        """The share of ``max_tokens`` that all answers together are expected to use."""
        most = sum(model.max_tokens for model in self.models.values())
        expected = sum(model.output_share * model.max_tokens for model in self.models.values())
        return round(float(expected / most), 4) if most else float(GUESSED_OUTPUT_SHARE)

    @property
    def expected_from_runs(self) -> int:
        """The number of earlier runs that the expectation comes from. 0 if it is a guess for one of the models."""
        return min((model.expectation.runs for model in self.models.values()), default=0)

    def to_manifest(self) -> dict[str, Any]:
        """Return the estimate as JSON. Amounts are strings. What earlier runs tell is left out if there are none."""
        runs, time = self.expected_from_runs, self.run_time
        return {
            "requests": self.requests,
            "duplicates": self.duplicates,
            "input_tokens": self.tokens.map(lambda tokens: tokens.prompt)._asdict(),
            "output_tokens": self.tokens.map(lambda tokens: tokens.output)._asdict(),
            "usd": self.usd and self.usd.map(exact_usd)._asdict(),
            "unpriced_models": list(self.unpriced_models),
            "output_share": self.output_share,
            "measured_requests": self.measured,
            "failure": self.failure,
            **({"expected_from_runs": runs} if runs else {}),
            **({"expected_seconds": time.to_manifest()} if time else {}),
        }

    def models_to_manifest(self) -> dict[str, Any]:
        """Return the range of ``max_tokens``, and each model's number of requests and prices, as JSON values."""
        least, most = self.max_tokens
        models = {model: self._model_to_manifest(model) for model in self.models}
        return {"max_tokens": {"least": least, "most": most}, "models": models}

    def models_in_words(self) -> str:
        """Say how many requests go to which model, and at what price."""
        requests = [_what_is_sent(name, model.requests, self.rates[name]) for name, model in self.models.items()]
        return "\n".join([*requests, _answer_length(*self.max_tokens)])

    def _model_to_manifest(self, name: str) -> dict[str, Any]:
        rates, model = self.rates[name], self.models[name]
        per_million = None if rates is None else {name: exact_usd(usd) for name, usd in rates._asdict().items()}
        return {"requests": model.requests, "usd_per_million": per_million, **model.to_manifest(name)}

    def to_table(self) -> str:
        """Return the estimate as a table and a few sentences for the log."""
        rows = [
            ("", *ThreePointEstimate._fields),
            ("input tokens", *self.tokens.map(lambda tokens: f"{tokens.prompt:,}")),
            ("output tokens", *self.tokens.map(lambda tokens: f"{tokens.output:,}")),
            ("USD", *(self.usd.map(rounded_usd) if self.usd else ["unknown"] * 3)),
        ]
        lines = ["{:<14}{:>16}{:>16}{:>16}".format(*row) for row in rows]
        return "\n".join([*lines, *self.remarks()])

    def remarks(self) -> list[str]:
        """Write the sentences below the table: how tokens were counted, and what the estimate leaves out."""
        remarks = [
            _how_counted(self.requests, self.measured),
            *expected_output_in_words(self.models),
            "The upper bound is all of max_tokens.",
        ]
        if self.failure:
            remarks.append(f"Counting stopped early: {self.failure}")
        if self.duplicates:
            remarks.append(
                f"{quantity(self.duplicates, 'duplicate')} {'is' if self.duplicates == 1 else 'are'} not sent."
            )
        if self.server_tools:
            uses = "uses" if self.server_tools == 1 else "use"
            remarks.append(
                f"{quantity(self.server_tools, 'request')} {uses} server tools. What these add is not in the estimate."
            )
        if self.unpriced_models:
            remarks.append(f"No price is known for {', '.join(self.unpriced_models)}.")
        return remarks


def _what_is_sent(model: str, requests: int, rates: BatchRates | None) -> str:
    price = (
        "no known price"
        if rates is None
        else f"{rounded_usd(rates.input)} USD per million input tokens, {rounded_usd(rates.output)} per million output "
        "tokens"
    )
    return f"{quantity(requests, 'request')} to {model}: {price}."


def _answer_length(least: int, most: int) -> str:
    return f"max_tokens is {most:,}." if least == most else f"max_tokens is from {least:,} to {most:,}."


def _how_counted(requests: int, measured: int) -> str:
    rest = requests - measured
    length = f"estimated from {'its' if rest == 1 else 'their'} length"
    if not rest:
        return f"The tokens of {quantity(requests, 'request')} were counted."
    if not measured:
        return f"The tokens of {quantity(requests, 'request')} were {length}."
    return f"{quantity(requests, 'request')}: the tokens of {measured:,} were counted, those of {rest:,} {length}."


def estimate_cost(
    requests: Iterable[PlannedRequest],
    *,
    table: PriceTable,
    client: TokenCounter | None = None,
    max_calls: int = MAX_CALLS,
    expectations: Expectations | None = None,
    duplicates: int = 0,
    check_models: Callable[[Mapping[str, int]], None] = lambda request_counts: None,
    context_window: Callable[[str], int | None] = no_window,
) -> Estimate:
    """Estimate the requests that will be sent.

    :param client: counts tokens, in at most ``max_calls`` calls. Without one, or if it fails, tokens are estimated
        from length.
    :param expectations: what earlier runs of the task make expect. None guesses.
    :param duplicates: the number of requests that are not sent because they equal one that is. Only reported.
    :param check_models: called with the number of requests of each model, before tokens are counted.
    :param context_window: returns the most tokens that a prompt for a model may have, None if that is not known.
    :raises InvalidMessageError: the API is certain to refuse one of the counted requests.
    """
    sample = StratifiedSample(requests, max_calls=max_calls)
    check_models(sample.models)
    counts, failure = count_sample(sample, client, context_window) if client else TokenCounts([])
    expectations = expectations or Expectations()
    densities = [_tokens_per_byte(stratum, counts, table) for stratum in sample.strata]
    models = _estimate_models(sample.strata, densities, expectations, table)
    priced = [
        _estimate_stratum(stratum, per_byte, models[stratum.key.model], table)
        for stratum, per_byte in zip(sample.strata, densities, strict=True)
    ]
    unpriced = {
        stratum.key.model for stratum, part in zip(sample.strata, priced, strict=True) if part.upper.cost is None
    }
    return Estimate(
        requests=sample.requests,
        duplicates=duplicates,
        server_tools=sample.server_tools,
        tokens=_sum(priced, lambda part: part.tokens, Tokens.total),
        costs=None if unpriced else _sum(priced, lambda part: part.cost or Cost(), lambda costs: sum(costs, Cost())),
        unpriced_models=tuple(sorted(unpriced)),
        max_tokens=sample.max_tokens,
        measured=len(counts),
        failure=failure,
        models=models,
        rates={model: table.batch_rates(model) for model in models},
        run_time=expectations.run_time,
    )


def _estimate_models(
    strata: list[Stratum], densities: list[ThreePointEstimate[Fraction]], expectations: Expectations, table: PriceTable
) -> dict[str, ModelEstimate]:
    """Sum up the strata of each model, and add what is expected of it.

    :param densities: tokens per byte of each stratum.
    """
    sums: dict[str, tuple[int, ...]] = {}
    for stratum, per_byte in zip(strata, densities, strict=True):
        tokens = (round(count * per_byte.expected) for count in (stratum.bytes, stratum.cached_bytes))
        added = (stratum.requests, stratum.max_tokens, *tokens)
        sums[stratum.key.model] = tuple(map(int.__add__, sums.get(stratum.key.model, (0, 0, 0, 0)), added))
    found: dict[str, ModelEstimate] = {}
    for name, (requests, max_tokens, input_tokens, cached_tokens) in sums.items():
        entry = table.lookup(name)
        id_ = entry.id if entry else name
        expectation = expectations.of(id_)
        found[name] = ModelEstimate(id_, requests, max_tokens, input_tokens, cached_tokens, expectation)
    return found


class _PricedStratum(NamedTuple):
    """One stratum, at one of the three points."""

    tokens: Tokens
    cost: Cost | None


def _sum(
    parts: list[ThreePointEstimate[_PricedStratum]],
    pick: Callable[[_PricedStratum], N],
    total: Callable[[Iterable[N]], N],
) -> ThreePointEstimate[N]:
    points = range(len(ThreePointEstimate._fields))
    lower, expected, upper = (total([pick(part[point]) for part in parts]) for point in points)
    return ThreePointEstimate(lower, expected, upper)


def _tokens_per_byte(stratum: Stratum, counts: list[TokenCount], table: PriceTable) -> ThreePointEstimate[Fraction]:
    """Estimate the tokens per byte. The fewer counted requests are comparable, the wider the bounds."""
    near = [count for count in counts if count.stratum == stratum.key]
    margin = COUNT_ERROR
    if len(near) < stratum.requests:
        comparable = [count for count in counts if count.stratum.is_comparable(stratum.key)]
        near = sorted(comparable, key=lambda count: count.stratum.length_distance(stratum.key))[:NEIGHBOURS]
        margin = Fraction(1, max(len(near), 1))
    if not near:
        entry = table.lookup(stratum.key.model)
        characters_per_token = entry.characters_per_token if entry else NEWEST_TOKENIZER
        return ThreePointEstimate(UNCOUNTED_LOWER, 1 / Fraction(characters_per_token), UNCOUNTED_UPPER)
    each = [Fraction(count.tokens, count.bytes) for count in near]
    mean = Fraction(sum(count.tokens for count in near), sum(count.bytes for count in near))
    return ThreePointEstimate(min(each) * (1 - margin), mean, max(each) * (1 + margin))


def _estimate_stratum(
    stratum: Stratum, tokens_per_byte: ThreePointEstimate[Fraction], model: ModelEstimate, table: PriceTable
) -> ThreePointEstimate[_PricedStratum]:
    """Estimate tokens and cost of one stratum: lower, expected, upper."""
    expectation = model.expectation
    expected_output = max(stratum.requests, round(stratum.max_tokens * model.output_share))
    outputs = ThreePointEstimate(stratum.requests, expected_output, stratum.max_tokens)
    cached_ratios = ThreePointEstimate(Fraction(1), expectation.cached_ratio, Fraction(1))
    cache_hits = ThreePointEstimate(Fraction(1), expectation.cache_hits, Fraction(0))
    mean_length = Fraction(stratum.bytes, stratum.requests)
    lengths = ThreePointEstimate(Fraction(stratum.shortest), mean_length, Fraction(stratum.longest[0].bytes_length))
    roundings: ThreePointEstimate[Callable[[Fraction], int]] = ThreePointEstimate(floor, round, ceil)
    entry = table.lookup(stratum.key.model)

    def price_point(
        per_byte: Fraction,
        in_cache: Fraction,
        hits: Fraction,
        length: Fraction,
        output: int,
        rounded: Callable[[Fraction], int],
    ) -> _PricedStratum:
        cached = rounded(stratum.cached_bytes * per_byte * in_cache)
        reads = round(cached * hits)
        tokens = Tokens(
            input=max(rounded(stratum.bytes * per_byte) - cached, 0),
            cache_write_5m=cached - reads if stratum.key.cache_ttl == "5m" else 0,
            cache_write_1h=cached - reads if stratum.key.cache_ttl == "1h" else 0,
            cache_read=reads,
            output=output,
        )
        is_long = entry is not None and entry.is_long(rounded(length * per_byte))
        geo = stratum.key.inference_geo
        cost = table.token_cost(tokens, stratum.key.model, inference_geo=geo, long_prompt=is_long)
        return _PricedStratum(tokens, cost)

    per_byte = _with_ratio(tokens_per_byte, expectation)
    return _in_order(
        ThreePointEstimate(*map(price_point, per_byte, cached_ratios, cache_hits, lengths, outputs, roundings))
    )


def _with_ratio(
    tokens_per_byte: ThreePointEstimate[Fraction], expectation: Expectation
) -> ThreePointEstimate[Fraction]:
    """Correct the expected tokens by what earlier runs were billed for the counted ones, within the bounds."""
    lower, expected, upper = tokens_per_byte
    return ThreePointEstimate(lower, min(max(expected * expectation.input_ratio, lower), upper), upper)


def _in_order(points: ThreePointEstimate[_PricedStratum]) -> ThreePointEstimate[_PricedStratum]:
    """Replace what is expected by a bound that it passes, if only by a rounded token."""
    lower, expected, upper = points
    if lower.cost is None or expected.cost is None or upper.cost is None:
        return points
    if expected.cost.usd > upper.cost.usd:
        return ThreePointEstimate(lower, upper, upper)
    if expected.cost.usd < lower.cost.usd:
        return ThreePointEstimate(lower, lower, upper)
    return points
