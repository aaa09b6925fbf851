from __future__ import annotations

import json
import traceback
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.checks import check_params
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.request_writer import encode_params
from airflow_claude_batch.exceptions import InvalidMessageError

DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=100)
USER = {"role": "user", "content": "hi"}


def read(element: Any, index: int = 3, defaults: Defaults = DEFAULTS) -> Request:
    return read_request(element, index, defaults)


def checked(element: Any, *, api_version: str = limits.DEFAULT_API_VERSION, **defaults: Any) -> Request:
    """Read element number 3 and check it, as a submission does."""
    request = read(element, defaults=Defaults(**{"model": "claude-haiku-5-5", "max_tokens": 100, **defaults}))
    check_params(request, api_version=api_version)
    return request


# ---------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("element", "key", "messages"),
    [
        pytest.param("hi", 3, [USER], id="prompt"),
        pytest.param("42", 3, [{"role": "user", "content": "42"}], id="prompt that looks like a number"),
        pytest.param(USER, 3, [USER], id="message"),
        pytest.param([USER, {"role": "assistant", "content": "ho"}, USER], 3, None, id="conversation"),
        pytest.param((USER,), 3, [USER], id="conversation as a tuple"),
        pytest.param({"prompt": "hi"}, 3, [USER], id="mapping without key"),
        pytest.param({"key": "a", "prompt": "hi"}, "a", [USER], id="key and prompt"),
        pytest.param({"key": None, "prompt": "hi"}, None, [USER], id="null is a key"),
        pytest.param({"key": {"id": [1, 2.5, None]}, "prompt": "hi"}, {"id": [1, 2.5, None]}, [USER], id="key of JSON"),
        pytest.param({"key": "k" * 500, "prompt": "hi"}, "k" * 500, [USER], id="key beyond 64 characters"),
        pytest.param({"key": "ä/..\n ", "prompt": "hi"}, "ä/..\n ", [USER], id="key that is no custom_id"),
        pytest.param({"key": 7, "messages": [USER]}, 7, [USER], id="key and messages"),
        pytest.param(
            {"prompt": [{"type": "text", "text": "hi"}]},
            3,
            [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
            id="prompt of content blocks",
        ),
        pytest.param({"custom_id": "c", "params": {"messages": [USER]}}, "c", [USER], id="the API's own shape"),
    ],
)
def test_accepted_shape_becomes_messages_under_its_key(element: Any, key: Any, messages: Any) -> None:
    request = checked(element)

    assert request.key == key
    assert request.params["messages"] == (messages or list(element))
    assert request.params["model"] == "claude-haiku-5-5"
    assert request.params["max_tokens"] == 100


def test_defaults_reach_every_shape_and_an_element_overrides_each() -> None:
    defaults = Defaults(model="m", max_tokens=5, system="be brief", params={"top_k": 1, "metadata": {"user_id": "u"}})
    without_own = read("hi", defaults=defaults).params
    own = read(
        {"prompt": "hi", "model": "n", "max_tokens": 6, "system": "be long", "params": {"top_k": 2}}, defaults=defaults
    ).params

    assert without_own == {
        "model": "m",
        "max_tokens": 5,
        "top_k": 1,
        "metadata": {"user_id": "u"},
        "messages": [USER],
        "system": "be brief",
    }
    assert own == without_own | {"model": "n", "max_tokens": 6, "system": "be long", "top_k": 2}


