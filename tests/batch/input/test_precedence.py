"""Which of several values for one parameter is sent, as a table, and which contradictions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.precedence import Conflict, OperatorValues, choose, find_conflict
from airflow_claude_batch.exceptions import InvalidMessageError

USER = {"role": "user", "content": "hi"}
FORMAT = {"type": "json_schema", "schema": {"type": "string"}}
#: For each place, from the strongest to the weakest, a value that only this place gives.
PLACES = ("field", "params", "argument", "request_params", "connection", "default")
VALUES: dict[str, dict[str, Any]] = {
    "model": {place: f"model-of-{place}" for place in PLACES},
    "max_tokens": {place: number for number, place in enumerate(PLACES, 1)},
    "system": {place: f"system of {place}" for place in PLACES},
    "thinking": {place: {"type": place} for place in PLACES},
}


def sent(name: str, shape: str, given: dict[str, Any]) -> Any:
    """Return what is sent for a parameter, None if it is left out, if only these places give a value."""
    values = OperatorValues(
        request_params={name: given["request_params"]} if "request_params" in given else {},
        **({name: given["argument"]} if "argument" in given else {}),
    )
    assert find_conflict(values) is None
    chosen = {"model": "m", "max_tokens": 9, "system": None}
    if name in chosen:
        how = {} if name == "system" else {"connection": given.get("connection"), "default": given.get("default")}
        chosen[name] = choose(name, values, **how).value
    defaults = Defaults(**chosen, params=values.request_params or {})  # type: ignore[arg-type]
    params = {name: given["params"]} if "params" in given else {}
    element: Any = {
        "prompt": "hi",
        "message": USER,
        "conversation": [USER],
        "keyed": {"key": "a", "prompt": "hi", "params": params} | ({name: given["field"]} if "field" in given else {}),
        "api": {"custom_id": "a", "params": {"messages": [USER], **params}},
    }[shape]
    return read_request(element, 0, defaults).params.get(name)


def places_of(name: str, shape: str) -> list[str]:
    """Return the places that may give a value for this parameter of an element of this shape."""
    left_out = set()
    if shape != "keyed" or name == "thinking":
        left_out.add("field")
    if shape not in ("keyed", "api"):
        left_out.add("params")
    if name == "thinking":
        left_out.add("argument")
    if name != "model":
        left_out.add("connection")
    if name not in ("model", "max_tokens"):
        left_out.add("default")
    return [place for place in PLACES if place not in left_out]


@pytest.mark.parametrize("shape", ["prompt", "message", "conversation", "keyed", "api"])
@pytest.mark.parametrize("name", VALUES)
def test_stronger_place_wins(name: str, shape: str) -> None:
    """Of each two places that may both have a value, the one that comes first in the table is sent."""
    places = places_of(name, shape)
    refused = {("field", "params"), ("argument", "request_params")}
    for number, strong in enumerate(places):
        assert sent(name, shape, {strong: VALUES[name][strong]}) == VALUES[name][strong]
        for weak in places[number + 1 :]:
            if (strong, weak) not in refused:
                given = {place: VALUES[name][place] for place in (strong, weak)}
                assert sent(name, shape, given) == VALUES[name][strong], (strong, weak)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        pytest.param({"model": "a", "request_params": {"model": "b"}}, "model is given twice", id="model"),
        pytest.param({"max_tokens": 1, "request_params": {"max_tokens": 2}}, "max_tokens is given twice", id="tokens"),
        pytest.param({"system": "a", "request_params": {"system": "b"}}, "system is given twice", id="system"),
        pytest.param({"system": "a", "request_params": {"system": None}}, "system is given twice", id="no system"),
        pytest.param({"request_params": {"messages": []}}, "request_params has 'messages'", id="no messages"),
        pytest.param({"request_params": {"messages": [USER]}}, "request_params has 'messages'", id="messages"),
        pytest.param({"request_params": {"stream": True}}, "'stream' is not available", id="stream"),
        pytest.param(
            {"output_format": FORMAT, "request_params": {"output_config": {"format": {"type": "other"}}}},
            "the format of answers is given twice",
            id="format",
        ),
        pytest.param(
            {"output_format": FORMAT, "request_params": {"output_config": {"format": None}}},
            "the format of answers is given twice",
            id="no format",
        ),
    ],
)
def test_contradiction_of_the_operators_values_is_refused(values: dict[str, Any], place: str) -> None:
    conflict = find_conflict(OperatorValues(**values))

    assert isinstance(conflict, Conflict)
    assert place in conflict.problem
    assert conflict.remedy.startswith(("Give ", "Remove "))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model": "a", "max_tokens": 1, "system": "s", "output_format": FORMAT},
        {"request_params": {"model": "b", "max_tokens": 2, "system": "t", "output_config": {"format": FORMAT}}},
        {"model": "a", "request_params": {"model": "a", "stream": False}},
        {"max_tokens": "100", "request_params": {"max_tokens": 100}},
        {"max_tokens": 100, "request_params": {"max_tokens": " 100 "}},
        {"output_format": FORMAT, "request_params": {"output_config": {"effort": "low"}}},
        {"output_format": FORMAT, "request_params": {"output_config": {"format": FORMAT}}},
        {"output_format": FORMAT, "request_params": {"output_config": "odd"}},
    ],
)
def test_values_without_contradiction_are_taken(values: dict[str, Any]) -> None:
    assert find_conflict(OperatorValues(**values)) is None


@pytest.mark.parametrize(
    ("element", "says"),
    [
        pytest.param({"model": "a", "params": {"model": "b"}}, "'model' is given twice", id="model"),
        pytest.param({"max_tokens": 5, "params": {"max_tokens": 6}}, "'max_tokens' is given twice", id="max_tokens"),
        pytest.param({"system": None, "params": {"system": "b"}}, "'system' is given twice", id="system"),
        pytest.param({"params": {"messages": []}}, "'params' has 'messages', beside the prompt", id="messages"),
        pytest.param({"messages": [USER]}, "both 'prompt' and 'messages' are given", id="prompt and messages"),
    ],
)
def test_contradiction_within_an_element_is_refused(element: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidMessageError) as error:
        read_request({"key": "k", "prompt": "hi", **element}, 3, Defaults(model="m", max_tokens=1))

    assert str(error.value).startswith("messages[3] (key 'k'): ")
    assert says in str(error.value)
    assert "Nothing was sent." in str(error.value)


def test_messages_within_params_alone_are_refused_with_the_remedy() -> None:
    with pytest.raises(InvalidMessageError, match=r"'messages' is within 'params'\.\n.*\nGive one of 'prompt' and"):
        read_request({"key": "k", "params": {"messages": [USER]}}, 0, Defaults(model="m", max_tokens=1))


def test_element_without_a_system_prompt_goes_without_the_operators() -> None:
    defaults = Defaults(model="m", max_tokens=1, system="operator's")
    element = {"prompt": "hi", "system": None}

    assert "system" not in read_request(element, 0, defaults).params
    assert "system" not in read_request(element, 0, Defaults(model="m", max_tokens=1)).params


@pytest.mark.parametrize(
    ("element", "system", "in_request_params"),
    [
        pytest.param({"prompt": "hi", "params": {"system": None}}, "operator's", {}, id="params"),
        pytest.param({"custom_id": "c", "params": {"messages": [USER], "system": None}}, "operator's", {}, id="API"),
        pytest.param("hi", None, {"system": None}, id="request_params"),
    ],
)
def test_system_prompt_of_none_is_not_sent_as_null(element: Any, system: Any, in_request_params: Any) -> None:
    """The API refuses null: "system: Input should be a valid list"."""
    defaults = Defaults(model="m", max_tokens=1, system=system, params=in_request_params)

    assert "system" not in read_request(element, 0, defaults).params


@pytest.mark.parametrize(
    ("element", "names"),
    [
        pytest.param("hi", ["model", "max_tokens", "top_k", "messages", "system"], id="prompt"),
        pytest.param(
            {"prompt": "hi", "system": "own", "model": "n", "params": {"thinking": {}, "top_k": 2}},
            ["model", "max_tokens", "top_k", "thinking", "messages", "system"],
            id="keyed",
        ),
    ],
)
def test_order_of_the_keys_stays_as_earlier_releases_wrote_it(element: Any, names: list[str]) -> None:
    """The content hash is made of the bytes: another order would look like another request."""
    defaults = Defaults(model="m", max_tokens=5, system="be brief", params={"top_k": 1})

    assert list(read_request(element, 0, defaults).params) == names
