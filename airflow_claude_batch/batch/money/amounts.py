"""Amounts of US dollars as text."""

from __future__ import annotations

from decimal import Decimal


def exact_usd(amount: Decimal) -> str:
    """Write an amount with all its digits, without an exponent and without trailing zeros: ``0.0021``."""
    return f"{amount.normalize():f}"


def rounded_usd(amount: Decimal) -> str:
    """Write an amount for people: in cents, with more digits for parts of a dollar."""
    digits = 2 if amount >= 1 or amount == round(amount, 2) else 4 if amount >= Decimal("0.01") else 6
    return f"{amount:,.{digits}f}"
