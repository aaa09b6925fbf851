"""Amounts of US dollars as text."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple


class Amount(NamedTuple):
    """A sum of money in USD. If ``is_complete`` is False, parts of it are unknown and the sum is a lower bound.

    >>> Amount(Decimal("1.50"), True) + Amount(Decimal("0.25"), False)
    Amount(usd=Decimal('1.75'), is_complete=False)
    """

    usd: Decimal
    is_complete: bool

    def __add__(self, other: object) -> Amount:
        if not isinstance(other, Amount):
            return NotImplemented
        return Amount(self.usd + other.usd, self.is_complete and other.is_complete)


NOTHING = Amount(Decimal(0), True)


def exact_usd(amount: Decimal) -> str:
    """Write an amount with all its digits, without an exponent and without trailing zeros: ``0.0021``."""
    return f"{amount.normalize():f}"


def rounded_usd(amount: Decimal) -> str:
    """Write an amount for people: in cents, with more digits for parts of a dollar."""
    digits = 2 if amount >= 1 or amount == round(amount, 2) else 4 if amount >= Decimal("0.01") else 6
    return f"{amount:,.{digits}f}"
