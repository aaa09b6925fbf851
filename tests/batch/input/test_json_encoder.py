"""Requests are encoded as Python's ``json`` encodes them: their hashes are made from these bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator
from datetime import date
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.batch.input.json_encoder import encode_json
from airflow_claude_batch.batch.input.json_errors import exact_integer


class Size(IntEnum):
    SMALL = 1


class Colour(StrEnum):
    RED = "red"


class Text(str):
    __slots__ = ()


class Renamed(dict[str, Any]):
    def items(self) -> ItemsView[str, Any]:
        return {"another key": 1}.items()


class Doubled(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([*super().__iter__()] * 2)


def by_json(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=exact_integer)
    return text.encode()


def outcome(encode: Callable[[Any], bytes], value: Any) -> object:
    """Return the bytes, or the error as a user would read it."""
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return type(error), str(error)


NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 2**64, 10**400, 1e16, 1e-7, -0.0])
TEXTS = st.text() | st.sampled_from(["\ud800", "\x00\x1f\x7f\u2028\ufeff", '"\\/\b\f\n\r\t', "—𝄞", "é" * 200])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@given(value=VALUES)
def test_a_value_has_the_bytes_or_the_error_that_json_gives(value: Any) -> None:
    assert outcome(encode_json, value) == outcome(by_json, value)


@pytest.mark.parametrize(
    "value",
    [
        *(Size.SMALL, Colour.RED, Text("a"), Renamed(a=1), Doubled([1])),
        *((1, "a"), {1}, frozenset({"a"}), bytearray(b"a"), object, msgspec.Raw(b"1"), date(2026, 1, 2), Decimal(1)),
        *({Colour.RED: 1}, {Text("a"): 1}, {1: 2}, {None: 1}, {True: 1}, {0.1: 1}, {(1,): 1}, {date(2026, 1, 2): 1}),
        *(1e16, 1e-7, float("nan"), float("inf"), 10**5_000),
    ],
    ids=lambda value: f"{type(value).__name__} {list(value) if isinstance(value, dict) else ''}",
)
def test_what_the_two_encoders_may_write_in_another_form_is_left_to_json(value: Any) -> None:
    for whole in (value, {"a": [value]}):
        assert outcome(encode_json, whole) == outcome(by_json, whole)


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
def test_a_nested_value_is_encoded_or_refused_as_by_json(depth: int) -> None:
    value: Any = {"a": "b"}
    for _ in range(depth):
        value = [value]

    assert outcome(encode_json, value) == outcome(by_json, value)
