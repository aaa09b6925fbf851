"""What a submission will cost, before it is sent: a guess whose assumptions are stated, between two bounds.

A few requests are measured by count_tokens, which is free; the others are taken to have as many tokens per byte as the
measured ones of like length. How much of its ``max_tokens`` an answer will use cannot be known: the upper bound is all
of it, which the API enforces. Cached prefixes are all read at best, all written at worst.

Outside of every bound is what server tools add while they answer: searches, and what they read. So is the length of
images and documents given by reference, where nothing like them could be measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from fractions import Fraction
from math import ceil, floor
from typing import Any, Final, Generic, NamedTuple, TypeVar

from airflow_claude_batch.batch.money.prices import NEWEST_TOKENIZER
from airflow_claude_batch.batch.money.pricing import Cost, PriceTable, Tokens, exact_usd
from airflow_claude_batch.batch.money.sampling import (
    MAX_CALLS,
    Group,
    Measured,
    Measurement,
    PlannedRequest,
    Sample,
    TokenCounter,
    measure,
)
from airflow_claude_batch.exceptions import CostLimitError

CENT: Final = Decimal("0.01")
MICRO: Final = Decimal("0.000001")
NEIGHBOURS: Final = 8  # measured requests that speak for a group: the median is outside of their range once in 128
COUNT_ERROR: Final = Fraction("0.02")  # a count "might differ by a small amount" from the bill; token-counting

EXPECTED_OUTPUT_SHARE: Final = 0.25  # of max_tokens; an assumption, better taken from the usage of an earlier run
EXPECTED_CACHE_HITS: Final = Fraction("0.5")  # of cached prefixes; batch-processing quotes 30 to 98 %

# Tokens per byte of what was not measured. Hundreds of bytes of an image make one token; no token is less than a byte.
UNMEASURED_LEAST: Final = Fraction(0)
UNMEASURED_MOST: Final = Fraction(1)

N = TypeVar("N")
M = TypeVar("M")


class Bounds(NamedTuple, Generic[N]):
    """A guess, between the least and the most that it can be."""

    lower: N
    expected: N
    upper: N

    def map(self, function: Callable[[N], M]) -> Bounds[M]:
        """The same of each of the three."""
        return Bounds(function(self.lower), function(self.expected), function(self.upper))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the requests of a submission will be billed for, if all of them are answered.

    ``costs`` is None if a model has no price; ``unpriced_models`` has its name. ``max_tokens`` is the least and the
    most that any request allows. ``measured`` requests were counted by the API; ``failure`` is why it were not more.
    ``models`` has the number of requests of each model.
    """

    requests: int
    duplicates: int
    server_tools: int
    tokens: Bounds[Tokens]
    costs: Bounds[Cost] | None
    unpriced_models: tuple[str, ...]
    max_tokens: tuple[int, int]
    output_share: float
    measured: int
    failure: str | None
    models: dict[str, int]

    @property
    def usd(self) -> Bounds[Decimal] | None:
        """What all of it costs in a message batch."""
        return self.costs and self.costs.map(lambda cost: cost.usd)

    def to_manifest(self) -> dict[str, Any]:
        """The estimate as JSON; amounts are strings."""
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
        }

    def to_table(self) -> str:
        """The estimate as a few lines for the log."""
        rows = [
            ("", *Bounds._fields),
            ("input tokens", *self.tokens.map(lambda tokens: f"{tokens.prompt:,}")),
            ("output tokens", *self.tokens.map(lambda tokens: f"{tokens.output:,}")),
            ("USD", *(self.usd.map(rounded_usd) if self.usd else ["unknown"] * 3)),
        ]
        lines = ["{:<14}{:>16}{:>16}{:>16}".format(*row) for row in rows]
        return "\n".join([*lines, *self._remarks()])

    def _remarks(self) -> list[str]:
        remarks = [
            f"{self.requests:,} requests: the tokens of {self.measured:,} were counted, the rest follows from length.",
            f"Expected are answers of {self.output_share:.0%} of max_tokens; the upper bound is all of it.",
        ]
        if self.failure:
            remarks.append(f"Counting ended early: {self.failure}")
        if self.duplicates:
            remarks.append(f"{self.duplicates:,} duplicates are not sent.")
        if self.server_tools:
            remarks.append(f"On top of all bounds: what the server tools of {self.server_tools:,} requests add.")
        if self.unpriced_models:
            remarks.append(f"No price is known for {', '.join(self.unpriced_models)}.")
        return remarks


