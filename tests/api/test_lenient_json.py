from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api.lenient_json import (
    CONTROL_CHARACTER,
    INVALID_ESCAPE,
    INVALID_NUMBER,
    LONE_SURROGATE,
    MAX_DEPTH,
    NOT_UTF8,
    TOO_DEEP,
    is_too_deep,
    read_object,
)


@pytest.mark.parametrize(
    ("data", "value", "problems"),
    [
        pytest.param(b'{"a":[1,true,null,"x"]}', {"a": [1, True, None, "x"]}, set(), id="standard"),
        pytest.param(b'{"a":"x \\ud83d"}', {"a": "x \ufffd"}, {LONE_SURROGATE}, id="first half"),
        pytest.param(b'{"a":"\\ude00\\ud83d\\ude00"}', {"a": "\ufffd\U0001f600"}, {LONE_SURROGATE}, id="second half"),
        pytest.param(b'{"\\udc00":1}', {"\ufffd": 1}, {LONE_SURROGATE}, id="half in a name"),
        pytest.param(b'{"a":NaN,"b":-Infinity}', {"a": "NaN", "b": "-Infinity"}, {INVALID_NUMBER}, id="no numbers"),
        pytest.param(b'{"a":1e999,"b":01}', {"a": "1e999", "b": "01"}, {INVALID_NUMBER}, id="out of range"),
        pytest.param(b'{"a":%b}' % (b"9" * 5000), {"a": "9" * 5000}, {INVALID_NUMBER}, id="many digits"),
        pytest.param(b'{"a":"x\xff"}', {"a": "x\ufffd"}, {NOT_UTF8}, id="not UTF-8"),
        pytest.param(b'{"a":"x\n\x00"}', {"a": "x\n\0"}, {CONTROL_CHARACTER}, id="control characters"),
        pytest.param(b'{"a":"\\x\\u12\\\\y"}', {"a": "\\x\\u12\\y"}, {INVALID_ESCAPE}, id="invalid escapes"),
    ],
)
def test_object_is_read_and_what_had_to_be_replaced_is_named(data: bytes, value: object, problems: set[str]) -> None:
    found = read_object(data + b" tail")

    assert found is not None
    assert json.loads(found.json) == value
    assert (found.end, found.problems) == (len(data), problems)


@pytest.mark.parametrize("data", [b"", b"x", b"[1]", b'{"a":1', b'{"a":"x', b'{"a":1,}', b'{"a" 1}', b"{]", b'{"a":}'])
def test_what_is_no_object_is_not_read(data: bytes) -> None:
    assert read_object(data) is None


def test_what_is_too_deep_is_left_out_and_the_rest_is_read() -> None:
    found = read_object(b'{"deep":' + b"[" * 5000 + b"]" * 5000 + b',"a":1}')

    assert found is not None
    assert found.problems == {TOO_DEEP}
    assert msgspec.json.decode(found.json)["a"] == 1
    assert not is_too_deep(found.json)


@pytest.mark.parametrize(("depth", "expected"), [(MAX_DEPTH, False), (MAX_DEPTH + 1, True)])
def test_depth_counts_no_brackets_in_texts(depth: int, expected: bool) -> None:
    assert is_too_deep(b"[" * depth + b'"[[[[{\\"{{"' + b"]" * depth) is expected


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=6,
    )
)
def test_whatever_python_writes_is_read(value: object) -> None:
    found = read_object(json.dumps({"a": value}).encode())

    assert found is not None
    assert not found.may_be_damaged


@given(st.binary(max_size=60))
def test_any_bytes_are_read_as_standard_json_or_not_at_all(data: bytes) -> None:
    found = read_object(b'{"a":"' + data)
    if found is not None:
        assert isinstance(json.loads(found.json), dict)