def test_api_shape_passes_through_and_gets_only_what_every_request_needs() -> None:
    defaults = Defaults(model="m", max_tokens=5, system="be brief", params={"top_k": 1})
    params = {"messages": [USER], "max_tokens": 9, "thinking": {"type": "adaptive"}}

    assert read({"custom_id": "c", "params": params}, defaults=defaults).params == {"model": "m", **params}


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("element", "says"),
    [
        pytest.param(7, ["messages[3]: an element must be", "not int.", "a prompt (string)"], id="number"),
        pytest.param(None, ["messages[3]: an element must be", "not NoneType."], id="None"),
        pytest.param(b"hi", ["messages[3]: an element must be", "not bytes."], id="bytes"),
        pytest.param({}, ["messages[3]: neither 'prompt' nor 'messages' is given."], id="empty mapping"),
        pytest.param({"key": "a"}, ["messages[3] (key 'a'): neither 'prompt' nor 'messages'"], id="key alone"),
        pytest.param({"prompt": "a", "messages": [USER]}, ["both 'prompt' and 'messages' are given."], id="both"),
        pytest.param({"prompt": "a", "temprature": 1}, ["unknown field 'temprature'", "'params'"], id="unknown field"),
        pytest.param({"prompt": "a", "params": "x"}, ["'params' must be a mapping, not str"], id="params of text"),
        pytest.param({"prompt": 7}, ["'prompt' must be a string or a list", "not int"], id="prompt of a number"),
        pytest.param({"custom_id": "a", "params": []}, ["(key 'a')", "'params' must be a mapping"], id="API params"),
        pytest.param(
            {"custom_id": "a", "params": {}, "key": "b"}, ["unknown field 'key'", "'custom_id'"], id="API shape and key"
        ),
        pytest.param(
            {"key": "a", "role": "user", "content": "hi"},
            ["messages[3] (key 'a')", "'key' cannot stand beside 'role'", "'messages': [{'role'"],
            id="message and key",
        ),
        pytest.param({**USER, "max_tokens": 5}, ["'max_tokens' cannot stand beside 'role'"], id="message and override"),
        pytest.param("", ["messages[3].messages[0]", "text is empty"], id="empty prompt"),
        pytest.param(" \n\t", ["text is empty"], id="blank prompt"),
        pytest.param([], ["messages[3]: 'messages' is empty."], id="empty conversation"),
        pytest.param(
            [USER, "hi"], ["messages[3].messages[1]: a message must be a mapping", "not str"], id="text in conversation"
        ),
        pytest.param([{"role": "usr", "content": "a"}], ["'role' must be one of user, assistant", "'usr'"], id="role"),
        pytest.param([{"role": "user"}], ["'content' must be a string or a list", "NoneType"], id="no content"),
        pytest.param([{"role": "user", "content": []}], ["'content' has no blocks"], id="no blocks"),
        pytest.param(
            [{"role": "user", "content": [{"type": "text", "text": "a"}, "b"]}],
            ["messages[3].messages[0].content[1]: a content block must be a mapping"],
            id="block of text",
        ),
        pytest.param([{"role": "user", "content": [{"text": "a"}]}], ["content[0]", "'type'"], id="block without type"),
        pytest.param({"messages": "hi"}, ["'messages' must be a list, not str"], id="messages of text"),
        pytest.param({"prompt": "a", "max_tokens": 0}, ["'max_tokens' must be at least 1, not 0"], id="max_tokens 0"),
        pytest.param({"prompt": "a", "max_tokens": -1}, ["at least 1, not -1"], id="max_tokens below 0"),
        pytest.param(
            {"prompt": "a", "max_tokens": True}, ["'max_tokens' must be a whole number"], id="max_tokens bool"
        ),
        pytest.param({"prompt": "a", "max_tokens": "9"}, ["whole number, not '9'"], id="max_tokens text"),
        pytest.param({"prompt": "a", "max_tokens": 1.5}, ["whole number, not 1.5"], id="max_tokens float"),
        pytest.param({"prompt": "a", "max_tokens": None}, ["whole number, not None"], id="max_tokens None"),
        pytest.param({"prompt": "a", "model": ""}, ["'model' must be the id of a model"], id="no model"),
        pytest.param({"prompt": "a", "model": 5}, ["'model' must be the id of a model, not 5"], id="model of a number"),
        pytest.param({"prompt": "a", "system": 5}, ["'system' must be a string or a list", "not int"], id="system"),
        pytest.param(
            {"prompt": "a", "params": {"stream": True}},
            ["'stream' is not available in batches", "Remove 'stream'"],
            id="stream",
        ),
        pytest.param({"prompt": "a", "params": {"speed": "fast"}}, ["'speed' is not available in batches"], id="speed"),
        pytest.param({"prompt": "a", "params": {"fallbacks": []}}, ["'fallbacks' is not available"], id="fallbacks"),
        pytest.param(
            {"prompt": "a", "params": {"temperature": 0.5}},
            ["API version 2026-10-21 has no 'temperature'", "api_version to 2023-06-01"],
            id="temperature",
        ),
    ],
)
def test_element_that_the_api_would_refuse_is_refused_by_name(element: Any, says: list[str]) -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        checked(element)

    for words in says:
        assert words in str(refusal.value)
    first, second, third = str(refusal.value).split("\n")
    assert first.startswith("messages[3]")
    assert first.endswith(".")
    assert len(first) <= 120
    assert second == "Nothing was sent."
    assert third.endswith(".")


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_parameter_under_the_older_version_passes(name: str) -> None:
    checked({"prompt": "a", "params": {name: 1}}, api_version="2023-06-01")


def test_stream_that_is_off_passes() -> None:
    checked({"prompt": "a", "params": {"stream": False}})


def test_refusal_never_quotes_the_prompt() -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        checked([{"role": "user", "content": "my secret"}, {"role": "robot", "content": "my secret"}])

    assert "secret" not in str(refusal.value)


def test_long_key_is_cut_in_the_refusal() -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        checked({"key": "k" * 10_000, "prompt": ""})

    assert len(str(refusal.value)) < 500


# ---------------------------------------------------------------- encoding


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


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(params=st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_params_go_on_the_wire_as_they_are(params: dict[str, Any]) -> None:
    assert json.loads(encode_params(Request(0, 0, params))) == params


class Array:
    """As data science has them: compared by element, and without a truth."""

    def __eq__(self, other: object) -> Any:
        return Array()

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def deep(levels: int) -> Any:
    return [deep(levels - 1)] if levels else []


@pytest.mark.parametrize(
    "element",
    [
        pytest.param({"key": 10**5000, "prompt": "p", "odd": 1}, id="key without a repr"),
        pytest.param({"prompt": "p", "max_tokens": -(10**5000)}, id="number without a repr"),
        pytest.param({"prompt": "p", "model": deep(700)}, id="nested deeply"),
        pytest.param({"role": Array(), "content": "p"}, id="array for a role"),
        pytest.param({"prompt": "p", "params": Array()}, id="array for params"),
        pytest.param({"prompt": "p", "params": {"output_config": Array()}}, id="array for output_config"),
        pytest.param({"prompt": "p", "params": {"stream": Array()}}, id="array for stream"),
    ],
)
def test_value_that_cannot_be_shown_or_compared_is_refused_by_number(element: Any) -> None:
    with pytest.raises(InvalidMessageError, match=r"^messages\[3\]") as error:
        check_params(read_request(element, 3, Defaults(model="m", max_tokens=1)), api_version="2026-10-21")
    assert len(str(error.value)) < 500