def estimate_cost(
    requests: Iterable[PlannedRequest],
    *,
    table: PriceTable,
    client: TokenCounter | None = None,
    max_calls: int = MAX_CALLS,
    output_share: float = EXPECTED_OUTPUT_SHARE,
    duplicates: int = 0,
) -> Estimate:
    """Estimate the requests that will be sent.

    :param client: counts tokens, at most ``max_calls`` times; without one, or when it fails, length alone decides.
    :param output_share: how much of ``max_tokens`` the expected answer uses.
    :param duplicates: how many requests are not among them because they equal one that is; only reported.
    """
    sample = Sample(requests, max_calls=max_calls)
    measurement = measure(sample, client) if client else Measurement([])
    priced = [_price(group, _density(group, measurement.counts, table), output_share, table) for group in sample.groups]
    unpriced = {group.kind.model for group, part in zip(sample.groups, priced, strict=True) if part.upper.cost is None}
    return Estimate(
        requests=sample.requests,
        duplicates=duplicates,
        server_tools=sample.server_tools,
        tokens=_sum(priced, lambda part: part.tokens, Tokens.total),
        costs=None if unpriced else _sum(priced, lambda part: part.cost or Cost(), lambda costs: sum(costs, Cost())),
        unpriced_models=tuple(sorted(unpriced)),
        max_tokens=sample.max_tokens,
        output_share=output_share,
        measured=len(measurement.counts),
        failure=measurement.failure,
        models=sample.models,
    )


def check_max_cost(
    estimate: Estimate, max_cost: Decimal, *, spent: Decimal = Decimal(0), name: str = "max_cost"
) -> None:
    """Refuse what may, on top of what is spent, cost more than ``max_cost`` USD.

    The upper bound decides: a limit must hold also when every answer is as long as it may be. A model without a price
    is refused too, since no limit can be promised for it. What server tools add is outside of the bound, and so of
    the limit.

    :param spent: what earlier answers of the same submission were billed.
    :param name: of the setting that limits, for the message.
    :raises CostLimitError: says how much it may be, by which bound, and what would fit.
    """
    if estimate.costs is None:
        raise unpriced(estimate.unpriced_models, name)
    most, expected = estimate.costs.upper, estimate.costs.expected
    if spent + most.usd <= max_cost:
        return
    enough = _rounded_up(spent + most.usd)
    billed = f"On top of the ${rounded_usd(spent)} that were billed already, these" if spent else "These"
    fitting = ", or ".join([*_what_fits(estimate, most, max_cost - spent), f"{name}={enough}"])
    raise CostLimitError(
        f"{billed} {estimate.requests:,} requests may cost up to ${rounded_usd(_rounded_up(most.usd))} when "
        f"every answer uses all of its max_tokens (expected: ${rounded_usd(expected.usd)}), which is above {name}, "
        f"${rounded_usd(max_cost)}. Nothing {'more ' if spent else ''}was sent. What would fit: {fitting}."
    )


def _rounded_up(amount: Decimal) -> Decimal:
    return amount.quantize(CENT if amount >= CENT else MICRO, ROUND_UP)


def unpriced(models: Iterable[str], name: str) -> CostLimitError:
    """The refusal where no price is known."""
    return CostLimitError(
        f"{name} cannot be held: no price is known for {', '.join(models)}. Nothing was sent. Add the model to the "
        "price overrides ([claude_batch] prices_path), or leave the limit out."
    )


