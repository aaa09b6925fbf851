"""Amounts as text, exact and rounded."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_claude_batch.batch.money.amounts import exact_usd, rounded_usd


@pytest.mark.parametrize(
    ("amount", "written"), [("0.0021000", "0.0021"), ("1E-7", "0.0000001"), ("0.000", "0"), ("1E+2", "100")]
)
def test_exact_usd_writes_all_digits_and_no_exponent(amount: str, written: str) -> None:
    assert exact_usd(Decimal(amount)) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [("1234.5678", "1,234.57"), ("0.5", "0.50"), ("0.1234567", "0.1235"), ("0.0001234567", "0.000123"), ("0", "0.00")],
)
def test_rounded_usd_has_cents_and_more_digits_for_parts_of_a_dollar(amount: str, written: str) -> None:
    assert rounded_usd(Decimal(amount)) == written
