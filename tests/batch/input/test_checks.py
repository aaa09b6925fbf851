"""Elements that the API would refuse are refused by name before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.checks import RequestChecker, check_params
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InvalidMessageError

DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=100)
USER = {"role": "user", "content": "hi"}


def read(element: Any, index: int = 3, defaults: Defaults = DEFAULTS) -> Request:
    return read_request(element, index, defaults)


def checked(element: Any, *, api_version: str = limits.DEFAULT_API_VERSION, **defaults: Any) -> Request:
    """Read element number 3 and check it, as a submission does."""
    usual = {"model": "claude-haiku-5-5", "max_tokens": 100, "api_version": api_version}
    request = read(element, defaults=Defaults(**{**usual, **defaults}))
    check_params(request, api_version=api_version)
    return request


@pytest.mark.parametrize(
    ("element", "says"),
    [
        pytest.param(7, ["messages[3]: an element must be", "not int.", "a prompt (string)"], id="number"),
        pytest.param(None, ["messages[3]: an element must be", "not None."], id="None"),
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
        pytest.param("", ["messages[3]: the text is empty."], id="empty prompt"),
        pytest.param(" \n\t", ["text is empty"], id="blank prompt"),
        pytest.param([], ["messages[3]: 'messages' is empty."], id="empty conversation"),
        pytest.param(
            [USER, "hi"], ["messages[3].messages[1]: a message must be a mapping", "not str"], id="text in conversation"
        ),
        pytest.param([{"role": "usr", "content": "a"}], ["'role' must be one of user, assistant", "'usr'"], id="role"),
        pytest.param(
            [{"role": "user"}],
            ["messages[3].messages[0]: 'content' is missing.", "Give 'content', a string or a list of content blocks."],
            id="no content",
        ),
        pytest.param([{"content": "a"}], ["messages[3].messages[0]: 'role' is missing.", "Give 'role'"], id="no role"),
        pytest.param([{"role": "user", "content": None}], ["'content' must be a string", "not None."], id="None in it"),
        pytest.param({"role": "user"}, ["messages[3]: 'content' is missing."], id="message without content"),
        pytest.param({"role": "usr", "content": "a"}, ["messages[3]: 'role' must be one of"], id="role of a message"),
        pytest.param(
            {"role": "user", "content": ["b"]}, ["messages[3].content[0]: a content block must be"], id="its block"
        ),
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


SAMPLING = ["temperature", "top_p", "top_k"]


@pytest.mark.parametrize("name", SAMPLING)
def test_sampling_parameter_as_a_field_is_refused_at_once_under_a_version_without_it(name: str) -> None:
    with pytest.raises(InvalidMessageError, match=f"API version 2026-10-21 has no '{name}'"):
        checked({"prompt": "a", name: 1}, api_version="2026-10-21")
    with pytest.raises(InvalidMessageError, match=f"unknown field '{name}'.*\n.*\nPut fields .* under 'params'"):
        checked({"prompt": "a", name: 1}, api_version="2023-06-01")


@pytest.mark.parametrize(
    ("element", "shows_inner_list"),
    [({"role": "assistant", "content": "{"}, True), ([USER, {"role": "assistant", "content": "{"}], False)],
    ids=["flat conversation", "conversation"],
)
@pytest.mark.parametrize("with_schema", [True, False], ids=["schema", "no schema"])
def test_flat_conversation_gets_the_inner_list_as_remedy(
    element: Any, shows_inner_list: bool, with_schema: bool
) -> None:
    schema = {"type": "json_schema", "schema": {"type": "string"}} if with_schema else None
    request = read(element, defaults=Defaults(model="claude-haiku-5-5", max_tokens=100, output_format=schema))
    with pytest.raises(InvalidMessageError, match="ends with an assistant's turn") as refusal:
        RequestChecker(PriceTable.load(), api_version="2026-10-21", betas=()).check(request)

    assert ("put its messages into an inner list, messages=[[…]]." in str(refusal.value)) is shows_inner_list


@pytest.mark.parametrize("name", SAMPLING)
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
