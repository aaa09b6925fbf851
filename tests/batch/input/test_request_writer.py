"""Requests are encoded and written, or refused by the number of their element."""

from __future__ import annotations

import io
import json
import traceback
from datetime import date
from decimal import Decimal
from numbers import Integral
from typing import Any

import pytest
from batch.input.request_files import PARAMS
from hypothesis import HealthCheck, given, settings

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input import request_writer
from airflow_claude_batch.batch.input.elements import Request
from airflow_claude_batch.batch.input.request_writer import encode_params, write_requests
from airflow_claude_batch.exceptions import InputError, InvalidMessageError


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(float("nan"), "params.metadata is nan", id="NaN"),
        pytest.param(float("-inf"), "params.metadata is -inf", id="infinity"),
        pytest.param(date(2026, 11, 22), "params.metadata is of type date", id="date"),
        pytest.param(b"x", "params.metadata is of type bytes", id="bytes"),
        pytest.param({1, 2}, "params.metadata is of type set", id="set"),
        pytest.param({"a": [{"b": object()}]}, "params.metadata.a[0].b is of type object", id="object deep inside"),
        pytest.param({("a",): 1}, "params.metadata has the key ('a',)", id="key of a tuple"),
        pytest.param({float("nan"): 1}, "params.metadata has the key nan", id="NaN as a key"),
        pytest.param("secret\ud800", "params.metadata has a lone surrogate at position 6", id="lone surrogate"),
        pytest.param({"\ud800": 1}, "params.metadata has the key '\\ud800'", id="lone surrogate in a key"),
    ],
)
def test_value_that_is_not_json_is_refused_with_its_place(value: Any, says: str) -> None:
    request = Request(3, "a", {"model": "m", "metadata": value})

    with pytest.raises(InvalidMessageError, match=r"messages\[3\] \(key 'a'\): params.*, which is not") as refusal:
        encode_params(request)
    assert says in str(refusal.value)
    assert "secret" not in "".join(traceback.format_exception(refusal.value))


def test_value_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)

    with pytest.raises(InvalidMessageError, match=r"messages\[0\].*Circular reference.*\n.*\nUse strings"):
        encode_params(Request(0, 0, {"metadata": loop}))


def test_value_nested_too_deeply_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(InvalidMessageError, match="recursion depth exceeded"):
        encode_params(Request(0, 0, {"metadata": deep}))


def test_request_larger_than_a_batch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BATCH_BYTES", 2048)
    encode_params(Request(0, 0, {"x": "a" * 1000}))

    with pytest.raises(InvalidMessageError, match=r"messages\[0\].*1,033 bytes.*2,048.*\n.*\n.*Files API"):
        encode_params(Request(0, 0, {"x": "a" * 1025}))


@settings(suppress_health_check=[HealthCheck.too_slow])  # other tests share the machine
@given(params=PARAMS)
def test_params_go_on_the_wire_as_they_are(params: dict[str, Any]) -> None:
    assert json.loads(encode_params(Request(0, 0, params))) == params


def test_no_requests_at_all_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^messages is empty\.\nNothing was sent\.\nIf that may happen,"):
        write_requests(iter([]), io.BytesIO())


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        pytest.param(["a", "b", "a"], (0, 2), id="text"),
        pytest.param([0, 1, 2, 1], (1, 3), id="numbers"),
        pytest.param([{"a": 1, "b": 2}, {"b": 2, "a": 1}], (0, 1), id="mappings in another order"),
        pytest.param([None, "x", None, None], (0, 2), id="null thrice"),
    ],
)
def test_duplicate_key_is_refused_with_both_elements(keys: list[Any], named: tuple[int, int]) -> None:
    requests = [Request(index, key, {}) for index, key in enumerate(keys)]

    with pytest.raises(
        InvalidMessageError, match=r"have the same key\.\nNothing was sent\.\nGive each element a key"
    ) as error:
        write_requests(iter(requests), io.BytesIO())
    assert f"messages[{named[0]}] and messages[{named[1]}]" in str(error.value)


@pytest.mark.parametrize(
    ("keys", "hinted"),
    [
        pytest.param([5, 1, 1], True, id="the second stands at its position"),
        pytest.param([0, 7, 0], True, id="the first stands at its position"),
        pytest.param([7, 8, 7], False, id="neither does"),
    ],
)
def test_duplicate_key_that_is_a_position_says_where_it_may_come_from(keys: list[int], hinted: bool) -> None:
    requests = [Request(index, key, {}) for index, key in enumerate(keys)]

    with pytest.raises(InvalidMessageError) as error:
        write_requests(iter(requests), io.BytesIO())
    assert ("An element without a key has its position as its key." in str(error.value)) == hinted


@pytest.mark.parametrize(
    ("key", "says"),
    [
        pytest.param(float("nan"), ["the key is nan", "missing value"], id="NaN"),
        pytest.param(b"x", ["the key is of type bytes", ".decode()"], id="bytes"),
        pytest.param({1, 2}, ["the key is of type set", "sorted("], id="set"),
        pytest.param("\ud800", ["the key has a lone surrogate", ".encode("], id="lone surrogate"),
        pytest.param({1: 1, "a": 2}, ["names of different types", "Use strings"], id="names of different types"),
        pytest.param(date(2026, 1, 2), ["the key is of type date", ".isoformat()"], id="date"),
        pytest.param({"id": Decimal("1.5")}, ["the key.id is of type Decimal", "str()"], id="decimal within"),
    ],
)
def test_key_that_is_not_json_is_refused_with_the_remedy(key: Any, says: list[str]) -> None:
    with pytest.raises(InvalidMessageError) as error:
        write_requests(iter([Request(3, key, {})]), io.BytesIO())
    assert str(error.value).startswith("messages[3]: ")
    for words in says:
        assert words in str(error.value)


class Int64:
    """An integer of another library, as those of numpy are: registered as integers, and none of Python's."""

    def __int__(self) -> int:
        return 7


Integral.register(Int64)


def test_integer_of_another_library_is_a_key() -> None:
    file = io.BytesIO()
    write_requests(iter([Request(0, Int64(), {"n": [Int64()]})]), file)

    assert b'"key":7,"params":{"n":[7]}' in file.getvalue()


def test_a_request_above_the_limit_of_a_gateway_is_refused_with_the_setting():
    encode_params(Request(0, 0, {"x": "a" * 3000}), 4096)
    with pytest.raises(InvalidMessageError, match=r"a whole batch may have 4,096\.(?s:.*)max_batch_bytes"):
        encode_params(Request(0, 0, {"x": "a" * 3100}), 4096)


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_same_keys_are_found_however_many_are_sorted_at_once(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(request_writer, "_SORTED_AT_ONCE", at_once)
    keys = [*range(50), "twice", *range(50, 90), "twice"]

    with pytest.raises(InvalidMessageError, match=r"messages\[50\] and messages\[91\] have the same key"):
        write_requests((Request(index, key, {"content": index}) for index, key in enumerate(keys)), io.BytesIO())
