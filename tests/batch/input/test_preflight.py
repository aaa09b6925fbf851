"""Every rule of the table refuses what breaks it, by name and place, and nothing that is valid."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from batch.input.preflight_cases import HI, PASSES, REFUSED, assistant, document, found, image, params, text, tool, user

from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.elements import Defaults, Request, read_request
from airflow_claude_batch.batch.input.preflight.cache_marks import with_system_mark
from airflow_claude_batch.batch.input.preflight.rules import rules
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InvalidMessageError

PRICES = PriceTable.load()
NEWEST = "2026-10-21"


def check(element: Any, how: Mapping[str, Any]) -> Request:
    """Read and check an element as a submission does. ``how`` has a model, an API version, betas …"""
    version = how.get("api_version", NEWEST)
    model = how.get("model", "claude-haiku-5-5")
    request = read_request(element, 3, Defaults(model=model, max_tokens=1100, api_version=version))
    allow = how.get("allow_unknown", False)
    RequestChecker(PRICES, api_version=version, betas=how.get("betas", ()), allow_unknown=allow).check(request)
    return request


@pytest.mark.parametrize(
    ("rule", "element", "how"),
    [pytest.param(*case, id=f"{case[0]}-{number}") for number, case in enumerate(REFUSED)],
)
def test_request_that_breaks_a_rule_is_refused_by_it(rule: str, element: Any, how: Mapping[str, Any]) -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        check(element, how)

    assert refusal.value.rule == rule
    first, second, remedy = str(refusal.value).split("\n")
    assert first.startswith("messages[3]")
    assert first.endswith(".")
    assert len(first) <= 120
    assert second == "Nothing was sent."
    assert remedy.endswith((".", "?"))


@pytest.mark.parametrize(
    ("element", "how"), [pytest.param(*case, id=str(number)) for number, case in enumerate(PASSES)]
)
def test_valid_request_passes(element: Any, how: Mapping[str, Any]) -> None:
    check(element, how)


def test_every_rule_of_the_table_has_a_case_and_every_case_a_rule() -> None:
    assert {case[0] for case in REFUSED} == set(rules())


def test_every_rule_has_a_source_and_the_day_on_which_it_was_read() -> None:
    for rule in rules().values():
        assert rule.source
        assert re.fullmatch(r"2026-\d\d-\d\d", rule.read)


def test_the_docs_show_the_table() -> None:
    page = (Path(__file__).parents[3] / "docs" / "preflight.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \| ([\d-]+) \|$", page, re.MULTILINE) == [
        (rule.name, rule.refused, rule.source, rule.read) for rule in rules().values()
    ]


@pytest.mark.parametrize(
    ("element", "says"),
    [
        (params(temprature=1), "Did you mean 'temperature'?"),
        (params(stop=["a"]), "Use 'stop_sequences'"),
        (params(output_config={"effort": "hihg"}), "Did you mean 'high'?"),
        (params(tools=[{"type": "web_search", "name": "web_search"}]), "Did you mean 'web_search_"),
        (params(tools=[tool(descripton="d")]), "Did you mean 'description'?"),
        (params(tool_choice="required", tools=[tool()]), "Use {'type': 'any'}."),
        ([user({"type": "txt", "text": "hi"})], "Did you mean 'text'?"),
        ([user(image("", "image/jpg"))], "Did you mean 'image/jpeg'?"),
        ([{"role": "developer", "content": "hi"}], "Use the parameter 'system'"),
        ([user({"type": "text", "content": "hi"})], "It has 'content' instead."),
        (params(betas=["a"]), "betas in the connection's extra"),
        (params(thinking={"type": "adaptiv"}), "Did you mean 'adaptive'?"),
    ],
)
def test_refusal_names_what_was_meant(element: Any, says: str) -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        check(element, {})

    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("element", "place"),
    [
        ([HI, assistant("x"), user(text("a"), image("no!"))], "messages[3].messages[2].content[1]: "),
        ({"role": "user", "content": [text("")]}, "messages[3].content[0]: "),
        ({"key": "k", "prompt": "hi", "system": [text("")]}, "messages[3] (key 'k').system[0]: "),
        ([user({"type": "search_result", "source": "s", "title": "t", "content": [text("")]})],
         "messages[3].messages[0].content[0].content[0]: "),
    ],
)  # fmt: skip
def test_refusal_names_the_place(element: Any, place: str) -> None:
    with pytest.raises(InvalidMessageError) as refusal:
        check(element, {})

    assert str(refusal.value).startswith(place)


def test_long_key_and_deep_place_leave_the_first_line_short() -> None:
    conversation = [HI, assistant("x")] * 500 + [
        user(*[text("a")] * 900, {"type": "text", "text": "b", "citation": []})
    ]
    with pytest.raises(InvalidMessageError) as refusal:
        check({"key": "key-" * 20, "messages": conversation}, {})

    first = str(refusal.value).split("\n")[0]
    assert len(first) <= 120
    assert "(key 'key-" in first
    assert ".messages[1000].content[900]: " in first


class Array:
    """As data science has them: compared by element, and without a truth."""

    def __eq__(self, other: object) -> Any:
        return Array()

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def places(value: Any) -> list[tuple[Any, ...]]:
    """Return the path of each value inside of ``value``."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(), *((key, *path) for key, item in items for path in places(item))]


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], by)
    return copy


@pytest.mark.parametrize("long", ["x" * 500, 10**400, {"z" * 200: 1}, {"type": "y" * 200}], ids=["x", "n", "z", "y"])
def test_long_value_at_any_place_leaves_the_first_line_short(long: Any) -> None:
    for element, how in PASSES:
        for path in places(element):
            try:
                check(replaced(element, path, long), how)
            except InvalidMessageError as error:
                assert len(str(error).split("\n")[0]) <= 120  # noqa: PT017


@pytest.mark.parametrize(
    "odd",
    [Array(), None, 10**400, float("nan"), b"x", {1: 2}, [[]], True, {"type": "text"}],
    ids=["array", "None", "huge", "nan", "bytes", "keys", "lists", "true", "type"],
)
def test_odd_value_at_any_place_is_refused_by_number_or_passes(odd: Any) -> None:
    """Whatever stands wherever in a request, the checks end in a verdict."""
    for element, how in PASSES:
        for path in places(element):
            try:
                check(replaced(element, path, odd), how)
            except InvalidMessageError as error:
                assert "messages[3]" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("block", "is_marked"),
    [
        (lambda texts: document({"type": "content", "content": texts}), False),
        (lambda texts: found(content=texts), False),
        (lambda texts: document({"type": "content", "content": texts[1:]}), True),
    ],
)
def test_mark_on_the_system_prompt_is_never_the_fifth(block: Any, is_marked: bool) -> None:
    """Marks inside of documents and search results may count as well."""
    texts = [text(str(n), cache_control={"type": "ephemeral"}) for n in range(4)]

    marked, note = with_system_mark({"system": "Be brief.", "messages": [user(block(texts))]})

    assert isinstance(marked["system"], list) is is_marked
    assert (note is None) is is_marked
