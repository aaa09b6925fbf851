"""A column of source rows has one type word, whatever its rows hold."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.column_types import ColumnTypes, column_type
from airflow_claude_batch.batch.input.rows.values import ValueFormError

NAIVE = datetime(2026, 11, 29)  # noqa: DTZ001  # drivers give such values
AWARE = datetime(2026, 11, 29, tzinfo=UTC)
WORDS = [
    (None, None),
    (math.nan, None),
    (pd.NaT, None),
    (Decimal("NaN"), None),
    (True, "boolean"),
    (np.bool_(False), "boolean"),
    (7, "integer"),
    (np.int32(7), "integer"),
    (2**63 - 1, "integer"),
    (-(2**63), "integer"),
    (2**63, "decimal"),
    (0.5, "number"),
    (np.float32(0.5), "number"),
    (Decimal(7), "decimal"),
    ("7", "text"),
    (UUID(int=1), "text"),
    (timedelta(1), "text"),
    (date(2026, 1, 2), "date"),
    (np.datetime64("2026-01-02"), "date"),
    (time(8), "time"),
    (time(8, tzinfo=UTC), "text"),
    (NAIVE, "timestamp"),
    (pd.Timestamp(NAIVE), "timestamp"),
    (AWARE, "timestamp_tz"),
    (pd.Timestamp(AWARE), "timestamp_tz"),
    ([1], "json"),
    ((1,), "json"),
    ({}, "json"),
    (np.array([1]), "json"),
]
COLUMNS = [
    ([], "text"),
    ([None, math.nan], "text"),
    ([1, None, 2], "integer"),
    ([1, 0.5], "number"),
    ([0.5, 1, math.nan], "number"),
    ([1, Decimal("0.5")], "decimal"),
    ([1, 2**63], "decimal"),
    ([0.5, Decimal("0.5")], "json"),
    ([1, 0.5, Decimal("0.5")], "json"),
    ([True, 1], "json"),
    ([1, "a"], "json"),
    (["a", "b", 1], "json"),
    ([date(2026, 1, 2), NAIVE], "json"),
    ([NAIVE, AWARE], "json"),
    ([time(8), time(8, tzinfo=UTC)], "json"),
    (["a", UUID(int=1), timedelta(1)], "text"),
    ([[1], {}], "json"),
]


@pytest.mark.parametrize(("value", "word"), WORDS, ids=[repr(value)[:40] for value, _ in WORDS])
def test_value_has_its_word(value: Any, word: str | None) -> None:
    assert column_type(value) == word


@pytest.mark.parametrize(("values", "word"), COLUMNS, ids=[repr(values)[:50] for values, _ in COLUMNS])
def test_column_has_one_word(values: list[Any], word: str) -> None:
    types = ColumnTypes(["a", "other"])
    for value in values:
        types.add({"a": value, "other": True})

    assert types.words() == {"a": word, "other": "boolean" if values else "text"}


@settings(suppress_health_check=[HealthCheck.too_slow])  # other tests share the machine
@given(st.lists(st.sampled_from([value for value, _ in WORDS])), st.randoms(use_true_random=False))
def test_order_of_the_rows_does_not_matter(values: list[Any], random: Any) -> None:
    shuffled = random.sample(values, len(values))

    assert _word(values) == _word(shuffled)


def _word(values: list[Any]) -> str:
    types = ColumnTypes(["a"])
    for value in values:
        types.add({"a": value})
    return types.words()["a"]


def test_row_without_the_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="a"):
        ColumnTypes(["a"]).add({"b": 1})


def test_bytes_have_no_word() -> None:
    with pytest.raises(ValueFormError, match="holds bytes"):
        ColumnTypes(["a"]).add({"a": b"x"})
