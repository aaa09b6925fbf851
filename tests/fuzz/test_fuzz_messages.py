"""Elements of ``messages``: any value is a valid request, or is refused by its number before anything is sent."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing import EXTREMES, Extreme, damaged, fuzzed, json_values, python_values, real, texts
from hypothesis import given
from hypothesis import strategies as st

from airflow_claude_batch._airflow.read_messages import iter_elements as read_elements
from airflow_claude_batch.batch.input.checks import RequestChecker
from airflow_claude_batch.batch.input.create_body import CreateBody
from airflow_claude_batch.batch.input.elements import Defaults, read_request
from airflow_claude_batch.batch.input.request_file import RequestFile
from airflow_claude_batch.batch.input.request_writer import write_requests
from airflow_claude_batch.batch.input.wrong_texts import TextCheck
from airflow_claude_batch.batch.money.pricing import PriceTable
from airflow_claude_batch.exceptions import InputError, InvalidMessageError

PRICES = PriceTable.load()
TOKEN = "0123456789ab"
VALID = {"role": "user", "content": "hello"}

blocks = st.fixed_dictionaries(
    {}, optional={"type": st.just("text") | python_values, "text": python_values, "citations": python_values}
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system"]) | python_values,
        "content": texts | st.lists(blocks | python_values, max_size=3) | python_values,
    },
)
params = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from(["claude-haiku-5-5", "claude-opus-5-5", "claude-2.1", ""]) | python_values,
        "max_tokens": st.integers(-1, 10**6) | python_values,
        "messages": st.lists(messages | st.just(VALID), max_size=3) | python_values,
        "system": texts | python_values,
        "tool_choice": st.fixed_dictionaries({"type": st.just("any") | python_values}) | python_values,
        "thinking": st.fixed_dictionaries({"type": st.just("enabled") | python_values}) | python_values,
        "output_config": st.dictionaries(st.just("format") | texts, python_values, max_size=2) | python_values,
        "temperature": python_values,
        "stream": python_values,
    },
)
elements = (
    python_values
    | messages
    | st.lists(messages, max_size=3)
    | st.fixed_dictionaries(
        {},
        optional={
            "key": python_values,
            "custom_id": python_values,
            "prompt": texts | python_values,
            "messages": st.lists(messages | st.just(VALID), max_size=3) | python_values,
            "params": params | python_values,
            "model": st.just("claude-haiku-5-5") | python_values,
            "max_tokens": st.integers() | python_values,
            "system": python_values,
        },
    )
    | st.fixed_dictionaries({"custom_id": texts | python_values, "params": params})
)
defaults = st.builds(
    Defaults,
    model=st.just("claude-haiku-5-5") | st.text(max_size=5),
    max_tokens=st.just(64) | python_values,
    system=st.none() | texts | python_values,
    params=st.just({}) | params,
    output_format=st.none() | st.just({"type": "json_schema", "schema": {}}),
)
AS_USUAL = Defaults(model="claude-haiku-5-5", max_tokens=64)


def write(given_elements: list[Any], how: Defaults, api_version: str = "2026-10-21") -> bytes:
    """Process messages as the operator does before anything is sent. Return the body of the create call."""
    given_elements = real(given_elements)
    how = replace(how, max_tokens=real(how.max_tokens), system=real(how.system), params=real(how.params))
    checker = RequestChecker(PRICES, api_version=api_version, betas=())

    def requests() -> Any:
        for index, element in enumerate(given_elements):
            request = read_request(element, index, how)
            checker.check(request)
            yield request

    with tempfile.NamedTemporaryFile() as file:
        write_requests(requests(), file)
        file.flush()
        with RequestFile(Path(file.name)) as read:
            body = CreateBody(read, range(len(read)), TOKEN)
            data = b"".join(body.chunks())
            assert len(data) == body.content_length
            return data


@fuzzed
@given(given_elements=st.lists(elements, min_size=1, max_size=3), how=defaults, old=st.booleans())
def test_any_elements_are_valid_requests_or_refused_by_number(
    given_elements: list[Any], how: Defaults, old: bool
) -> None:
    check(given_elements, how, "2023-06-01" if old else "2026-10-21")


EXTREME_PLACES: list[Callable[[Any], Any]] = [
    lambda value: value,
    lambda value: [value],
    lambda value: {"key": value, "prompt": "p"},
    lambda value: {"custom_id": value, "params": {}},
    lambda value: {"custom_id": "a", "params": value},
    lambda value: {"prompt": value},
    lambda value: {"messages": value},
    lambda value: {"messages": [value]},
    lambda value: {"role": value, "content": "p"},
    lambda value: {"role": "user", "content": value},
    lambda value: {"role": "user", "content": [value]},
    lambda value: {"role": "user", "content": [{"type": value}]},
    lambda value: {"role": "user", "content": [{"type": "text", "text": "p", "citations": value}]},
    lambda value: {"role": "user", "content": "p", "more": value},
    lambda value: {"prompt": "p", "params": value},
    *(lambda value, name=name: {"prompt": "p", name: value} for name in ("model", "max_tokens", "system")),
    *(
        lambda value, name=name: {"prompt": "p", "params": {name: value}}
        for name in ("model", "max_tokens", "messages", "temperature", "stream", "tool_choice", "thinking", "metadata")
    ),
    *(lambda value, name=name: {"prompt": "p", "params": {"output_config": {name: value}}} for name in ("format", "x")),
    lambda value: {"prompt": "p", "params": {"output_config": value}},
    lambda value: {"prompt": "p", "params": {"thinking": {"type": value}}},
    lambda value: {"prompt": "p", "params": {"tool_choice": {"type": value}}},
]


@pytest.mark.parametrize("extreme", EXTREMES)
def test_extreme_value_in_any_place_is_sent_or_refused_by_number(extreme: str) -> None:
    with_schema = replace(AS_USUAL, output_format={"type": "json_schema", "schema": {}})
    for place in EXTREME_PLACES:
        for api_version in ("2026-10-21", "2023-06-01"):
            for how in (AS_USUAL, with_schema):
                check([place(Extreme(extreme))], how, api_version)


def check(given_elements: list[Any], how: Defaults, api_version: str) -> None:
    try:
        data = write(given_elements, how, api_version)
    except InvalidMessageError as error:
        assert "messages[" in str(error)
        assert len(str(error)) < 1500
        return
    sent = json.loads(data)["requests"]
    assert len(sent) == len(given_elements)
    for request in sent:
        assert isinstance(request["params"]["model"], str)
        assert request["params"]["max_tokens"] >= 1
        assert request["params"]["messages"]


SECRET = "a very private prompt"


@fuzzed
@given(value=python_values, place=st.sampled_from(["prompt", "messages", "params", "system", "role", "content"]))
def test_no_refusal_quotes_a_prompt(value: Any, place: str) -> None:
    element = {
        "prompt": {"prompt": [SECRET, value]},
        "messages": {"messages": [{"role": "user", "content": SECRET}, value]},
        "params": {"prompt": SECRET, "params": value},
        "system": {"prompt": SECRET, "system": value},
        "role": {"role": value, "content": SECRET},
        "content": {"role": "user", "content": [{"type": "text", "text": SECRET}, value]},
    }[place]
    try:
        write([element], AS_USUAL)
    except InputError as error:
        assert SECRET not in str(error)
        assert error.__cause__ is None or SECRET not in repr(error.__cause__)


@fuzzed
@given(data=st.data())
def test_any_file_of_messages_is_read_or_refused_by_line(data: st.DataObject) -> None:
    lines = data.draw(st.lists(json_values, min_size=1, max_size=4))
    with contextlib.suppress(ValueError):
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        content = (
            data.draw(st.just(content) | st.just(b"[" * 5000) | st.binary()) if data.draw(st.booleans()) else content
        )
        content = damaged(content, data.draw) if data.draw(st.booleans()) else content
        with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
            file.write(content)
            file.flush()
            try:
                list(read_elements(file.name))
            except InputError as error:
                assert "line" in str(error)
            except ValueError as error:
                pytest.fail(repr(error))


@fuzzed
@given(value=python_values)
def test_any_value_as_messages_is_iterable_or_refused(value: Any) -> None:
    with contextlib.suppress(InputError):
        texts = TextCheck()
        for element in read_elements(real(value)):
            texts.see(element)
        texts.check()


def test_compressed_file_that_is_damaged_anywhere_is_refused() -> None:
    whole = io.BytesIO()
    with gzip.GzipFile(fileobj=whole, mode="wb", mtime=0) as file:
        file.write(b'"hello"\n' * 20)
    data = whole.getvalue()
    for place in range(len(data)):
        for broken in (data[:place], data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]):
            with tempfile.NamedTemporaryFile(suffix=".jsonl.gz") as file:
                file.write(broken)
                file.flush()
                with contextlib.suppress(InputError):
                    assert list(read_elements(file.name)) in (["hello"] * 20, [])
