"""The key of a question: what changes it, and what does not."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.batch.reuse.question_key import question_key

MARK = {"type": "ephemeral"}
texts = st.text(max_size=8)
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2))
blocks = st.recursive(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    lambda inner: (
        st.fixed_dictionaries(
            {"type": st.just("tool_result"), "tool_use_id": texts, "content": texts | st.lists(inner, max_size=2)}
        )
        | st.fixed_dictionaries(
            {
                "type": st.just("document"),
                "source": st.fixed_dictionaries({"type": st.just("content"), "content": st.lists(inner, max_size=2)}),
            }
        )
        | st.fixed_dictionaries({"type": st.just("tool_use"), "name": texts, "input": values})
    ),
    max_leaves=3,
)
tools = st.fixed_dictionaries(
    {
        "name": texts,
        "input_schema": st.fixed_dictionaries(
            {"type": st.just("object"), "properties": st.dictionaries(texts | st.just("cache_control"), values)}
        ),
    }
)
params = st.fixed_dictionaries(
    {
        "model": texts,
        "max_tokens": st.integers(1, 9),
        "messages": st.lists(
            st.fixed_dictionaries({"role": texts, "content": texts | st.lists(blocks, min_size=1, max_size=2)}),
            min_size=1,
            max_size=2,
        ),
    },
    optional={
        "system": texts | st.lists(blocks, max_size=2),
        "tools": st.lists(tools, max_size=2),
        "temperature": st.floats(0, 1),
    },
)


def key_of(value: Any, *, version: str = "", api: str = "2023-06-01") -> bytes:
    return question_key(msgspec.json.encode(value), version=version, api=api)


def marked(params: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """Put marks of the cache and metadata on a copy."""
    changed = copy.deepcopy(params)
    if chance.random() < 0.5:
        changed["metadata"] = {"user_id": str(chance.random())}
    if chance.random() < 0.3:
        changed["cache_control"] = MARK
    for holder, name in [(changed, "system"), *((message, "content") for message in changed["messages"])]:
        if isinstance(holder.get(name), str) and chance.random() < 0.5:
            holder[name] = [{"type": "text", "text": holder[name]}]
    for block in marked_places(changed):
        if chance.random() < 0.5:
            block["cache_control"] = MARK
    return changed


def marked_places(params: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from params.get("tools", ())
    for content in (params.get("system"), *(message["content"] for message in params["messages"])):
        yield from nested(content)


def nested(content: Any) -> Iterator[dict[str, Any]]:
    for block in content if isinstance(content, list) else ():
        yield block
        yield from nested(block.get("content"))
        yield from nested(block.get("source", {}).get("content"))


def reordered(value: Any, chance: random.Random) -> Any:
    if isinstance(value, list):
        return [reordered(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    names = list(value)
    chance.shuffle(names)
    return {name: reordered(value[name], chance) for name in names}


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value that is no list or object."""
    if isinstance(value, dict | list) and value:
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, name))
    elif path:
        yield path


@settings(max_examples=40)
@given(params, st.randoms(use_true_random=False))
def test_marks_metadata_and_the_order_of_keys_do_not_change_the_key(value: Any, chance: random.Random) -> None:
    assert key_of(reordered(marked(value, chance), chance)) == key_of(value)


@settings(max_examples=40)
@given(params, st.data())
def test_any_other_change_of_a_value_changes_the_key(value: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(list(leaves(value))))
    changed = copy.deepcopy(value)
    holder = changed
    for name in path[:-1]:
        holder = holder[name]
    holder[path[-1]] = "something else entirely"
    assert key_of(changed) != key_of(value)


@settings(max_examples=40)
@given(params, params)
def test_different_requests_have_different_keys(one: Any, other: Any) -> None:
    def plain(value: Any) -> str:
        unmarked = copy.deepcopy(value)
        for holder, name in [(unmarked, "system"), *((message, "content") for message in unmarked["messages"])]:
            if isinstance(holder.get(name), str):
                holder[name] = [{"type": "text", "text": holder[name]}]
        return json.dumps(unmarked, sort_keys=True)

    assert (key_of(one) == key_of(other)) == (plain(one) == plain(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"version": "1"}, {"version": "2"}, id="version"),
        pytest.param({"api": "2023-06-01"}, {"api": "2023-06-01 beta"}, id="API"),
        pytest.param({"version": "ab", "api": "c"}, {"version": "a", "api": "bc"}, id="where one ends"),
    ],
)
def test_version_and_api_are_in_the_key(one: dict[str, str], other: dict[str, str]) -> None:
    assert key_of({"model": "m"}, **one) != key_of({"model": "m"}, **other)


def test_key_is_16_bytes_and_stays_the_same_from_release_to_release() -> None:
    assert (
        key_of({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "é"}]}).hex()
        == "1e167dfe165f7faabfa80a82b35a4013"
    )


@pytest.mark.parametrize("written", [b"", b"null", b"[1]", b'{"messages":7}', b'{"system":[7]}', b"[" * 5000, b"\xff"])
def test_anything_has_a_key(written: bytes) -> None:
    with_mark = written + b'"cache_control"'
    assert len(question_key(written, version="", api="")) == 16
    assert question_key(written, version="", api="") != question_key(with_mark, version="", api="")


def test_digits_of_a_float_count() -> None:
    keys = {question_key(b'{"temperature":%b}' % digits, version="", api="") for digits in (b"1", b"1.0", b"1.00")}
    assert len(keys) == 3
