from __future__ import annotations

from typing import Any

import pytest

from airflow_claude_batch.api import limits
from airflow_claude_batch.batch.input.checks import check_params
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request

DEFAULTS = Defaults(model="claude-haiku-5-5", max_tokens=100)
USER = {"role": "user", "content": "hi"}


def read(element: Any, index: int = 3, defaults: Defaults = DEFAULTS) -> Request:
    return read_request(element, index, defaults)


def checked(element: Any, *, api_version: str = limits.DEFAULT_API_VERSION, **defaults: Any) -> Request:
    """Read element number 3 and check it, as a submission does."""
    request = read(element, defaults=Defaults(**{"model": "claude-haiku-5-5", "max_tokens": 100, **defaults}))
    check_params(request, api_version=api_version)
    return request


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


def test_api_shape_wins_over_the_defaults_and_gets_what_it_lacks() -> None:
    defaults = Defaults(model="m", max_tokens=5, system="be brief", params={"top_k": 1, "thinking": {"type": "none"}})
    params = {"messages": [USER], "max_tokens": 9, "thinking": {"type": "adaptive"}}

    assert read({"custom_id": "c", "params": params}, defaults=defaults).params == {
        "model": "m",
        "top_k": 1,
        **params,
        "system": "be brief",
    }
