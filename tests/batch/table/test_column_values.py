"""Values of rows become values of columns, or are refused with the reason."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.table.column import Column, Kind, integer_range, kind_of_type, length_of_type
from airflow_claude_batch.batch.table.convert import UnfitValueError, converter_for
from airflow_claude_batch.batch.table.found_types import joined_kind

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def convert(kind: Kind, value: Any, **options: Any) -> Any:
    return converter_for(Column("c", kind.value, kind, **options), on_replaced=lambda: None)(value)


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        (Kind.BOOLEAN, True, True),
        (Kind.BOOLEAN, 0, False),
        (Kind.INTEGER, "17", 17),
        (Kind.INTEGER, 3.0, 3),
        (Kind.INTEGER, True, 1),
        (Kind.INTEGER, Decimal("4.00"), 4),
        (Kind.NUMBER, "0.0012345678901234567890", Decimal("0.0012345678901234567890")),
        (Kind.NUMBER, 0.1, Decimal("0.1")),
        (Kind.NUMBER, 2**70, 2**70),
        (Kind.FLOAT, "1e3", 1000.0),
        (Kind.FLOAT, 1, 1.0),
        (Kind.TEXT, 17, "17"),
        (Kind.TEXT, True, "true"),
        (Kind.TEXT, 0.5, "0.5"),
        (Kind.TEXT, {"a": ["ä", None]}, '{"a":["ä",null]}'),
        (Kind.TEXT, "a\0b", "a\ufffdb"),
        (Kind.TEXT, {"a\0": ["\0"]}, '{"a\ufffd":["\ufffd"]}'),
        (Kind.DATE, "2026-11-29", date(2026, 11, 29)),
        (Kind.TIME, "10:30:00.5", time(10, 30, 0, 500_000)),
        (Kind.TIMESTAMP, "2026-11-29T10:30:00+01:00", datetime(2026, 11, 29, 9, 30)),  # noqa: DTZ001  # the column has no zone
        (Kind.TIMESTAMP, "2026-11-29", datetime(2026, 11, 29)),  # noqa: DTZ001  # the column has no zone
        (Kind.TIMESTAMP_TZ, "2026-11-29T10:30:00Z", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
        (Kind.TIMESTAMP_TZ, "2026-11-29 10:30:00", datetime(2026, 11, 29, 10, 30, tzinfo=UTC)),
        (Kind.JSON, "text", '"text"'),
        (Kind.JSON, {"a": "\0"}, '{"a":"\ufffd"}'),
        (Kind.ARRAY, ["a", 1, None], ["a", 1, None]),
        (Kind.OTHER, "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"),
        (Kind.ANY, 17, 17),
        (Kind.ANY, {"a": 1}, '{"a":1}'),
    ],
)
def test_value_gets_the_type_of_its_column(kind: Kind, value: Any, converted: Any) -> None:
    result = convert(kind, value)

    assert result == converted
    assert type(result) is type(converted)


@pytest.mark.parametrize(
    ("kind", "value", "says"),
    [
        (Kind.BOOLEAN, 2, "an integer"),
        (Kind.BOOLEAN, "true", "a text"),
        (Kind.INTEGER, "1.5", "a text"),
        (Kind.INTEGER, 1.5, "a number with a fraction"),
        (Kind.INTEGER, float("inf"), "a number with a fraction"),
        (Kind.INTEGER, "٣", "a text"),
        (Kind.INTEGER, 2**63, "an integer out of its range"),
        (Kind.INTEGER, [1], "a list"),
        (Kind.NUMBER, "NaN", "a text"),
        (Kind.NUMBER, True, "a boolean"),
        (Kind.NUMBER, float("nan"), "a number with a fraction"),
        (Kind.FLOAT, {}, "an object"),
        (Kind.DATE, "2026-11-29T10:00:00", "a text that is no ISO 8601 date"),
        (Kind.DATE, 5, "an integer"),
        (Kind.TIME, "10:00:00+01:00", "a time with an offset"),
        (Kind.TIMESTAMP, "soon", "a text that is no ISO 8601 date and time"),
        (Kind.TIMESTAMP, 1764412345, "an integer"),
        (Kind.TIMESTAMP, "0001-01-01T00:00:00+14:00", "a date and time out of its range"),
        (Kind.ARRAY, "a", "a text"),
    ],
)
def test_value_that_would_lose_something_is_refused(kind: Kind, value: Any, says: str) -> None:
    with pytest.raises(UnfitValueError) as error:
        convert(kind, value)
    assert str(error.value) == says


def test_text_may_not_be_longer_than_its_column() -> None:
    assert convert(Kind.TEXT, "äöü", max_length=3) == "äöü"
    with pytest.raises(UnfitValueError, match=r"^a text of 4 characters$"):
        convert(Kind.TEXT, "äöüß", max_length=3)


@given(JSON.filter(lambda value: value is not None), st.sampled_from([kind for kind in Kind if kind is not Kind.BYTES]))
def test_any_value_is_converted_or_refused(value: Any, kind: Kind) -> None:
    with contextlib.suppress(UnfitValueError):
        convert(kind, value)


@given(JSON.filter(lambda value: value is not None and "\\u0000" not in json.dumps(value)))
def test_json_comes_back(value: Any) -> None:
    assert json.loads(convert(Kind.JSON, value)) == value


@given(st.lists(JSON, max_size=5))
def test_kind_that_was_found_takes_all_values(values: list[Any]) -> None:
    kind: Kind | None = None
    for value in values:
        kind = joined_kind(kind, value)
    for value in values:
        if value is not None:
            assert kind is not None
            convert(kind, value)


@pytest.mark.parametrize(
    ("type_name", "kind"),
    [
        ("character varying(32)", Kind.TEXT),
        ("VARCHAR(32)", Kind.TEXT),
        ("timestamp(6) with time zone", Kind.TIMESTAMP_TZ),
        ("timestamp without time zone", Kind.TIMESTAMP),
        ("numeric(12,2)", Kind.NUMBER),
        ("bigint(20) unsigned", Kind.INTEGER),
        ("double precision", Kind.FLOAT),
        ("jsonb", Kind.JSON),
        ("text[]", Kind.ARRAY),
        ("bytea", Kind.BYTES),
        ("uuid", Kind.OTHER),
        ("enum('a','b')", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_type_has_a_kind(type_name: str, kind: Kind) -> None:
    assert kind_of_type(type_name) is kind


def test_type_has_bounds() -> None:
    assert integer_range("tinyint(4)") == range(-128, 128)
    assert integer_range("smallint unsigned") == range(65536)
    assert integer_range("bigint") == range(-(2**63), 2**63)
    assert length_of_type("character varying(32)") == 32
    assert length_of_type("text") is None
    assert length_of_type("numeric(12,2)") is None
