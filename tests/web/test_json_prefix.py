"""JSON that was cut anywhere says what it said up to the cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fuzz.fuzzing import fuzzed
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.web.json_prefix import decode_prefix

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def is_beginning(cut: Any, whole: Any) -> bool:
    """Return True if a value has nothing that the whole does not have."""
    if isinstance(whole, str):
        return isinstance(cut, str) and whole.startswith(cut)
    if isinstance(whole, list):
        return isinstance(cut, list) and all(map(is_beginning, cut, whole)) and len(cut) <= len(whole)
    if isinstance(whole, dict):
        return isinstance(cut, dict) and all(name in whole and is_beginning(cut[name], whole[name]) for name in cut)
    return bool(cut == whole)


@fuzzed
@given(value=st.dictionaries(st.text(max_size=4), _VALUES, max_size=5), cut=st.integers(0), ascii_only=st.booleans())
def test_any_cut_gives_a_beginning(value: dict[str, Any], cut: int, ascii_only: bool) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")).encode()
    cut = 1 + cut % len(data)

    assert is_beginning(decode_prefix(data[:cut]), value)
    assert decode_prefix(data) == value


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"x', {"a": "x"}),
        (b'{"a":"x\\', {"a": "x"}),
        (b'{"a":"x\\\\', {"a": "x\\"}),
        (b'{"a":"x\\u00', {"a": "x"}),
        (b'{"a":"\\ud83d', {"a": ""}),
        (b'{"a":"\\ud83d\\ude0', {"a": ""}),
        (b'{"a":"\\\\ud83d', {"a": "\\ud83d"}),
        ('{"a":"é'.encode()[:-1], {"a": ""}),
        (b'{"a":1', {}),
        (b'{"a":1,"b', {"a": 1}),
        (b'{"a":[1,{"b":"c', {"a": [1, {"b": "c"}]}),
        (b'{"a":{"b":', {"a": {}}),
    ],
)
def test_cut(data: bytes, value: Any) -> None:
    assert decode_prefix(data) == value


@pytest.mark.parametrize("data", [b"", b"x", b"root:x:0:0:root", b"]", b"{]", b'{"a"}', b"[" * 200_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not JSON"):
        decode_prefix(data)