def _what_fits(estimate: Estimate, most: Cost, max_cost: Decimal) -> Iterator[str]:
    if max_cost <= 0 or not most.usd:
        return
    least_allowed, most_allowed = estimate.max_tokens
    share = (max_cost - (most.usd - most.output)) / most.output if most.output else Decimal(0)
    if least_allowed == most_allowed and share * most_allowed >= 1:
        yield f"max_tokens of {int(share * most_allowed):,} instead of {most_allowed:,}"
    elif least_allowed < most_allowed and share >= Decimal("0.01"):
        yield f"max_tokens at {floor(share * 100)} % of what they are"
    if (fitting := int(estimate.requests * max_cost / most.usd)) > 0:
        yield f"about {fitting:,} requests of this kind"


def rounded_usd(amount: Decimal) -> str:
    """Write an amount for people: in cents, with more digits for parts of a dollar."""
    digits = 2 if amount >= 1 or amount == round(amount, 2) else 4 if amount >= Decimal("0.01") else 6
    return f"{amount:,.{digits}f}"


class _Part(NamedTuple):
    """One group, at one of its bounds."""

    tokens: Tokens
    cost: Cost | None


def _sum(parts: list[Bounds[_Part]], pick: Callable[[_Part], N], total: Callable[[Iterable[N]], N]) -> Bounds[N]:
    lower, expected, upper = (total([pick(part[bound]) for part in parts]) for bound in range(len(Bounds._fields)))
    return Bounds(lower, expected, upper)


def _density(group: Group, counts: list[Measured], table: PriceTable) -> Bounds[Fraction]:
    """Tokens per byte. The fewer measured requests speak for the group, the wider their range is taken."""
    near = [count for count in counts if count.kind == group.kind]
    slack = COUNT_ERROR
    if len(near) < group.requests:
        like = [count for count in counts if count.kind.is_like(group.kind)]
        near = sorted(like, key=lambda count: count.kind.distance(group.kind))[:NEIGHBOURS]
        slack = Fraction(1, max(len(near), 1))
    if not near:
        entry = table.lookup(group.kind.model)
        characters_per_token = entry.characters_per_token if entry else NEWEST_TOKENIZER
        return Bounds(UNMEASURED_LEAST, 1 / Fraction(characters_per_token), UNMEASURED_MOST)
    each = [Fraction(count.tokens, count.bytes) for count in near]
    mean = Fraction(sum(count.tokens for count in near), sum(count.bytes for count in near))
    return Bounds(min(each) * (1 - slack), mean, max(each) * (1 + slack))


def _price(group: Group, density: Bounds[Fraction], output_share: float, table: PriceTable) -> Bounds[_Part]:
    outputs = Bounds(group.requests, max(group.requests, round(group.max_tokens * output_share)), group.max_tokens)
    hits = Bounds(Fraction(1), EXPECTED_CACHE_HITS, Fraction(0))
    lengths = Bounds(Fraction(group.shortest), Fraction(group.bytes, group.requests), Fraction(group.longest))
    roundings: Bounds[Callable[[Fraction], int]] = Bounds(floor, round, ceil)
    entry = table.lookup(group.kind.model)

    def part(
        per_byte: Fraction, hit: Fraction, length: Fraction, output: int, rounded: Callable[[Fraction], int]
    ) -> _Part:
        cached = rounded(group.cached_bytes * per_byte)
        reads = round(cached * hit)
        tokens = Tokens(
            input=max(rounded(group.bytes * per_byte) - cached, 0),
            cache_write_5m=cached - reads if group.kind.cache_ttl == "5m" else 0,
            cache_write_1h=cached - reads if group.kind.cache_ttl == "1h" else 0,
            cache_read=reads,
            output=output,
        )
        long_prompt = entry is not None and entry.is_long(rounded(length * per_byte))
        geo = group.kind.inference_geo
        return _Part(tokens, table.price(tokens, group.kind.model, inference_geo=geo, long_prompt=long_prompt))

    return Bounds(*map(part, density, hits, lengths, outputs, roundings))
