"""Values of source rows have one form as text and as JSON, whatever library made them."""

from __future__ import annotations

import ipaddress
import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.rows.values import ValueFormError, json_of, text_of

NAIVE = datetime(2026, 11, 29, 10)  # noqa: DTZ001  # drivers give such values
INDIA = timezone(timedelta(hours=5, minutes=30))
NANOSECOND = pd.Timestamp("2026-11-29T10:00:00.000000001")


class Size(Enum):
    LARGE = "L"
    PAIR = (1, Decimal("0.10"))


class Level(IntEnum):
    HIGH = 3


class Colour(StrEnum):
    RED = "red"


class Shouted(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


FORMS = [
    (None, "", None),
    ("Où ? {x}", "Où ? {x}", "Où ? {x}"),
    (Shouted("a"), "a", "a"),
    (True, "true", True),
    (False, "false", False),
    (7, "7", 7),
    (-(10**30), str(-(10**30)), -(10**30)),
    (0.5, "0.5", 0.5),
    (7.0, "7.0", 7.0),
    (1e16, "1e+16", 1e16),
    (math.nan, "", None),
    (Decimal("12.50"), "12.50", "12.50"),
    (Decimal("1E+3"), "1000", "1000"),
    (Decimal("1E-9"), "0.000000001", "0.000000001"),
    (Decimal("NaN"), "", None),
    (Decimal("sNaN"), "", None),
    (date(2026, 11, 29), "2026-11-29", "2026-11-29"),
    (NAIVE, "2026-11-29T10:00:00", "2026-11-29T10:00:00"),
    (datetime(2026, 11, 29, 10, 0, 0, 5, UTC), *["2026-11-29T10:00:00.000005+00:00"] * 2),
    (datetime(2026, 11, 29, 10, 0, tzinfo=INDIA), *["2026-11-29T10:00:00+05:30"] * 2),
    (time(8, 30), "08:30:00", "08:30:00"),
    (time(8, 30, tzinfo=INDIA), "08:30:00+05:30", "08:30:00+05:30"),
    (timedelta(0), "PT0S", "PT0S"),
    (timedelta(days=1, hours=2, minutes=3, seconds=4.5), "P1DT2H3M4.5S", "P1DT2H3M4.5S"),
    (timedelta(days=2), "P2D", "P2D"),
    (-timedelta(minutes=90), "-PT1H30M", "-PT1H30M"),
    (UUID(int=1), *["00000000-0000-0000-0000-000000000001"] * 2),
    (Size.LARGE, "L", "L"),
    (Size.PAIR, '[1,"0.10"]', [1, "0.10"]),
    (Level.HIGH, "3", 3),
    (Colour.RED, "red", "red"),
    ([], "[]", []),
    ([1, "é", None, (math.nan,)], '[1,"é",null,[null]]', [1, "é", None, [None]]),
    ({"a": {"at": date(2026, 1, 2)}}, '{"a":{"at":"2026-01-02"}}', {"a": {"at": "2026-01-02"}}),
    ({1: True, date(2026, 1, 2): None}, '{"1":true,"2026-01-02":null}', {"1": True, "2026-01-02": None}),
    (ipaddress.ip_address("::1"), "::1", "::1"),
    (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8", "10.0.0.0/8"),
    (np.int64(7), "7", 7),
    (np.uint64(2**64 - 1), str(2**64 - 1), 2**64 - 1),
    (np.float32(0.5), "0.5", 0.5),
    (np.float64("nan"), "", None),
    (np.bool_(True), "true", True),
    (np.str_("a"), "a", "a"),
    (np.array([1, 2]), "[1,2]", [1, 2]),
    (np.array([[1.5], [math.nan]]), "[[1.5],[null]]", [[1.5], [None]]),
    (np.array(["2026-01-02"], "M8[ns]"), '["2026-01-02T00:00:00"]', ["2026-01-02T00:00:00"]),
    (np.array(7), "7", 7),
    (np.datetime64("2026-11-29"), "2026-11-29", "2026-11-29"),
    (np.datetime64("2026-11-29T10:00:00", "ns"), "2026-11-29T10:00:00", "2026-11-29T10:00:00"),
    (NANOSECOND.to_datetime64(), *["2026-11-29T10:00:00.000000001"] * 2),
    (np.datetime64("NaT"), "", None),
    (np.datetime64("12000-01-01"), "12000-01-01", "12000-01-01"),
    (np.timedelta64(1500, "ms"), "PT1.5S", "PT1.5S"),
    (np.timedelta64(1, "ns"), "PT0.000000001S", "PT0.000000001S"),
    (np.timedelta64("NaT"), "", None),
    (pd.NaT, "", None),
    (pd.NA, "", None),
    (pd.Timestamp("2026-11-29 10:00", tz="UTC"), *["2026-11-29T10:00:00+00:00"] * 2),
    (NANOSECOND, *["2026-11-29T10:00:00.000000001"] * 2),
    (pd.Timedelta(1, "ns"), "PT0.000000001S", "PT0.000000001S"),
    (pd.Series([1, 2]), "[1,2]", [1, 2]),
]


@pytest.mark.parametrize(("value", "text", "form"), FORMS, ids=[repr(value)[:40] for value, _, _ in FORMS])
def test_value_has_its_form(value: Any, text: str, form: Any) -> None:
    found = json_of(value)

    assert text_of(value) == text
    assert (found, type(found)) == (form, type(form))
    assert json.loads(json.dumps(found, allow_nan=False)) == form


def test_scalars_of_pyarrow_and_columns_of_polars_have_the_form_of_their_value() -> None:
    pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")

    assert json_of(pa.scalar(Decimal("1.10"))) == "1.10"
    assert json_of(pa.scalar(None)) is None
    assert json_of(pa.array([1, None])) == [1, None]
    assert text_of(pa.scalar({"a": [date(2026, 1, 2)]})) == '{"a":["2026-01-02"]}'
    assert json_of(pl.Series([1.5, None])) == [1.5, None]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (b"a", "holds bytes"),
        (bytearray(b"a"), "holds bytes"),
        (memoryview(b"a"), "holds bytes"),
        (np.bytes_(b"a"), "holds bytes"),
        ([{"a": b"a"}], "holds bytes"),
        (math.inf, "holds infinity, which JSON does not have"),
        (np.float64("-inf"), "holds infinity, which JSON does not have"),
        (Decimal("Infinity"), "holds infinity, which JSON does not have"),
        (10**5000, "holds an integer of more than 4,000 digits"),
        (Decimal("1E+999999999"), "holds a decimal of more than 150,000 digits"),
        (Decimal("0E-999999999"), "holds a decimal of more than 150,000 digits"),
        (object(), "holds an object"),
        ({1, 2}, "holds a set"),
        (1j, "holds a complex"),
        (np.complex128(1), "holds a complex128"),
        (np.longdouble(1), "holds a longdouble"),
        (np.timedelta64(3, "Y"), "holds a timedelta64"),
        (pd.Interval(1, 2), "holds an Interval"),
        ({1: "a", "1": "b"}, "holds a mapping with two names that are the same text"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_value_without_a_form_is_refused(value: Any, problem: str) -> None:
    with pytest.raises(ValueFormError) as caught:
        text_of(value)

    assert caught.value.problem == problem
    assert caught.value.column is None
    assert caught.value.remedy.endswith(".")


def test_range_of_postgresql_is_refused_by_its_type() -> None:
    ranges = pytest.importorskip("psycopg.types.range")

    with pytest.raises(ValueFormError, match="a column holds a Range") as caught:
        json_of(ranges.Range(1, 2))
    assert "text in the query" in caught.value.remedy


def test_list_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises(ValueFormError, match="is nested too deeply, or holds itself"):
        json_of(value)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
NESTED = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@given(NESTED)
def test_json_comes_back_from_its_text(value: Any) -> None:
    assert json_of(value) == value
    assert json.loads(json.dumps(json_of(value))) == value
    if isinstance(value, list | dict | int | float):
        assert json.loads(text_of(value)) == value


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_decimal_keeps_its_value_and_its_zeros(value: Decimal) -> None:
    text = text_of(value)

    assert Decimal(text) == value
    assert "E" not in text
    if (exponent := int(value.as_tuple().exponent)) < 0:
        assert len(text.partition(".")[2]) == -exponent


@given(st.timedeltas())
def test_duration_comes_back_from_its_text(value: timedelta) -> None:
    text = text_of(value)

    days, _, clock = text.removeprefix("-").removeprefix("P").partition("T")
    total = timedelta(days=int(days.removesuffix("D") or 0))
    for unit, name in (("H", "hours"), ("M", "minutes"), ("S", "seconds")):
        count, found, rest = clock.partition(unit)
        if found:
            total += timedelta(**{name: int(count)}) if unit != "S" else _seconds(count)
            clock = rest
    assert (-total if text.startswith("-") else total) == value


def _seconds(text: str) -> timedelta:
    whole, _, fraction = text.partition(".")
    return timedelta(seconds=int(whole), microseconds=int(fraction.ljust(6, "0") or 0))


@given(st.datetimes(timezones=st.none() | st.just(UTC) | st.just(INDIA)))
def test_timestamp_comes_back_from_its_text(value: datetime) -> None:
    assert datetime.fromisoformat(text_of(value)) == value
