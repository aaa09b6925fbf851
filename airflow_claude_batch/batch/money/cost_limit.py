"""Holds an estimate against a cost limit, and says what would fit."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from decimal import ROUND_UP, Decimal
from math import floor
from typing import Final

from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd
from airflow_claude_batch.batch.money.cost import Cost
from airflow_claude_batch.batch.money.estimate import Estimate
from airflow_claude_batch.batch.quantity import quantity
from airflow_claude_batch.exceptions import CostLimitError

_CENT: Final = Decimal("0.01")
_MICRO: Final = Decimal("0.000001")


def check_max_cost(
    estimate: Estimate, max_cost: Decimal, *, spent: Decimal = Decimal(0), name: str = "max_cost"
) -> None:
    """Raise if the requests, on top of what is spent, may cost more than ``max_cost`` USD.

    The upper bound decides: a limit must hold also if every answer is as long as it may be. Models without a price
    are refused too, because no limit can be promised for them. What server tools add is outside of the bound, and so
    outside of the limit.

    :param spent: what earlier answers of the same submission cost.
    :param name: the setting that has the limit, for the message.
    :raises CostLimitError: says how much the requests may cost, and what would fit.
    """
    if estimate.costs is None:
        raise unpriced_error(estimate.unpriced_models, name)
    most, expected = estimate.costs.upper, estimate.costs.expected
    if spent + most.usd <= max_cost:
        return
    raise CostLimitError(
        f"{_how_much(estimate.requests, most, expected, spent, max_cost)}, above {name}, ${rounded_usd(max_cost)}.",
        "Nothing more was sent." if spent else "Nothing was sent.",
        "The upper bound assumes that every answer uses all of its max_tokens.\nWhat would fit: "
        + ", or ".join([*what_fits(estimate, most, max_cost - spent), f"{name}={_rounded_up(spent + most.usd)}"])
        + ".",
    )


def _how_much(requests: int, most: Cost, expected: Cost, spent: Decimal, max_cost: Decimal) -> str:
    upper_bound = rounded_usd(most.usd)
    if upper_bound == rounded_usd(max_cost):
        upper_bound = exact_usd(most.usd)
    upper = f"may cost up to ${upper_bound}"
    if spent:
        return f"{quantity(requests, 'more request')} {upper} on top of the ${rounded_usd(spent)} billed already"
    return f"{quantity(requests, 'request')} {upper} (expected: ${rounded_usd(expected.usd)})"


def unpriced_error(models: Collection[str], name: str) -> CostLimitError:
    """Build the error about a limit that cannot be held because a model has no price."""
    return CostLimitError(
        f"{name} cannot be held: no price is known for {', '.join(models)}.",
        "Nothing was sent.",
        f"Add the {'model' if len(models) == 1 else 'models'} to the price overrides ([claude_batch] prices_path), or "
        "leave the limit out.",
    )


def unknown_spending_error(answers: int, name: str) -> CostLimitError:
    """Build the error about a limit that cannot be held because it is not known what earlier answers cost."""
    return CostLimitError(
        f"{name} cannot be held: what {quantity(answers, 'answer')} cost is not known.",
        "Nothing more was sent. The answers may be billed; they, or their usage, are in a form that is not known.",
        "Look up the cost in the Console, then leave the limit out. Or upgrade this package.",
    )


def _rounded_up(amount: Decimal) -> Decimal:
    return amount.quantize(_CENT if amount >= _CENT else _MICRO, ROUND_UP)


def what_fits(estimate: Estimate, most: Cost, max_cost: Decimal) -> Iterator[str]:
    """Yield what would fit into an amount of USD: less max_tokens, or fewer requests.

    :param most: upper bound of the cost of all requests.
    """
    if max_cost <= 0 or not most.usd:
        return
    least_allowed, most_allowed = estimate.max_tokens
    share = (max_cost - (most.usd - most.output)) / most.output if most.output else Decimal(0)
    if least_allowed == most_allowed and share * most_allowed >= 1:
        yield f"max_tokens of {int(share * most_allowed):,} instead of {most_allowed:,}"
    elif least_allowed < most_allowed and share >= Decimal("0.01"):
        yield f"max_tokens at {floor(share * 100)} % of what they are"
    if (fitting := int(estimate.requests * max_cost / most.usd)) > 0:
        yield f"about {quantity(fitting, 'request')} of this kind"
